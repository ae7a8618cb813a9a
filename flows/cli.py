"""The command line. The only reader of argv; heavy imports happen inside the commands, so `--help` answers at once."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.environment import escape_unencodable_output, require_prefect, set_environment
from flows.guard import guarded
from flows.known_errors import quiet_known_errors
from models.errors import FusedialError
from models.files import write_atomic
from tasks.secrets import guard_secrets

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Fuse several chat LLMs into one (ProFuser), and ground a dialogue agent in a knowledge base (MK-TOD).

Typical session:

  [bold]python -m flows check[/]                                  are the params right?
  [bold]python -m flows plan[/]                                   what would run, and why?
  [bold]python -m flows recommend[/]                              which method suits the data? a pilot tells
  [bold]python -m flows run pipeline[/]                           run it; finished work is never repeated
  [bold]python -m flows run pipeline -S fusion.beta=0.2[/]        change one thing: only what depends on it runs
  [bold]python -m flows report --open[/]                          the result page
  [bold]python -m flows chat[/]                                   talk to the dialogue agent

Defaults stand in params.yaml, overlays in profiles/. The same stages run under [bold]dvc repro[/] and
[bold]prefect deployment run[/]; runs are compared in the MLflow UI ([bold]make ui[/]).""",
)
# Tables need room where the output is a file or a pipe (Rich would take 80 columns).
out = Console(width=None if sys.stdout.isatty() else 120)

Profile = Annotated[
    str | None, typer.Option("--profile", "-p", metavar="NAME", help="Overlay profiles/NAME.yaml on params.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="Override a param, e.g. -S fusion.lr=1e-4. Repeatable."),
]


def root() -> Path:
    """Return the project folder and prepare the environment for it."""
    from tasks.workspace import project_root

    place = project_root()
    set_environment(place)
    guard_secrets()
    return place


@app.command()
def run(
    stage: Annotated[
        str,
        typer.Argument(
            help="`pipeline`, a half (`fusion`, `dialogue`), a stage (see `python -m flows stages`), or `ablation` with `--plan`."
        ),
    ],
    *,
    profile: Profile = None,
    overrides: Overrides = None,
    method: Annotated[list[str] | None, typer.Option(help="For `fuse`: this method only. Repeatable.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="For `train_dialogue`: this variant only. Repeatable.")] = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", metavar="FILE", help="For `ablation`: the plan.")] = None,
    only_regime: Annotated[list[str] | None, typer.Option(help="For `ablation`: this regime only. Repeatable.")] = None,
    only_seed: Annotated[list[int] | None, typer.Option(help="For `ablation`: this seed only. Repeatable.")] = None,
    only_arm: Annotated[list[str] | None, typer.Option(help="For `ablation`: this arm only. Repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="For `ablation`: list the runs and what they take.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="For `ablation`: keep weights, not only scores.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="For `ablation`: write figures though runs are missing.")] = False,
) -> None:
    """Run the pipeline or one stage. Finished work is served from the cache; a killed run goes on where it was."""
    from flows.stages import STAGES

    names = ["pipeline", "fusion", "dialogue", *(s.name for s in STAGES), "ablation"]
    if stage not in names:
        from difflib import get_close_matches

        near = get_close_matches(stage, names, 1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(names)}."
        raise FusedialError(f"`{stage}` is not a stage{hint}")
    for option, given, of in (("method", method, "fuse"), ("variant", variant, "train_dialogue")):
        if given and stage != of:
            raise FusedialError(
                f"`--{option}` goes with the stage `{of}`, but the stage is `{stage}`. For `pipeline` use -S '{option}s=[…]'."
            )
    only = {"regimes": only_regime or (), "seeds": only_seed or (), "arms": only_arm or ()}
    if stage == "ablation":
        _run_ablation(plan_file, profile, overrides or (), only=only, dry_run=dry_run, keep=keep, partial=partial)
        return
    if plan_file or any(only.values()) or dry_run or keep or partial:
        raise FusedialError(f"`--plan`, `--only-…`, `--dry-run`, `--keep`, `--partial` go with `ablation`, not `{stage}`.")
    root()
    from flows.context import StageContext
    from flows.installation import faiss_provider, package_roots
    from flows.summary import announce_stage, print_summary

    require_prefect()
    faiss_provider()
    package_roots()

    ctx = StageContext.load(profile=profile, overrides=overrides or ())
    from flows.pipeline import run_in_flow

    quiet_known_errors()

    started = time.monotonic()
    run_in_flow(ctx, stage, items=tuple(method or variant or ()), announce=announce_stage)
    print_summary(ctx, stage, out, seconds=time.monotonic() - started)


def _run_ablation(
    plan: Path | None, profile: str | None, execution: Sequence[str], *, only: Mapping[str, Sequence[Any]], **how: bool
) -> None:
    """Run an ablation; a failed run ends the command with 1."""
    if profile is not None or plan is None:
        raise FusedialError("`run ablation` must have `--plan FILE`, which names the profiles: leave out `--profile`.")
    place = root()
    require_prefect()
    from flows.ablation.command import run_ablation

    quiet_known_errors()
    if not run_ablation(place, plan, out, choice=only, execution=execution, **how):
        raise typer.Exit(1)


@app.command()
def recommend(
    profile: Profile = None,
    overrides: Overrides = None,
    limit: Annotated[int, typer.Option(min=24, help="Training prompts of the pilot.")] = 512,
    lr: Annotated[list[float] | None, typer.Option(help="Learning rate to try; none: ½, 1, 2 × `fusion.lr`. Repeatable.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the candidates' weights, not only their scores.")] = False,
) -> None:
    """Run a pilot on a part of a profile's data, and say which method to use, why, and what it will cost."""
    place = root()
    require_prefect()
    from flows.recommend.pilot import asked
    from flows.recommend.show import print_recommendation

    quiet_known_errors()
    wanted = asked(place, profile=profile, overrides=overrides or (), limit=limit, rates=lr or ())
    if not print_recommendation(wanted, out, keep=keep):
        raise typer.Exit(1)


@app.command()
def chat(
    variant: Annotated[str, typer.Option("--run", metavar="RUN", help="Variant, or id or name of its MLflow run.")] = "",
    profile: Profile = None,
    overrides: Overrides = None,
    record: Annotated[bool, typer.Option(help="Record each exchange as an MLflow trace.")] = True,
) -> None:
    """Talk to a trained dialogue agent; shows the retrieved entities and what is known about them next to each answer."""
    root()
    from flows.chat import open_session
    from flows.context import StageContext

    open_session(StageContext.load(profile=profile, overrides=overrides or ()), run=variant, record=record, out=out)


@app.command()
def renew(
    folder: Annotated[Path, typer.Argument(help="Folder to write: kb.jsonl and one file for each split (kind `jsonl`).")],
    profile: Profile = None,
    overrides: Overrides = None,
    values: Annotated[bool, typer.Option(help="Replace names, addresses, phones and postcodes by new ones.")] = True,
    distractors: Annotated[int, typer.Option(help="New entities to add to the knowledge base.")] = 0,
) -> None:
    """Write a profile's dialogues with entities that no training has seen (seed: `dialogues.renew.seed`)."""
    root()
    from flows.context import StageContext
    from flows.unseen_entities import write_renewed

    ctx = StageContext.load(profile=profile, overrides=overrides or ())
    counts = write_renewed(ctx, folder, values=values, distractors=distractors)
    out.print(f"wrote {folder}: {counts}", highlight=False, markup=False)


@app.command()
def check(profile: Profile = None, overrides: Overrides = None) -> None:
    """Validate params, profile and installation; every error at once."""
    place = root()
    from flows.gguf_sources import check_gguf_sources
    from flows.installation import check_installation
    from flows.made_sources import unmade_sources
    from flows.params.file import load_params

    params = load_params(place, profile=profile, overrides=overrides or ()).params
    for line in check_installation():
        out.print(line, markup=False, soft_wrap=True)
    sources = len(params.sources.models)
    out.print(
        f"params: profile [bold]{params.profile}[/] is valid: {sources} {'source' if sources == 1 else 'sources'}, "
        f"methods {', '.join(params.methods)}, targets {', '.join(params.fusion.targets)}; "
        f"dialogues {params.dialogues.kind} ({params.dialogues.setting}), variants {', '.join(params.variants)}"
    )
    for line in (*check_gguf_sources(params, root=place), *unmade_sources(params, root=place)):
        out.print(line, markup=False, soft_wrap=True)


@app.command()
def plan(
    what: Annotated[str, typer.Argument(help="`pipeline`, or a half: `fusion`, `dialogue`.")] = "pipeline",
    profile: Profile = None,
    overrides: Overrides = None,
) -> None:
    """Say for each stage whether it would run, which field, input or source file changed, and what it needs."""
    root()
    from flows.context import StageContext
    from flows.pipeline import COMPOSITES
    from flows.plan.plan import print_plan

    if what not in COMPOSITES:
        raise FusedialError(f"`{what}` must be one of {', '.join(COMPOSITES)}. For one stage see the line of its half.")
    print_plan(StageContext.load(profile=profile, overrides=overrides or ()), out, halves=COMPOSITES[what])


@app.command()
def params(
    key: Annotated[str | None, typer.Argument(help="Only this key and what is below it.")] = None,
    profile: Profile = None,
    overrides: Overrides = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that differ from the defaults.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/params.md.")] = False,
) -> None:
    """Explain the parameters: value, where it comes from, default, meaning."""
    place = root()
    from flows.params.docs import params_table, render_params_markdown
    from flows.params.file import load_params

    if write:
        write_atomic(place / "docs" / "params.md", render_params_markdown())
        out.print("wrote docs/params.md")
        return
    loaded = load_params(place, profile=profile, overrides=overrides or ())
    out.print(params_table(loaded, key=key, changed=changed))


@app.command()
def stages() -> None:
    """List the stages: what each does, reads and depends on."""
    from rich.table import Table

    from flows.stages import STAGES

    table = Table("stage", "does", "reads", "params")
    for s in STAGES:
        table.add_row(s.name + (f"@{s.item}" if s.matrix else ""), s.summary, ", ".join(s.inputs), ", ".join(s.sections))
    out.print(table)


@app.command()
def report(
    profile: Profile = None,
    overrides: Overrides = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Print the result table and the place of the result page (one self-contained HTML file)."""
    root()
    from flows.context import StageContext
    from flows.stages import HALVES
    from flows.summary import print_results

    ctx = StageContext.load(profile=profile, overrides=overrides or ())
    halves = tuple(half for half in HALVES if ctx.out("report", half).is_dir()) or HALVES
    page = print_results(ctx, out, halves=halves)
    for half in halves:
        place = ctx.out("report", half, "index.html")
        out.print(f"page of the {half} half: {place}", highlight=False, soft_wrap=True, markup=False)
    if open_page:
        typer.launch(page.as_uri())


@app.command()
def results(
    name: Annotated[
        str | None, typer.Argument(help="Name of the figures: docs/results/NAME.json. None: only tables and plots.")
    ] = None,
    profile: Profile = None,
    overrides: Overrides = None,
    check_only: Annotated[bool, typer.Option("--check", help="Only say whether README and docs tables are current.")] = False,
    note: Annotated[str | None, typer.Option(help="Measure nothing: put this sentence under the tables of NAME.")] = None,
) -> None:
    """Write a finished profile's figures to docs/results/NAME.json and renew the tables and plots in README and docs.

    Without NAME nothing is measured: tables and plots are rendered again from the files that are there.
    """
    place = root()
    if note is not None and name is None:
        raise typer.BadParameter("--note needs NAME: the figures that the sentence is about.")
    from flows.context import StageContext
    from flows.results_files import annotate, renew_tables, write_results

    if note is not None and name is not None:
        annotate(place, name, note)
    elif name is not None and not check_only:
        write_results(StageContext.load(profile=profile, overrides=overrides or ()), name)
    stale = renew_tables(place, write=not check_only)
    for line in stale:
        out.print(line)
    if check_only and stale:
        raise typer.Exit(1)


@app.command(name="dvc")
def dvc_command(write: Annotated[bool, typer.Option("--write", help="Write dvc.yaml.")] = False) -> None:
    """Print dvc.yaml as the stage table says it must be."""
    place = root()
    from flows.dvc_file import render
    from flows.dvc_file import write as write_dvc_file

    if write:
        write_dvc_file(place / "dvc.yaml")
        out.print("wrote dvc.yaml")
    else:
        sys.stdout.write(render())


def main() -> None:
    """Run the command line; see `guarded` for how it ends."""
    import logging

    escape_unencodable_output()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("models.fusion.train.run").setLevel(logging.INFO)  # says from where an interrupted training goes on
    guarded(app)
