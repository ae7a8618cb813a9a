"""What an ablation shows: means and paired differences over seeds, in tables, docs/results/ablation-<name>.json and a plot."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from flows.ablation.kept import Scores
from flows.ablation.plan_file import Item, LoadedPlan
from flows.ablation.run import Progress, left_line, seconds_left
from flows.ablation.scores import METRICS, values
from flows.context import git_commit
from flows.results_files import renew_tables
from models.files import write_atomic
from models.params.ablation import BASELINES, BEST_SOURCE, UNTRAINED
from models.reporting.formatting import difference_unit, format_p, metric_title, metric_unit, shown
from models.reporting.results import Result, ResultRow, write_result
from models.reporting.seeds import over_seeds

Figures = Mapping[str, Mapping[int, float]]
"""Arm, `untrained` or `best_source` → seed → value."""
_NAMES = {UNTRAINED: "untrained target", BEST_SOURCE: "best single source"}
_KINDS = {UNTRAINED: "untrained", BEST_SOURCE: "source"}


def result_rows(loaded: LoadedPlan, done: Mapping[Item, Scores]) -> list[ResultRow]:
    """Return means of every regime, metric and arm, and the differences the plan asks for, paired by seed.

    The untrained target and the best single source (chosen on the validation split) are those of the regime and seed.
    """
    return [row for regime in loaded.plan.regimes for metric in METRICS for row in _rows(loaded, done, regime, metric)]


def _rows(loaded: LoadedPlan, done: Mapping[Item, Scores], regime: str, metric: str) -> Iterator[ResultRow]:
    figures = _figures(loaded, done, regime, metric)
    more = {"regime": regime, "metric": metric}
    for arm in (*BASELINES, *loaded.plan.arms):
        if arm in figures:
            found = [shown(metric, value) for _, value in sorted(figures[arm].items())]
            yield over_seeds(_NAMES.get(arm, arm), found, metric_unit(metric), {**more, "kind": _KINDS.get(arm, "method")})
    for a, b in loaded.plan.compare:
        both = sorted(figures.get(a, {}).keys() & figures.get(b, {}).keys())
        if both:
            gaps = [shown(metric, figures[a][seed] - figures[b][seed]) for seed in both]
            name = f"{_NAMES.get(a, a)} − {_NAMES.get(b, b)}"
            yield over_seeds(name, gaps, difference_unit(metric), {**more, "kind": "difference"}, difference=True)


def _figures(loaded: LoadedPlan, done: Mapping[Item, Scores], regime: str, metric: str) -> Figures:
    found: dict[str, dict[int, float]] = {}
    for item in loaded.items(regimes=[regime]):
        for name, value in (values(done[item], item.arm, metric) if item in done else {}).items():
            found.setdefault(name, {}).setdefault(item.seed, value)
    return found


def missing_note(items: Sequence[Item], missing: Sequence[Item]) -> str:
    """Say in one sentence which runs figures lack: regimes and arms by name where all of their runs are missing."""
    left = set(missing)
    if not left:
        return ""
    parts = []
    for regime in dict.fromkeys(item.regime for item in missing):
        here = [item for item in items if item.regime == regime]
        if left.issuperset(here):
            parts.append(f"{regime} (all)")
            continue
        arms = []
        for arm in dict.fromkeys(item.arm for item in here if item in left):
            runs = [item for item in here if item.arm == arm]
            seeds = ", ".join(str(item.seed) for item in runs if item in left)
            arms.append(arm if left.issuperset(runs) else f"{arm} with seed {seeds}")
        parts.append(f"{regime} ({', '.join(arms)})")
    return f"{len(left)} of {len(items)} runs are missing: {'; '.join(parts)}."


def write_figures(loaded: LoadedPlan, progress: Progress, *, items: Sequence[Item], partial: bool, out: Console) -> None:
    """Print what there is, and write the figures where all runs of the plan are done, or with `partial` some of them."""
    rows = result_rows(loaded, progress.done)
    for regime in loaded.plan.regimes:
        print_regime(rows, regime, out)
    for item, why in progress.failed.items():
        out.print(f"[red]failed[/] {item.label}: {escape(why.splitlines()[0])}", highlight=False)
    missing = [item for item in loaded.items() if item not in progress.done]
    if (missing and not partial) or not rows:
        out.print(f"{len(missing)} of {len(loaded.items())} runs are missing, so no figures were written. {_more(items, loaded)}")
        return
    note = missing_note(loaded.items(), missing)
    command = f"python -m flows run ablation --plan {loaded.file}"
    today = datetime.now(UTC).date().isoformat()
    result = Result(loaded.experiment, command, git_commit(loaded.root), today, tuple(rows), note)
    path = write_result(loaded.root / "docs" / "results", result)
    out.print(f"wrote {path.relative_to(loaded.root)}", highlight=False)
    write_page(loaded, rows)
    for line in renew_tables(loaded.root, write=True):
        out.print(line, highlight=False)


def write_page(loaded: LoadedPlan, rows: Sequence[ResultRow]) -> None:
    """Write docs/results/ablation-<name>.md with the blocks of all tables, unless it is there: its words are yours to change."""
    name = loaded.experiment
    path = loaded.root / "docs" / "results" / f"{name}.md"
    if path.exists():
        return
    about = f"Regimes, arms and seeds: `{loaded.file}`. How to read and run it: [operations](../operations.md#ablations)."
    parts = [f"# Ablation: {loaded.plan.name}", about, f"![Means and intervals](../images/{name}.svg)"]
    for regime in loaded.plan.regimes:
        here = [row for row in rows if row.more["regime"] == regime]
        parts += [f"## {regime}"] if here else []
        for metric in dict.fromkeys(row.more["metric"] for row in here):
            tested = any("p" in row.more for row in here if row.more["metric"] == metric)
            columns = "kind,by_seed,p" if tested else "kind,by_seed"
            parts += [f"<!-- results:{name} regime={regime} metric={metric} columns={columns} -->\n<!-- /results -->"]
    write_atomic(path, "\n\n".join(parts) + "\n")


def _more(items: Sequence[Item], loaded: LoadedPlan) -> str:
    return "Run the same command again, or write what there is with `--partial`." if len(items) == len(loaded.items()) else ""


def print_regime(rows: Sequence[ResultRow], regime: str, out: Console) -> None:
    """Print the tables of one regime."""
    from rich.table import Table

    here = [row for row in rows if row.more["regime"] == regime]
    for metric in dict.fromkeys(str(row.more["metric"]) for row in here):
        table = Table("", "mean", "95 % interval", "seeds", "p", title=f"{regime}: {metric_title(metric)}", title_justify="left")
        for row in (row for row in here if row.more["metric"] == metric):
            decimals = 1 if metric == "accuracy" else 3
            interval = "" if row.low is None else f"[{row.low:.{decimals}f}, {row.high:.{decimals}f}]"
            p = row.more.get("p")
            figures = (f"{row.value:.{decimals}f} {row.unit}", escape(interval), str(row.num))
            table.add_row(row.name, *figures, format_p(p) if isinstance(p, float) else "")
        out.print(table)


def print_items(loaded: LoadedPlan, progress: Progress, items: Sequence[Item], out: Console) -> None:
    """List the runs with their state, and what those that are left take: nothing is run."""
    from rich.table import Table

    table = Table("regime", "seed", "arm", "state", title=f"{loaded.experiment} ({loaded.file})", title_justify="left")
    for item in items:
        scores = progress.done.get(item)
        table.add_row(item.regime, str(item.seed), item.arm, "to run" if scores is None else f"done, {scores.seconds:.0f} s")
    out.print(table)
    grids = {arm: ", ".join(grid) for arm in loaded.plan.arms if (grid := loaded.plan.grid_of(arm))}
    if grids:
        arms = "all arms" if len(grids) == len(loaded.plan.arms) else ", ".join(grids)
        keys = ", ".join(dict.fromkeys(grids.values()))
        out.print(f"{keys} of {arms}: chosen on the validation split, in each regime with the first seed", highlight=False)
    unknown = "; set `seconds_per_run` for an estimate" if progress.left and seconds_left(loaded, progress) is None else ""
    out.print(f"{len(items)} runs, {left_line(loaded, progress)}{unknown}", highlight=False)
