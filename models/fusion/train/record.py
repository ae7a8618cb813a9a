"""The record of a fusion training: settings and outcome, the same for an interrupted and an uninterrupted run."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.fusion.exposure import Exposure
from models.fusion.schedule import ResolvedPhase, StepPlan, learning_rates
from models.fusion.train.prompt_signals import ModeCounts, PairedSignals
from models.params.fusion import Budget, FusionParams, Normalise
from models.records import from_row, to_row
from models.training.checkpoints import write_json

RECORD = "record.json"
# They change when state is kept, which other targets exist, or how a step is cut up, never what is computed.
_NOT_IN_FINGERPRINT = {"checkpoints", "targets", "micro_batch_size"}


def fingerprint(cfg: FusionParams, *, method: str, target_digest: str, store_digests: Sequence[str]) -> str:
    """Return the sha256 over everything that decides the result of a training; checkpoints of another one are not resumed.

    Args:
        cfg: The section `fusion`.
        method: Preset, or name of a schedule.
        target_digest: `ResolvedSource.digest` of the target.
        store_digests: `tree_digest` of the ground-truth store and of the response store.
    """
    row = {
        "cfg": cfg.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT),
        "method": method,
        "target": target_digest,
        "stores": list(store_digests),
    }
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """One phase: steps `first_step` to `last_step` (counted from 1), its weights, and the folder of the model after it.

    Attributes:
        lr: Peak learning rate, as run: under `budget: ground_truth` it may have been scaled.
        infer_tokens: Response tokens trained, end tokens included, those with weight 0 excluded.
        train_tokens: The same for ground-truth tokens.
        token_weight: Weight of a response token relative to a ground-truth token of this phase; None unless both are trained.
    """

    number: int
    first_step: int
    last_step: int
    w_infer: float
    w_train: float
    weights: str
    beta: float
    lr: float
    model: str
    infer_tokens: int
    train_tokens: int
    token_weight: float | None


@dataclass(frozen=True, slots=True)
class FusionRecord:
    """The record of one training.

    Attributes:
        method: Preset, or name of a schedule.
        target: Name of the target.
        result: Name of the fused model as a source.
        digest: Digest of its config and weights.
        num_prompts: Prompts of one epoch.
        batch_size: Prompts per optimiser step.
        total_steps: Optimiser steps.
        budget: `fusion.budget`.
        normalise: `fusion.normalise`.
        phases: The schedule as run.
        exposure: Passes and learning rates spent on each mode.
        infer_tokens: Response tokens trained over the whole schedule, end tokens included.
        train_tokens: The same for ground-truth tokens.
        response: Counts of the response store, missing samples included.
        ground_truth: Counts of the ground-truth store, likewise.
        final: Losses and gradient norm of the last report.
    """

    method: str
    target: str
    result: str
    digest: str
    num_prompts: int
    batch_size: int
    total_steps: int
    budget: Budget
    normalise: Normalise
    phases: tuple[PhaseRecord, ...]
    exposure: Exposure
    infer_tokens: int
    train_tokens: int
    response: ModeCounts
    ground_truth: ModeCounts
    final: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**to_row(self), "exposure": self.exposure.to_json()}

    def write(self, folder: Path) -> None:
        """Write `record.json` into a folder."""
        write_json(folder / RECORD, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> "FusionRecord":
        """Return the record of a folder's `record.json`."""
        return from_row(cls, json.loads((folder / RECORD).read_text(encoding="utf-8")))


def phase_records(plan: StepPlan, signals: PairedSignals, cfg: FusionParams) -> tuple[PhaseRecord, ...]:
    """Describe the phases of a plan, with the tokens that its steps train on."""
    peaks, last = learning_rates(plan, cfg).peaks, len(plan.schedule)
    records = []
    for number, (phase, (start, stop)) in enumerate(zip(plan.schedule, pairwise(plan.boundaries), strict=True), start=1):
        infer, train = _tokens_trained(signals, plan, range(start, stop), seed=cfg.seed)
        records.append(
            PhaseRecord(
                number=number,
                first_step=start + 1,
                last_step=stop,
                w_infer=phase.w_infer,
                w_train=phase.w_train,
                weights=phase.weights,
                beta=phase.beta,
                lr=peaks[number - 1],
                model="model" if number == last else f"phase-{number}",
                infer_tokens=infer,
                train_tokens=train,
                token_weight=token_weight(phase, infer_tokens=infer, train_tokens=train, normalise=cfg.normalise),
            )
        )
    return tuple(records)


def token_weight(phase: ResolvedPhase, *, infer_tokens: int, train_tokens: int, normalise: Normalise) -> float | None:
    """Return the weight of a response token relative to a ground-truth token of the same phase; None unless it trains both.

    Under `mode` each term is divided by its own tokens: w_infer / n_infer over w_train / n_train, so that the fewer tokens
    a mode has, the more each of them weighs. Under `tokens` it is w_infer / w_train.
    """
    if not (phase.w_infer and phase.w_train and infer_tokens and train_tokens):
        return None
    longer = train_tokens / infer_tokens if normalise == "mode" else 1.0
    return phase.w_infer / phase.w_train * longer


def _tokens_trained(signals: PairedSignals, plan: StepPlan, steps: range, *, seed: int) -> tuple[int, int]:
    """Return the response and the ground-truth tokens that steps of a plan train on, those with weight 0 left out."""
    infer = train = 0
    for step in steps:
        weights = plan.weights_at(step)
        infer += int(signals.infer.num_tokens[plan.winners_at(step, seed=seed)].sum()) if weights.w_infer > 0 else 0
        train += int(signals.train.num_tokens[plan.order_at(step, seed=seed)].sum()) if weights.w_train > 0 else 0
    return infer, train
