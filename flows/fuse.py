"""Stage `fuse@method`: align the winners' distributions to each target, then train it with one method."""

from collections.abc import Mapping
from typing import Any

from prefect import flow

from flows.context import StageContext
from flows.fusion_systems import run_name, shard_name, shards_of
from flows.parallel import Call, gather
from models.fusion.schedule import resolve_schedule
from models.params.fusion import CheckpointParams
from tasks.alignment import alignment, vocabulary_map
from tasks.artifact import Artifact, materialise_tree
from tasks.fusion import Checkpoints, fusion
from tasks.model_logging import log_model
from tasks.tracking import finish_stage


def fuse_stage(ctx: StageContext, *, method: str) -> None:
    """Write artifacts/<profile>/fuse/<method>/<target>: the model of each phase and the final one."""
    resolve_schedule(method, ctx.params.fusion)  # refused before anything is aligned
    made: dict[str, Artifact] = {}
    for target in ctx.params.fusion.targets:
        shards = aligned_shards(ctx, target)
        run = ctx.run(run_name(ctx, method, target))
        # What does not decide the weights stays out of the identity: other targets, other schedules, when checkpoints are taken.
        own = ctx.params.fusion.for_method(method)
        cfg = own.model_copy(update={"targets": (target,), "checkpoints": CheckpointParams()})
        made[target] = fusion(
            cfg,
            ctx.input("sources", "models", target),
            tuple(shards),
            method=method,
            checkpoints=Checkpoints(ctx.params.fusion.checkpoints),
            runtime=ctx.params.runtime,
            run=run,
        )
        run_id = finish_stage(
            run,
            output=made[target].sha256,
            params=schedule_params(made[target].meta),
            metrics={
                "teach/aligned_share": _share(shards, "num_aligned", of="num_positions"),
                "teach/cut_share": _share(shards, "num_cut", of="num_texts"),
                **exposure_metrics(made[target].meta),
            },
            history=made[target].path / "history.jsonl",
        )
        if ctx.params.tracking.log_models:
            log_model(run_id, made[target].path / "model", tracking=ctx.params.tracking, name=f"{method}-{target}")
    materialise_tree(made, ctx.out("fuse", method))


def aligned_shards(ctx: StageContext, target: str) -> list[Artifact]:
    """Return the aligned signals of every shard; methods share them through the cache."""
    data = ctx.input("prepare", "corpus")
    names = [s.name for s in ctx.params.sources.models]
    models = {name: ctx.input("sources", "models", name) for name in names}
    taught = ctx.inputs("teach")
    maps = {n: vocabulary_map(ctx.params.alignment.for_map, models[n], models[target]) for n in names}
    shared = {
        "cfg": ctx.params.alignment,
        "data": data,
        "target": models[target],
        "sources": models,
        "maps": maps,
        "max_length": ctx.params.fusion.max_length,
    }
    calls: list[Call] = []
    for index, (start, stop) in enumerate(shards_of(int(data.meta["train"]), ctx.params.teach.shard_size)):
        shard = shard_name(index)
        of_sources = {
            argument: {name: taught[f"{kind}/{name}/{shard}"] for name in names}
            for argument, kind in (("truths", "signals"), ("answers", "winners"), ("responses", "responses"))
        }
        winners = taught[f"advantage/all/{shard}"]
        calls.append((alignment, {**shared, **of_sources, "advantage": winners, "start": start, "stop": stop}))
    return gather(calls, runtime=ctx.params.runtime)


def schedule_params(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells methods apart, as numbers: the compare page of the MLflow UI draws them next to the scores.

    (Everything else that was set stands on the parent run.)
    """
    params: dict[str, Any] = {"method": record["method"], "target": record["target"], "steps": record["total_steps"]}
    params |= {"budget": record["budget"], "normalise": record["normalise"]}
    for phase in record["phases"]:
        params |= {f"phase{phase['number']}.{key}": phase[key] for key in ("w_infer", "w_train", "beta", "lr")}
    return params


def exposure_metrics(record: Mapping[str, Any]) -> dict[str, float]:
    """Return what a training spent on each mode, as `exposure/…`: whether two methods may be compared."""
    exposure = record["exposure"]
    found = {f"exposure/{mode}_{key}": float(v) for mode in ("ground_truth", "winners") for key, v in exposure[mode].items()}
    weights = {f"exposure/phase{p['number']}_token_weight": p["token_weight"] for p in record["phases"]}
    found |= {name: float(weight) for name, weight in weights.items() if weight is not None}
    found |= {"exposure/prompts_only": float(exposure["prompts_only"])} if exposure.get("prompts_only") else {}
    return {"exposure/extra_steps": float(exposure["extra_steps"]), **found}


def _share(shards: list[Artifact], part: str, *, of: str) -> float:
    """Return a count of the alignment as a share, both modes together."""
    modes = [counts for shard in shards for counts in shard.meta.values()]
    return sum(int(m.get(part, 0)) for m in modes) / max(sum(int(m.get(of, 0)) for m in modes), 1)


@flow(name="fuse")
def fuse(method: str = "profuser", profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Fuse the sources of a profile with one method."""
    fuse_stage(StageContext.load(profile=profile, overrides=overrides or ()), method=method)
