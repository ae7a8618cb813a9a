"""Stage `prepare`: instructions, dialogues and knowledge base read, validated and split, or the embedded world generated."""

from pathlib import Path

from prefect import flow

from flows.context import StageContext
from flows.stages import HALVES, Half
from models.errors import DataError, Problem
from tasks.artifact import Artifact, materialise, tree_digest
from tasks.corpus import corpus, dialogues, known_answers
from tasks.tracking import finish_stage


def prepare_stage(ctx: StageContext, *, halves: tuple[Half, ...] = HALVES) -> None:
    """Write artifacts/<profile>/prepare/{corpus,answers} and prepare/dialogues."""
    problems = [p for half in halves for p in _missing(ctx, half)]
    if problems:
        raise DataError(f"profile `{ctx.params.profile}` cannot find its data", problems)
    if "fusion" in halves:
        run = ctx.run("prepare")
        made = corpus(ctx.params.corpus, external_files(ctx), runtime=ctx.params.runtime, run=run)
        _finish(ctx, made, "corpus", kind=ctx.params.corpus.kind, experiment="fusion")
        world = ctx.params.corpus.world if ctx.params.corpus.kind == "embedded" else None
        materialise(known_answers(world, made), ctx.out("prepare", "answers"))
    if "dialogue" in halves:
        run = ctx.run("prepare", experiment="dialogue")
        made = dialogues(ctx.params.dialogues, dialogue_files(ctx), runtime=ctx.params.runtime, run=run)
        _finish(ctx, made, "dialogues", kind=ctx.params.dialogues.kind, experiment="dialogue")


def _finish(ctx: StageContext, made: Artifact, part: str, *, kind: str, experiment: str) -> None:
    materialise(made, ctx.out("prepare", part))
    run = ctx.run("prepare", experiment=experiment)
    finish_stage(run, output=made.sha256, params={f"{part}.kind": kind}, metrics={}, files=[made.path / "stats.json"])


def external_files(ctx: StageContext) -> dict[str, str]:
    """Return data set → digest of every instruction file the profile names."""
    if ctx.params.corpus.kind == "embedded":
        return {}
    return {s.name: tree_digest(ctx.root / s.path) for s in ctx.params.corpus.sets}


def dialogue_files(ctx: StageContext) -> dict[str, str]:
    """Return the digest of the dialogues' folder; nothing for the embedded town."""
    path = ctx.params.dialogues.path
    return {"dialogues": tree_digest(ctx.root / path)} if path else {}


def _missing(ctx: StageContext, half: Half) -> list[Problem]:
    if half == "fusion":
        sets = ctx.params.corpus.sets if ctx.params.corpus.kind != "embedded" else ()
        named = [(f"corpus.sets[{i}].path", s.path) for i, s in enumerate(sets)]
    else:
        named = [("dialogues.path", ctx.params.dialogues.path)] if ctx.params.dialogues.path else []
    hint = "Profiles read from data/external/, which you fill: data/README.md says where each set comes from."
    return [
        Problem(f"`{key}`", "must be an existing file or folder", path, hint) for key, path in named if not _there(ctx.root, path)
    ]


def _there(root: Path, path: str) -> bool:
    return (root / path).exists()


@flow(name="prepare")
def prepare(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Prepare the data of a profile."""
    prepare_stage(StageContext.load(profile=profile, overrides=overrides or ()))
