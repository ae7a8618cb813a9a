"""What a fusion training was and came to; the same for an interrupted and an uninterrupted run."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.fusion.schedule import StepPlan
from models.training.checkpoints import write_json
from models.training.prompt_signals import ModeCounts, PairedSignals

RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """One phase: steps `first_step` to `last_step` (counted from 1), its weights, and the folder of the model after it."""

    number: int
    first_step: int
    last_step: int
    w_infer: float
    w_train: float
    weights: str
    beta: float
    lr: float
    model: str


@dataclass(frozen=True, slots=True)
class FusionRecord:
    """The record of one training.

    Attributes:
        method: Preset, or `custom`.
        target: Name of the target.
        result: Name of the fused model as a source.
        digest: Digest of its config and weights.
        num_prompts: Prompts of one epoch.
        batch_size: Prompts per optimiser step.
        total_steps: Optimiser steps.
        phases: The schedule as run.
        infer_tokens: Response tokens trained over the whole schedule, end tokens included.
        train_tokens: Ground-truth tokens, likewise.
        response: What the response store held, and lacked.
        ground_truth: What the ground-truth store held, and lacked.
        final: Losses and gradient norm of the last report.
    """

    method: str
    target: str
    result: str
    digest: str
    num_prompts: int
    batch_size: int
    total_steps: int
    phases: tuple[PhaseRecord, ...]
    infer_tokens: int
    train_tokens: int
    response: ModeCounts
    ground_truth: ModeCounts
    final: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "phases": [asdict(phase) for phase in self.phases], "final": dict(self.final)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "FusionRecord":
        """Build from `to_json` output."""
        return cls(
            **{
                **row,
                "phases": tuple(PhaseRecord(**phase) for phase in row["phases"]),
                "response": ModeCounts(**row["response"]),
                "ground_truth": ModeCounts(**row["ground_truth"]),
            }
        )

    def write(self, folder: Path) -> None:
        """Write `record.json`."""
        write_json(folder / RECORD, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> "FusionRecord":
        """Read `record.json`."""
        return cls.from_json(json.loads((folder / RECORD).read_text(encoding="utf-8")))


def phase_records(plan: StepPlan) -> tuple[PhaseRecord, ...]:
    """Describe the phases of a plan."""
    last = len(plan.schedule)
    return tuple(
        PhaseRecord(
            number=number,
            first_step=plan.boundaries[number - 1] + 1,
            last_step=plan.boundaries[number],
            w_infer=phase.w_infer,
            w_train=phase.w_train,
            weights=phase.weights,
            beta=phase.beta,
            lr=phase.lr,
            model="model" if number == last else f"phase-{number}",
        )
        for number, phase in enumerate(plan.schedule, start=1)
    )


def tokens_trained(signals: PairedSignals, plan: StepPlan, *, seed: int) -> tuple[int, int]:
    """Return the response and the ground-truth tokens that all steps of a plan train on, those with weight 0 left out."""
    infer = train = 0
    for step in range(plan.total_steps):
        weights, prompts = plan.weights_at(step), plan.order_at(step, seed=seed)
        infer += int(signals.infer.num_tokens[prompts].sum()) if weights.w_infer > 0 else 0
        train += int(signals.train.num_tokens[prompts].sum()) if weights.w_train > 0 else 0
    return infer, train
