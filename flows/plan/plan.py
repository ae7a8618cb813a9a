"""`plan`: for each stage whether it would run and why, and what it needs in memory, disk and computation."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.context import StageContext
from flows.made_sources import unmade_sources
from flows.parallel import device_lanes
from flows.plan.benchmark_sizes import benchmark_sizes
from flows.plan.dialogue_sizes import dialogue_estimates, uncounted
from flows.plan.fusion_sizes import bytes_per_token, corpus_size, cut_warnings, model_sizes, pretrain_tokens, reward_sizes
from flows.plan.prompt_kinds import pools_of, prompt_lines, prompt_warnings
from flows.stage_record import Change, changes
from flows.stages import HALVES, STAGES, Half, Stage
from models.fusion.exposure import exposure
from models.fusion.schedule import plan_steps, resolve_schedule
from models.lm.gguf.find import names_gguf
from models.params.runtime import Planning, Runtime
from models.params.teach import even_voters
from models.planning.benchmark_estimate import estimate_benchmark
from models.planning.fusion_estimate import estimate_stages
from models.planning.stage_estimate import StageEstimate

SHOWN_CHANGES = 4


def planned(ctx: StageContext, *, halves: tuple[Half, ...] = HALVES) -> Iterator[tuple[Stage, str, list[Change], list[str]]]:
    """Yield stage, entry of its matrix, its own changes, and the upstream stages that would run before it."""
    running: set[str] = set()
    for stage in (s for s in STAGES if set(s.halves) & set(halves)):
        for method in getattr(ctx.params, stage.matrix) if stage.matrix else ("",):
            upstream = [name for name in stage.upstream if name in running]
            part = halves[0] if len(halves) == 1 and len(stage.halves) > 1 else method
            own = changes(ctx, stage, item=part)
            yield stage, method, own, upstream
            if own or upstream:
                running.add(stage.name)


def print_plan(ctx: StageContext, out: Console, *, halves: tuple[Half, ...] = HALVES) -> None:
    """Print the plan and the estimates."""
    table = Table("stage", "would run", "because", title=f"profile {ctx.params.profile}", title_justify="left")
    for stage, method, own, upstream in planned(ctx, halves=halves):
        name = f"{stage.name}@{method}" if method else stage.name
        verdict = "[yellow]yes[/]" if own else ("[yellow]if inputs change[/]" if upstream else "[green]no[/]")
        table.add_row(name, verdict, escape(_reasons(own, upstream)))
    out.print(table)
    known: list[StageEstimate] = []
    for half in halves:
        found = dialogue_estimates(ctx) if half == "dialogue" else _fusion_estimates(ctx)
        if isinstance(found, tuple):
            known += found
        else:
            what = ", ".join(f"the size of {name}" for name in found)
            out.print(f"no estimates for the {half} half: {what} cannot be read here (nothing is downloaded for a plan).")
    if known:
        out.print(_needs(known, ctx))
        for line in judged(known):
            out.print(line)
    if "fusion" in halves:
        for line in (*prompt_lines(ctx), *extra_steps(ctx)):
            out.print(line)
        for line in (*unknown_benchmarks(ctx), *one_source(ctx), *unmade_sources(ctx.params, root=ctx.root)):
            out.print(line, markup=False, soft_wrap=True)
        for line in (*cut_warnings(ctx), *prompt_warnings(ctx), *even_voters(ctx.params.teach.rewards.scorers)):
            out.print(f"[yellow]warning:[/] {escape(line)}")
    if "dialogue" in halves and (left := uncounted(ctx)):
        out.print(f"evaluate_dialogue is estimated without {', '.join(left)}, of unknown size.")


def judged(known: Sequence[StageEstimate]) -> list[str]:
    """Return a line per stage that asks judges behind endpoints."""
    return [
        f"{e.stage} asks judges {e.judging.calls:,} times (answers × judges): about {e.judging.sent_tokens:,} tokens sent, "
        f"at most {e.judging.reply_tokens:,} in replies; replies without a grade are asked for again, up to twice."
        for e in known
        if e.judging is not None
    ]


def unknown_benchmarks(ctx: StageContext) -> list[str]:
    """Return a line that names the benchmarks that the estimate leaves out, if it leaves out any."""
    _, unknown = benchmark_sizes(ctx)
    return [f"benchmark is estimated without {', '.join(unknown)}, of unknown size."] if unknown else []


def one_source(ctx: StageContext) -> list[str]:
    """Return a line where there is one source alone."""
    models = ctx.params.sources.models
    if len(models) > 1:
        return []
    return [f"`sources.models` has {models[0].name} alone: nothing is fused. `sft` trains it on the ground truth."]


def extra_steps(ctx: StageContext) -> list[str]:
    """Return a line per method that takes steps on winning answers alone on top of the ground truth's (`fusion.budget`)."""
    corpus, cfg, lines = corpus_size(ctx), ctx.params.fusion, []
    if corpus is None or not corpus.num_truths or cfg.budget != "ground_truth":
        return []
    for method in ctx.params.methods:
        schedule = resolve_schedule(method, cfg)
        plan = plan_steps(schedule, pools=pools_of(corpus), batch_size=cfg.batch_size, budget=cfg.budget)
        seen = exposure(plan, cfg)
        if seen.extra_steps:
            rest = plan.total_steps - seen.extra_steps
            lines.append(
                f"fuse@{method}: {seen.extra_steps:,} steps on winning answers alone, on top of {rest:,} with ground truth."
            )
    return lines


def estimates(ctx: StageContext, half: Half) -> tuple[StageEstimate, ...]:
    """Return the estimates of a half; none where sizes cannot be read here."""
    found = dialogue_estimates(ctx) if half == "dialogue" else _fusion_estimates(ctx)
    return found if isinstance(found, tuple) else ()


def _fusion_estimates(ctx: StageContext) -> tuple[StageEstimate, ...] | list[str]:
    """Return the estimates of the fusion half; or, as a list, what they need but cannot be read here."""
    sizes, unknown = model_sizes(ctx)
    corpus = corpus_size(ctx)
    if unknown or corpus is None:
        return unknown + ([] if corpus else ["the corpus"])
    stages = estimate_stages(
        sizes,
        corpus,
        teach=ctx.params.teach,
        fusion=ctx.params.fusion,
        evaluation=ctx.params.evaluation,
        methods=ctx.params.methods,
        reward_models=reward_sizes(ctx),
        pretrain_tokens=pretrain_tokens(ctx),
        in_place=used_in_place(ctx),
        unpacked=[s.name for s in ctx.params.sources.models if names_gguf(s, root=ctx.root)],
        processes=ctx.params.runtime.nproc,
        fsdp=ctx.params.runtime.fsdp,
        on_cpu=on_cpu(ctx.params.runtime.device),
    )
    known, _ = benchmark_sizes(ctx)
    if not known:
        return stages
    # An untrained target is the same step as the source of its name.
    systems = [*sizes.values(), *(sizes[name] for name in ctx.params.fusion.targets for _ in ctx.params.methods)]
    batch_size, per_token = ctx.params.benchmark.batch_size, bytes_per_token(ctx)
    return (*stages, estimate_benchmark(systems, known, batch_size=batch_size, bytes_per_token=per_token))


def used_in_place(ctx: StageContext) -> list[str]:
    """Return the sources whose folders are used in place: neither trained nor unpacked here."""
    models = ctx.params.sources.models
    return [s.name for s in models if s.pico is None and (ctx.root / s.model).is_dir() and not names_gguf(s, root=ctx.root)]


def on_cpu(device: str) -> bool:
    """Say whether models run on the processor; `auto` does where there is no accelerator here."""
    if device != "auto":
        return device == "cpu"
    import torch

    return not torch.accelerator.is_available()


def _reasons(own: list[Change], upstream: list[str]) -> str:
    lines = [str(c) for c in own[:SHOWN_CHANGES]]
    if len(own) > SHOWN_CHANGES:
        lines.append(f"… and {len(own) - SHOWN_CHANGES} more")
    if upstream:
        lines.append(f"after {', '.join(upstream)}")
    return "\n".join(lines)


def _needs(estimates: Sequence[StageEstimate], ctx: StageContext) -> Table:
    import shutil

    free = shutil.disk_usage(ctx.root).free
    runtime, planning = ctx.params.runtime, ctx.params.planning
    columns = ("stage", "disk", "host memory", "device memory", "compute", "time")
    table = Table(*columns, title=f"needs (free disk {size(free)})", title_justify="left")
    for e in estimates:
        taken = planned_seconds(e, runtime=runtime, planning=planning)
        needs = (size(e.disk_bytes), size(e.host_bytes), size(e.device_bytes))
        table.add_row(e.stage, *needs, f"{e.flops:.1e} FLOP", duration(taken))
    return table


def planned_seconds(estimate: StageEstimate, *, runtime: Runtime, planning: Planning) -> float:
    """Return the seconds of an estimate on this machine."""
    # `fuse` trains on all processes, the dialogue half works on one thing at a time; the others on one device a worker;
    # `teach`, `evaluate_fusion` and `benchmark` with one worker on all devices.
    at_once = runtime.nproc if estimate.stage == "fuse" else 1 if "dialogue" in estimate.stage else runtime.workers
    if estimate.stage in ("teach", "evaluate_fusion", "benchmark") and runtime.workers == 1:
        at_once = device_lanes(runtime)
    return estimate.seconds(planning.flops_per_second, seconds_per_layer=planning.seconds_per_layer, processes=at_once)


def size(num: float) -> str:
    """Return bytes in the unit a person would use."""
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if num < 1000 or unit == "TB":
            return f"{num:.0f} {unit}" if unit == "B" else f"{num:.1f} {unit}"
        num /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Return seconds in the unit a person would use."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
