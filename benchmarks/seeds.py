"""`python -m benchmarks.seeds`: the same run under several seeds, as means with intervals over the seeds.

One run differs from the next by several points on a small world, so a claim about a method rests on seeds. Each seed gives
every param named by `--vary` its number: by default the world itself, so that data, sources, winners and training all differ.
Differences are paired by seed. Each seed's figures are kept in .cache/seeds/ as soon as they are there: the same command goes on
after a stop, and two checkouts may share the work (`--only`, then copy that folder).
"""

import argparse
import functools
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows.cli import root as prepare_environment
from flows.context import StageContext, git_commit
from flows.results_files import renew_tables, rows_of
from flows.stages import STAGES
from models.reporting.results import Result, ResultRow, write_result
from models.reporting.seeds import over_seeds

ROOT = Path(__file__).resolve().parent.parent
VARIED = {"fusion": ("corpus.world.seed", "fusion.seed"), "dialogue": ("dialogues.town.seed", "retriever.seed", "dialogue.seed")}
METRICS = {"fusion": ("accuracy", "bits_per_byte"), "dialogue": ("recall_id@1", "recall_value@1", "entity_f1", "bleu")}
Figures = dict[tuple[str, str, str, str], float]
"""(system, kind, metric, unit) → value over all families or domains."""


@dataclass(frozen=True)
class Study:
    """What is run: a half of a profile with overrides, once per seed."""

    half: str
    profile: str
    overrides: tuple[str, ...]
    vary: tuple[str, ...]
    before: str = ""

    def first(self) -> "Study | None":
        """Return what each seed runs before, `profile:method`, with the same seed: its model is a source of this one."""
        profile, _, method = self.before.partition(":")
        unread = "dialogue_evaluation.in_context=[]"  # it may name methods that are not trained
        return Study(self.half, profile, (f"methods=[{method}]", unread), self.vary) if self.before else None

    def options(self, seed: int) -> list[str]:
        """Return the overrides of one seed."""
        return [*self.overrides, *(f"{key}={seed}" for key in self.vary)]

    def command(self, seed: int, *, threads: int | None) -> list[str]:
        """Return the command of one seed."""
        given = [*self.options(seed), *([f"runtime.threads={threads}"] if threads else [])]
        return ["-m", "flows", "run", self.half, "--profile", self.profile, *(word for o in given for word in ("-S", o))]

    def kept(self, seed: int) -> Path:
        """Return where the figures of one seed are kept: under the identity of its params and of the code."""
        ctx = StageContext.load(profile=self.profile, overrides=self.options(seed))
        first = self.first()
        earlier = f":{first.kept(seed).stem}" if first else ""
        key = hashlib.sha256(f"{ctx.digest_of(self.half)}:{code_digest(self.half)}{earlier}".encode()).hexdigest()[:16]
        return ROOT / ".cache" / "seeds" / f"{self.half}-{seed}-{key}.json"


def main() -> None:
    given = parse()
    prepare_environment()
    commit = git_commit(ROOT)  # before the runs write their reports
    study = Study(given.half, given.profile, tuple(given.overrides), tuple(given.vary or VARIED[given.half]), given.before)
    for seed in given.only or given.seeds:
        measure(study, seed, threads=given.threads)
    if given.only:
        return
    found = [read(study.kept(seed)) for seed in given.seeds]
    rows = [*mean_rows(found), *difference_rows(found, [tuple(pair.split(":")) for pair in given.compare])]
    command = f"python -m benchmarks.seeds {shlex.join(shown_arguments(sys.argv[1:]))}"
    today = datetime.now(UTC).date().isoformat()
    write_result(ROOT / "docs" / "results", Result(given.name, command, commit, today, tuple(rows)))
    for row in rows:
        shown = f"{row.value:8.2f} [{row.low:.2f}, {row.high:.2f}] {row.unit}"
        print(f"{row.name:44s} {row.more['metric']:16s} {shown}")
    renew_tables(ROOT, write=True)


@functools.cache
def code_digest(half: str) -> str:
    """Return a digest of all code that the half's result depends on."""
    code = {stage.name: stage.code() for stage in STAGES if half in stage.halves}
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description="One run under several seeds.")
    parser.add_argument("name", help="docs/results/NAME.json")
    parser.add_argument("--half", choices=sorted(VARIED), default="fusion")
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--vary", nargs="+", metavar="KEY", help="params that get the seed's number")
    parser.add_argument("--compare", nargs="*", default=[], metavar="A:B", help="paired differences A − B, by names of systems")
    parser.add_argument(
        "--before",
        default="",
        metavar="PROFILE:METHOD",
        help="run before with the same seed; its model is a source",
    )
    parser.add_argument("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all seeds")
    parser.add_argument("--threads", type=int, help="runtime.threads")
    parser.add_argument("--only", type=int, nargs="+", metavar="SEED", help="run these seeds and write no result")
    return parser.parse_args()


def shown_arguments(argv: Sequence[str]) -> list[str]:
    """Return the arguments without those that say how to execute."""
    kept, words = list[str](), iter(argv)
    for word in words:
        if word == "--threads":
            next(words)
        else:
            kept.append(word)
    return kept


def measure(study: Study, seed: int, *, threads: int | None) -> None:
    """Run one seed, unless its figures are there, and keep them."""
    kept = study.kept(seed)
    if kept.exists():
        return
    for one in (study.first(), study):
        if one is not None:
            subprocess.run([sys.executable, *one.command(seed, threads=threads)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rows = rows_of(StageContext.load(profile=study.profile, overrides=study.options(seed)), study.half)
    figures = [(r.name, r.more.get("kind"), r.more["metric"], r.unit, r.value) for r in rows if chosen(r, METRICS[study.half])]
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(figures), encoding="utf-8")
    part.replace(kept)
    print(f"seed {seed}: {len(figures)} figures", flush=True)


def chosen(row: ResultRow, metrics: Sequence[str]) -> bool:
    """Whether a row is a system's figure over all families or domains."""
    return "kind" in row.more and row.more.get("metric") in metrics and "all" in (row.more.get("family"), row.more.get("domain"))


def read(path: Path) -> Figures:
    return {(name, kind, metric, unit): value for name, kind, metric, unit, value in json.loads(path.read_text(encoding="utf-8"))}


def mean_rows(found: Sequence[Figures]) -> Iterator[ResultRow]:
    """Yield the mean of every system and metric that all seeds have."""
    for key in (key for key in found[0] if all(key in figures for figures in found)):
        name, kind, metric, unit = key
        yield over_seeds(name, [figures[key] for figures in found], unit, {"kind": kind, "metric": metric})


def difference_rows(found: Sequence[Figures], pairs: Sequence[tuple[str, ...]]) -> Iterator[ResultRow]:
    """Yield A − B of each metric, paired by seed; a name may leave out the ` → target` behind it."""
    for a, b in pairs:
        for metric, unit in dict.fromkeys((key[2], key[3]) for key in found[0]):
            values = [
                pick(figures, a, metric) - pick(figures, b, metric) for figures in found if has(figures, a, b, metric=metric)
            ]
            if len(values) == len(found):
                points = "points" if unit == "%" else unit
                yield over_seeds(f"{a} − {b}", values, points, {"kind": "difference", "metric": metric}, difference=True)


def has(figures: Figures, *names: str, metric: str) -> bool:
    return all(any(matches(key, name, metric) for key in figures) for name in names)


def pick(figures: Figures, name: str, metric: str) -> float:
    return next(value for key, value in figures.items() if matches(key, name, metric))


def matches(key: tuple[str, str, str, str], name: str, metric: str) -> bool:
    return key[2] == metric and (key[0] == name or key[0].startswith(f"{name} → "))


if __name__ == "__main__":
    main()
