"""Stage `teach`: responses, signals, rewards, votes and the win table; one source in memory at a time."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.parallel import Call, gather
from flows.shards import shard_name, shards_of
from tasks.advantage import advantage, advantage_summary
from tasks.artifact import Artifact, materialise_tree
from tasks.cross_entropy import cross_entropy, winner_signals
from tasks.rewards import rewards
from tasks.teacher_inference import teacher_inference
from tasks.tracking import finish_stage


def teach_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/teach/{responses,signals,rewards,advantage,winners}/…, one folder per shard, and summary/."""
    lesson = Lesson(ctx)
    lesson.each("responses", list(lesson.models), lesson.respond)
    lesson.each("signals", list(lesson.models), lesson.score)
    lesson.each("rewards", list(lesson.scorers), lesson.judge)
    lesson.each("advantage", ["all"], lesson.compare)
    lesson.each("winners", list(lesson.models), lesson.capture)
    judged = tuple(lesson.made[f"advantage/all/{shard_name(i)}"] for i in range(len(lesson.shards)))
    summary = advantage_summary(judged, order=tuple(lesson.models))
    materialise_tree({**lesson.made, "summary": summary}, ctx.out("teach"))
    told = [a.meta for name, a in lesson.made.items() if name.startswith("responses/")]
    judged_by = [a.meta for name, a in lesson.made.items() if name.startswith("rewards/")]
    finish_stage(
        ctx.run("teach"),
        output=summary.sha256,
        params={"teach.shards": len(lesson.shards)},
        metrics={
            "final/num_responses": float(sum(m["responses"] for m in told)),
            "final/num_cut_responses": float(sum(m["unfinished"] for m in told)),
            "final/num_truncated_prompts": float(sum(m["truncated_prompts"] for m in told)),
            "final/num_response_tokens": float(sum(m["tokens"] for m in told)),
            "final/num_without_answer": float(sum(sum(m["problems"].values()) for m in told)),
            "final/num_ungraded": float(sum(m["ungraded"] for m in judged_by)),
        },
        files=sorted(summary.path.glob("*.json")),
    )
    for name, model in lesson.models.items():
        finish_stage(ctx.run(f"source-{name}"), output=model.sha256, params={}, metrics=win_shares(summary, name))


def win_shares(summary: Artifact, source: str) -> dict[str, float]:
    """Return a source's row of the win table as metrics `wins/<mode>_<family>`."""
    rows = json.loads((summary.path / "win_table.json").read_text(encoding="utf-8"))
    return {f"wins/{r['mode']}_{r['family']}": float(r["share"]) for r in rows if r["source"] == source}


class Lesson:
    """The calls of the stage over sources and shards; one source's shards follow each other, so one model is in memory."""

    def __init__(self, ctx: StageContext) -> None:
        self.ctx, self.cfg = ctx, ctx.params.teach
        self.data = ctx.input("prepare", "corpus")
        self.models = {s.name: ctx.input("sources", "models", s.name) for s in ctx.params.sources.models}
        self.scorers = {s.name: s for s in self.cfg.rewards.scorers}
        self.shards = shards_of(int(self.data.meta["train"]), self.cfg.shard_size)
        self.made: dict[str, Artifact] = {}

    def each(self, kind: str, names: list[str], make: Callable[[str, int], Call]) -> None:
        """Run `make(name, shard)` for all names and shards and keep what they made as `kind/name/shard`."""
        keys = [(name, index) for name in names for index in range(len(self.shards))]
        made = gather([make(name, index) for name, index in keys], runtime=self.ctx.params.runtime)
        self.made |= {f"{kind}/{name}/{shard_name(index)}": a for (name, index), a in zip(keys, made, strict=True)}

    def _common(self, index: int) -> dict[str, Any]:
        start, stop = self.shards[index]
        runtime, run = self.ctx.params.runtime, self.ctx.run("teach")
        return {"data": self.data, "start": start, "stop": stop, "runtime": runtime, "run": run}

    def _of(self, kind: str, names: Iterable[str], index: int) -> dict[str, Artifact]:
        return {name: self.made[f"{kind}/{name}/{shard_name(index)}"] for name in names}

    def respond(self, name: str, index: int) -> Call:
        """Source `name` answers a shard."""
        overflow = self.cfg.prompt_overflow
        return teacher_inference, {
            "cfg": self.cfg.responses, "source": self.models[name], "overflow": overflow, **self._common(index),
        }  # fmt: skip

    def score(self, name: str, index: int) -> Call:
        """Source `name` scores ground truths and its own answers."""
        return cross_entropy, {
            "cfg": self.cfg.signals, "source": self.models[name], "overflow": self.cfg.prompt_overflow,
            "responses": self.made[f"responses/{name}/{shard_name(index)}"], **self._common(index),
        }  # fmt: skip

    def judge(self, name: str, index: int) -> Call:
        """Scorer `name` judges all answers."""
        scorer = self.scorers[name]
        model = self.ctx.input("sources", "reward_models", name) if scorer.kind == "reward_model" else None
        return rewards, {
            "cfg": self.cfg.rewards, "scorer": scorer, "model": model,
            "responses": self._of("responses", self.models, index), **self._common(index),
        }  # fmt: skip

    def compare(self, _: str, index: int) -> Call:
        """Find the winners of a shard."""
        start, stop = self.shards[index]
        return advantage, {
            "cfg": self.cfg.advantage, "data": self.data, "order": tuple(self.models), "start": start, "stop": stop,
            "scores": self._of("signals", self.models, index), "rewards": self._of("rewards", self.scorers, index),
        }  # fmt: skip

    def capture(self, name: str, index: int) -> Call:
        """Source `name` gives its distributions over its winning answers."""
        return winner_signals, {
            "cfg": self.cfg.signals, "source": self.models[name], "overflow": self.cfg.prompt_overflow,
            "responses": self.made[f"responses/{name}/{shard_name(index)}"],
            "advantage": self.made[f"advantage/all/{shard_name(index)}"], **self._common(index),
        }  # fmt: skip


@flow(name="teach")
def teach(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Ask the sources of a profile."""
    teach_stage(StageContext.load(profile=profile, overrides=overrides or ()))
