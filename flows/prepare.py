"""Stage `prepare`: instruction data read, validated and split, or the embedded world generated."""

from prefect import flow

from flows.context import StageContext
from models.errors import DataError, Problem
from tasks.artifact import materialise, tree_digest
from tasks.corpus import corpus
from tasks.tracking import finish_stage


def prepare_stage(ctx: StageContext) -> None:
    """Write artifacts/<profile>/prepare."""
    cfg = ctx.params.corpus
    run = ctx.run("prepare")
    artifact = corpus(cfg, external_files(ctx), runtime=ctx.params.runtime, run=run)
    materialise(artifact, ctx.out("prepare"))
    finish_stage(run, output=artifact.sha256, params={"corpus.kind": cfg.kind}, metrics={}, files=[artifact.path / "stats.json"])


def external_files(ctx: StageContext) -> dict[str, str]:
    """Return path → digest of every input file the profile names.

    Raises:
        DataError: Listing those that are missing.
    """
    cfg = ctx.params.corpus
    if cfg.kind == "embedded":
        return {}
    problems = [
        Problem(
            f"`corpus.sets[{i}].path`",
            "must be an existing file or folder",
            s.path,
            "Profiles read from data/external/, which you fill: data/README.md says where each set comes from.",
        )
        for i, s in enumerate(cfg.sets)
        if not (ctx.root / s.path).exists()
    ]
    if problems:
        raise DataError(f"profile `{ctx.params.profile}` cannot find its data", problems)
    return {s.path: tree_digest(ctx.root / s.path) for s in cfg.sets}


@flow(name="prepare")
def prepare(profile: str | None = None, overrides: list[str] | None = None) -> None:
    """Prepare the data of a profile."""
    prepare_stage(StageContext.load(profile=profile, overrides=overrides or ()))
