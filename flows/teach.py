"""Stage `teach`: responses, signals, rewards, votes and the win table; one source in memory at a time."""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.encoders import scorer_content
from flows.fusion_systems import shard_name, shards_of
from flows.parallel import Call, device_lanes, gather
from models.errors import ParamsError, Problem
from models.params.teach import VoteParams
from models.schema import Split
from tasks.advantage import advantage, advantage_summary, scorer_quality
from tasks.artifact import Artifact, materialise_tree
from tasks.corpus import validation_prompts
from tasks.cross_entropy import cross_entropy, winner_signals
from tasks.rewards import rewards
from tasks.teacher_inference import teacher_inference
from tasks.tracking import finish_stage

_log = logging.getLogger(__name__)
_BY_VOTE = {key: VoteParams.model_fields[key].default for key in ("winner", "winner_seed")}


def teach_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/teach/{responses,signals,rewards,advantage,winners}/…, one folder per shard, and summary/.

    The sources also answer a part of the validation split (shards `valid-…`), on which the scorers are judged.
    """
    calls = TeachCalls(ctx)
    calls.each("responses", list(calls.models), calls.respond)
    calls.each("signals", list(calls.models), calls.score)
    calls.each("rewards", list(calls.scorers), calls.judge)
    quality = calls.measure_scorers()
    calls.each("advantage", ["all"], calls.compare(quality), spans=calls.train)
    calls.each("winners", list(calls.models), calls.capture, spans=calls.train)
    judged = tuple(calls.made[f"advantage/all/{span.name}"] for span in calls.train)
    summary = advantage_summary(judged, quality, tuple(calls.scorers.values()), order=tuple(calls.models))
    materialise_tree({**calls.made, "summary": summary}, ctx.out("teach"))
    for warning in summary.meta["warnings"]:
        _log.warning("%s", warning)
    finish_stage(
        ctx.run("teach"),
        output=summary.sha256,
        params={"teach.shards": len(calls.train)},
        metrics=answer_counts(calls) | winner_shares(summary) | scorer_accuracies(summary),
        files=sorted(summary.path.glob("*.json")),
    )
    for name, model in calls.models.items():
        finish_stage(ctx.run(f"source-{name}"), output=model.sha256, params={}, metrics=win_shares(summary, name))


def answer_counts(calls: "TeachCalls") -> dict[str, float]:
    """Return how much the sources answered to the training prompts."""
    metas = [calls.made[f"responses/{name}/{span.name}"].meta for name in calls.models for span in calls.train]
    keys = {
        "responses": "responses",
        "truncated_prompts": "truncated_prompts",
        "unfinished": "unfinished",
        "tokens": "response_tokens",
    }
    return {f"final/num_{metric}": float(sum(m[key] for m in metas)) for key, metric in keys.items()}


def winner_shares(summary: Artifact) -> dict[str, float]:
    """Return the share of prompts without a winner, by reason, and the share of right winners among those with a check."""
    counts = summary.meta["winners"]
    prompts = max(int(counts["prompts"]), 1)
    found = {"vote/without_winner": 1 - counts["winners"] / prompts}
    found["vote/cut_winners"] = counts["cut"] / prompts
    found |= {f"vote/without_winner_{reason}": number / prompts for reason, number in counts["without_winner"].items()}
    return found | ({"vote/right": counts["right"] / counts["checked"]} if counts["checked"] else {})


def scorer_accuracies(summary: Artifact) -> dict[str, float]:
    """Return every scorer's pairwise accuracy on the validation split as `scorer/<name>_pairwise`; checks before likeness."""
    rows = json.loads((summary.path / "scorer_quality.json").read_text(encoding="utf-8"))["scorers"]
    found: dict[str, float] = {}
    for row in rows:
        if row["accuracy"] is not None:
            found.setdefault(f"scorer/{row['scorer']}_pairwise", row["accuracy"])
            found.setdefault(f"scorer/{row['scorer']}_pairs", float(row["num_pairs"]))
    return found


def win_shares(summary: Artifact, source: str) -> dict[str, float]:
    """Return a source's row of the win table as metrics `wins/<mode>_<family>`."""
    rows = json.loads((summary.path / "win_table.json").read_text(encoding="utf-8"))
    return {f"wins/{r['mode']}_{r['family']}": float(r["share"]) for r in rows if r["source"] == source}


@dataclass(frozen=True, slots=True)
class Span:
    """A shard: examples `start` to `stop` of a split of `data`, in a folder `name`."""

    name: str
    data: Artifact
    split: Split
    start: int
    stop: int


class TeachCalls:
    """The calls of the stage over sources and shards; one source's shards follow each other, so one model is in memory."""

    def __init__(self, ctx: StageContext) -> None:
        self.ctx, self.cfg = ctx, ctx.params.teach
        self.data = ctx.input("prepare", "corpus")
        self.models = {s.name: ctx.input("sources", "models", s.name) for s in ctx.params.sources.models}
        self.scorers = {s.name: s for s in self.cfg.rewards.scorers}
        self.train = self._spans(self.data, "train")
        self.valid = self._validation()
        self.made: dict[str, Artifact] = {}

    def each(self, kind: str, names: list[str], make: Callable[[str, Span], Call], *, spans: Sequence[Span] = ()) -> None:
        """Run `make(name, shard)` for all names and shards (or those given) and keep what they made as `kind/name/shard`."""
        keys = [(name, span) for name in names for span in spans or (*self.train, *self.valid)]
        runtime = self.ctx.params.runtime
        lanes = device_lanes(runtime) if self._in_process(kind) else 1
        made = gather([make(name, span) for name, span in keys], runtime=runtime, lanes=lanes)
        self.made |= {f"{kind}/{name}/{span.name}": a for (name, span), a in zip(keys, made, strict=True)}

    def _in_process(self, kind: str) -> bool:
        """Whether models of this process do the work, which may be spread over its devices."""
        if kind == "responses":
            return self.cfg.responses.backend == "transformers"
        if kind == "rewards":
            return all(scorer.kind != "judge" for scorer in self.scorers.values())
        return kind in ("signals", "winners") and self.cfg.signals.backend == "transformers"

    def _spans(self, data: Artifact, split: Split) -> list[Span]:
        found = shards_of(int(data.meta[split]), self.cfg.shard_size)
        prefix = "" if split == "train" else f"{split}-"
        return [Span(f"{prefix}{shard_name(i)}", data, split, start, stop) for i, (start, stop) in enumerate(found)]

    def _validation(self) -> list[Span]:
        limit = min(self.cfg.rewards.validation_prompts, int(self.data.meta["valid"]))
        found = self._spans(validation_prompts(self.data, limit=limit), "valid") if limit else []
        if found:
            return found
        if self.cfg.rewards.accept == "calibrated":
            rule = "must not be `calibrated` without validation rows that have a ground truth (`corpus.valid_fraction`)"
            raise ParamsError("Invalid parameters", [Problem("`teach.rewards.accept`", rule)])
        return []

    def _common(self, span: Span) -> dict[str, Any]:
        runtime, run = self.ctx.params.runtime, self.ctx.run("teach")
        return {"data": span.data, "start": span.start, "stop": span.stop, "runtime": runtime, "run": run}

    def _of(self, kind: str, names: Iterable[str], span: Span) -> dict[str, Artifact]:
        return {name: self.made[f"{kind}/{name}/{span.name}"] for name in names}

    def respond(self, name: str, span: Span) -> Call:
        """Source `name` answers a shard."""
        overflow = self.cfg.prompt_overflow
        return teacher_inference, {
            "cfg": self.cfg.responses, "source": self.models[name], "overflow": overflow, "split": span.split,
            **self._common(span),
        }  # fmt: skip

    def score(self, name: str, span: Span) -> Call:
        """Source `name` scores ground truths and its own answers."""
        return cross_entropy, {
            "cfg": self.cfg.signals, "source": self.models[name], "overflow": self.cfg.prompt_overflow, "split": span.split,
            "responses": self.made[f"responses/{name}/{span.name}"], **self._common(span),
        }  # fmt: skip

    def judge(self, name: str, span: Span) -> Call:
        """Scorer `name` judges all answers."""
        scorer = self.scorers[name]
        model = self.ctx.input("sources", "reward_models", name) if scorer.kind == "reward_model" else None
        return rewards, {
            "scorer": scorer, "model": model, "content": scorer_content(self.ctx, scorer),
            "batch_size": self.cfg.rewards.batch_size,
            "scores": self._of("signals", self.models, span) if scorer.kind == "confidence" else {},
            "responses": self._of("responses", self.models, span), "split": span.split, **self._common(span),
        }  # fmt: skip

    def measure_scorers(self) -> Artifact | None:
        """Judge the scorers on the validation prompts; None where there are none."""
        if not self.valid:
            return None
        return scorer_quality(
            self.cfg.advantage,
            self.cfg.rewards.vote.model_copy(update=_BY_VOTE),  # the scorers are judged whoever names the winners
            self.valid[0].data,
            scorers=tuple(self.scorers.values()),
            scores=tuple(self._of("signals", self.models, span) for span in self.valid),
            rewards=tuple(self._of("rewards", self.scorers, span) for span in self.valid),
            responses=tuple(self._of("responses", self.models, span) for span in self.valid),
            shards=tuple((span.start, span.stop) for span in self.valid),
            order=tuple(self.models),
            prompts_only="train" in self.data.meta.get("prompts_only", {}),
        )

    def compare(self, quality: Artifact | None) -> Callable[[str, Span], Call]:
        """Return the call that finds the winners of a shard."""
        # What was measured of the scorers decides a winner only where the gate is calibrated on it.
        calibration = quality if self.cfg.rewards.accept == "calibrated" else None
        answers = self.ctx.input("prepare", "answers") if self.cfg.rewards.winner == "oracle" else None

        def call(_: str, span: Span) -> Call:
            return advantage, {
                "cfg": self.cfg.advantage, "rules": self.cfg.rewards.vote, "data": span.data, "calibration": calibration,
                "scores": self._of("signals", self.models, span), "rewards": self._of("rewards", self.scorers, span),
                "responses": self._of("responses", self.models, span), "order": tuple(self.models),
                "start": span.start, "stop": span.stop, "answers": answers,
            }  # fmt: skip

        return call

    def capture(self, name: str, span: Span) -> Call:
        """Source `name` gives its distributions over its winning answers."""
        return winner_signals, {
            "cfg": self.cfg.signals, "source": self.models[name], "overflow": self.cfg.prompt_overflow,
            "responses": self.made[f"responses/{name}/{span.name}"],
            "advantage": self.made[f"advantage/all/{span.name}"], **self._common(span),
        }  # fmt: skip


@flow(name="teach")
def teach(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Ask the sources of a profile."""
    teach_stage(StageContext.load(profile=profile, overrides=overrides or ()))
