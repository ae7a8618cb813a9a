"""Sources and generators that are GGUF files: what `check` and `plan` say of them, and the digest that `sources` needs."""

from pathlib import Path

from models.errors import SourceError
from models.lm.gguf.find import GgufFile, find_gguf, names_gguf
from models.lm.gguf.header import GgufHeader, read_header
from models.params.dialogue import GeneratorParams
from models.params.root import Params
from models.params.sources import GgufSpec, SourceSpec
from tasks.artifact import file_digest

_BYTES = {"float32": 4, "bfloat16": 2}
GENERATOR_KEY = "dialogue.generator.model"


def generator_spec(cfg: GeneratorParams) -> SourceSpec | None:
    """Return the model of a causal generator as a source would be named; None where it is none that lies anywhere."""
    if cfg.kind != "causal" or cfg.model == "pico" or cfg.model.startswith(("fused:", "source:")):
        return None
    return SourceSpec(name="generator", model=cfg.model, revision=cfg.revision, chat_template=cfg.chat_template, gguf=cfg.gguf)


def gguf_header(spec: SourceSpec, *, root: Path, download: bool = False, where: str = "") -> GgufHeader | None:
    """Return the header of the GGUF file that a source names; None for a hub file that is not here and not to be fetched.

    Raises:
        SourceError: There is no such file, it is damaged, or it has no chat template and the params name none.
    """
    file = find_gguf(spec, root=root, download=download, where=where)
    header = None if file is None else read_header(file)
    if header is not None and not header.has_template and spec.chat_template is None:
        raise SourceError(
            f"{header.file.owner}.chat_template` must be set, as {header.file.name} brings no chat template (base "
            "models have none), but is null. Set it to a preset such as `alpaca`: the format that the model is to be asked in."
        )
    return header


def gguf_digest(spec: SourceSpec, file: GgufFile) -> str:
    """Return the sha256 of a GGUF file, whole or in parts.

    Raises:
        SourceError: It differs from the one that the params ask for.
    """
    found = file_digest(file.parts[0]) if len(file.parts) == 1 else file.sha256()
    wanted = None if spec.gguf is None else spec.gguf.sha256
    if wanted is not None and found != wanted:
        raise SourceError(
            f"{file.where}: {file.name} must have the sha256 {wanted} (`gguf.sha256`), but has {found}: it is another file, or "
            "damaged. Copy it again, or correct the digest."
        )
    return found


def gguf_dtype(spec: SourceSpec) -> str:
    """Return what the weights of a GGUF source are unpacked to."""
    return (spec.gguf or GgufSpec()).dtype


def check_gguf_sources(params: Params, *, root: Path) -> list[str]:
    """Return a line for each source, and for the generator, that is a GGUF file: its size here and unpacked.

    Nothing is converted or downloaded.

    Raises:
        SourceError: With a line for each of them that cannot be used, also because the package `gguf` is not installed.
    """
    lines, faults = [], []
    named = [(spec, f"source {spec.name}", f"`sources.models[{spec.name}].model`") for spec in params.sources.models]
    if (generator := generator_spec(params.dialogue.generator)) is not None:
        named.append((generator, "the generator of dialogues", f"`{GENERATOR_KEY}`"))
    for spec, what, where in named:
        if not names_gguf(spec, root=root):
            continue
        try:
            header = gguf_header(spec, root=root, where=where)
            _require_package(where)
        except SourceError as error:
            faults.append(str(error))
            continue
        lines.append(f"{what}: {_described(header, gguf_dtype(spec))}")
    if faults:
        raise SourceError("\n".join(faults))
    return lines


def _require_package(where: str) -> None:
    from models.lm.gguf.convert import require_gguf

    require_gguf(where)


def _described(header: GgufHeader | None, dtype: str) -> str:
    if header is None:
        return "a GGUF file on the hub, fetched by the stage `sources`"
    unpacked = header.num_parameters * _BYTES[dtype]
    return (
        f"GGUF, {header.architecture}, {header.num_parameters / 1e6:.1f} M parameters, {header.file.num_bytes / 1e6:.1f} MB "
        f"here, {unpacked / 1e6:.1f} MB unpacked to {dtype}"
    )
