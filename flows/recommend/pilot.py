"""The pilot: a part of a profile's training prompts, what is known of it, and the plan of its candidates."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.ablation.plan_file import LoadedPlan, read_plan
from flows.context import StageContext
from flows.params.file import load_params
from flows.params.yaml_tree import parse_yaml
from flows.recommend.candidates import Candidate, Facts
from models.corpus.examples import answers_by_prompt, read_examples
from models.errors import ParamsError, Problem
from models.files import write_atomic
from models.params.corpus import CorpusParams
from models.params.root import Params
from tasks.artifact import Artifact

REGIME = "pilot"
BUDGET = "fusion.budget"
_EXECUTION = ("runtime", "tracking")
# The smallest training split of the embedded world.
_FEWEST = 12
# What the plan decides, or the dialogue half alone.
_NOT_IN_PLAN = ("profile", "methods", "variants", "dialogue_evaluation")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user has asked for.

    Attributes:
        root: Project folder.
        profile: The profile.
        overrides: `-S` texts.
        limit: Most training prompts of the pilot.
        rates: Learning rates to choose from; empty = half, once and twice that of the profile.
    """

    root: Path
    profile: str
    overrides: tuple[str, ...]
    limit: int
    rates: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Name of the plan."""
        return f"recommend-{re.sub(r'[^a-z0-9]+', '-', self.profile.lower()).strip('-')}"[:40].rstrip("-")

    @property
    def execution(self) -> tuple[str, ...]:
        """The overrides that decide no result."""
        return tuple(text for text in self.overrides if text.partition(".")[0] in _EXECUTION)

    @property
    def settings(self) -> dict[str, Any]:
        """The overrides that decide results, of the fusion half: dotted key → value."""
        given = {}
        for text in self.overrides:
            key, _, value = text.partition("=")
            if re.split(r"[.\[]", key.strip(), maxsplit=1)[0] not in (*_EXECUTION, *_NOT_IN_PLAN):
                given[key.strip()] = parse_yaml(value, f"`-S {text}`", lines=False).plain()
        return given

    def context(self, place: str, settings: Mapping[str, Any] | None = None, *, experiment: str = "") -> StageContext:
        """Return the params with more settings; outputs go to a folder of the recommendation, never to the profile's own.

        Raises:
            ParamsError: They are not valid.
        """
        more = [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
        ablation = f"ablation-{self.name}"
        return StageContext.load(
            profile=self.profile,
            overrides=[*self.overrides, *more],
            place=f"{ablation}/{place}",
            experiment=experiment or f"{ablation}-stages",
        )


def asked(root: Path, *, profile: str | None, overrides: Sequence[str], limit: int, rates: Sequence[float]) -> Asked:
    """Check what a user has asked for; the profile is that of params.yaml where none is named.

    Raises:
        ParamsError: The params are not valid.
    """
    params = load_params(root, profile=profile, overrides=overrides).params
    return Asked(root, params.profile, tuple(overrides), limit, tuple(rates))


def pilot_settings(cfg: CorpusParams, *, num_train: int, num_prompts_only: int, limit: int) -> dict[str, Any]:
    """Return what cuts the training prompts to `limit`, in their proportion of rows with and without a ground truth.

    Validation rows stay. Where there are no more prompts than `limit`, nothing is cut.

    Args:
        cfg: Section `corpus`.
        num_train: Training prompts of the whole data.
        num_prompts_only: Those of them without a ground truth.
        limit: Most training prompts of the pilot.
    """
    if num_train <= limit:
        return {}
    if cfg.kind == "files":
        return {"corpus.train_limit": limit}
    alone = round(limit * num_prompts_only / num_train)
    return {"corpus.world.num_train": max(limit - alone, _FEWEST), "corpus.world.num_prompts_only": alone}


def split_sizes(ctx: StageContext) -> tuple[int, int, int]:
    """Return the training prompts, those of them without a ground truth, and the validation rows of a prepared corpus.

    Raises:
        ParamsError: There are no validation rows, on which candidates are compared.
    """
    meta = ctx.input("prepare", "corpus").meta
    if not int(meta["valid"]):
        key, hint = (
            "`corpus.valid_fraction`",
            "The test split is not touched, so rows of its own are needed to compare candidates.",
        )
        raise ParamsError("Nothing to compare on", [Problem(key, "must leave validation rows", "no row", hint)])
    return int(meta["train"]), int(meta.get("prompts_only", {}).get("train", 0)), int(meta["valid"])


def read_facts(ctx: StageContext) -> Facts:
    """Return what is known of a pilot whose sources have answered and voted."""
    num_train, alone, _ = split_sizes(ctx)
    summary = ctx.input("teach", "summary").path
    winners = json.loads((summary / "winners.json").read_text(encoding="utf-8"))
    agreement = json.loads((summary / "agreement.json").read_text(encoding="utf-8"))["overall"]
    answers = [a for place, a in ctx.inputs("teach", "responses").items() if "/valid-" not in f"/{place}"]
    return Facts(
        num_sources=len(ctx.params.sources.models),
        num_truths=num_train - alone,
        num_prompts_only=alone,
        num_winners=int(winners["winners"]),
        agreement=agreement["share"],
        num_checked=int(winners["checked"]),
        num_right=int(winners["right"]),
        chance=winners["expected"] / winners["checked_prompts"] if winners["checked_prompts"] else None,
        length_ratio=_length_ratio(ctx.input("prepare", "corpus").path / "train.jsonl", answers),
    )


def _length_ratio(train: Path, answers: Sequence[Artifact]) -> float | None:
    truths = {e.id: len(e.response.encode()) for e in read_examples(train) if e.response is not None}
    told = answers_by_prompt(a.path for a in answers)
    lengths = [len(response.text.encode()) for name in truths for response in told.get(name, ())]
    if not truths or not sum(lengths):
        return None
    return (sum(truths.values()) / len(truths)) / (sum(lengths) / len(lengths))


def choosing_figure(ctx: StageContext) -> str:
    """Return the figure by which learning rates are chosen on the validation split: see `choose_by`; empty without any."""
    rows = list(read_examples(ctx.input("prepare", "corpus").path / "valid.jsonl"))
    answers, scorers = ctx.params.evaluation.answers, ctx.params.teach.rewards.scorers
    if answers and any(row.check != "none" for row in rows):
        return "accuracy"
    if answers and any(s.grades and not s.sees_truth for s in scorers):
        return "reward"
    return "bits_per_byte" if any(row.response is not None for row in rows) else ""


def write_plan(
    wanted: Asked, params: Params, candidates: Sequence[Candidate], *, pilot: Mapping[str, Any], choose_by: str
) -> LoadedPlan:
    """Write the plan of the candidates to the folder of the recommendation, and read it as `run ablation` would.

    Args:
        wanted: What was asked for.
        params: Params of the profile.
        candidates: Its arms.
        pilot: What cuts the training prompts.
        choose_by: Figure by which learning rates are chosen; empty: nothing tells them apart, and the profile's is taken.

    Raises:
        ParamsError: A candidate cannot have these params.
    """
    rate = params.fusion.lr
    rates = wanted.rates or (rate / 2, rate, 2 * rate)
    plan = {
        "name": wanted.name,
        "seeds": [params.fusion.seed],
        "vary": ["fusion.seed"],
        "set": {BUDGET: "ground_truth", **wanted.settings, "fusion.targets": [params.fusion.targets[0]], **pilot},
        "grid": {"fusion.lr": list(rates)} if choose_by else {},
        "regimes": {REGIME: {"profile": wanted.profile}},
        "arms": {c.name: {"method": c.method, "set": dict(c.settings)} for c in candidates},
        "choose_by": choose_by or "accuracy",
    }
    place = wanted.root / "artifacts" / f"ablation-{wanted.name}" / "plan.yaml"
    place.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML: every value is quoted as it must be.
    write_atomic(place, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")
    return read_plan(wanted.root, place, execution=wanted.execution)
