"""Sources that are GGUF files: what `check` and `plan` say of them, and the digest that `sources` needs."""

from pathlib import Path

from models.errors import SourceError
from models.lm.gguf.find import GgufFile, find_gguf, names_gguf
from models.lm.gguf.header import GgufHeader, read_header
from models.params.root import Params
from models.params.sources import GgufSpec, SourceSpec
from tasks.artifact import file_digest

_BYTES = {"float32": 4, "bfloat16": 2}


def gguf_header(spec: SourceSpec, *, root: Path, download: bool = False) -> GgufHeader | None:
    """Return the header of the GGUF file that a source names; None for a hub file that is not here and not to be fetched.

    Raises:
        SourceError: There is no such file, it is damaged, or it has no chat template and the params name none.
    """
    file = find_gguf(spec, root=root, download=download)
    header = None if file is None else read_header(file)
    if header is not None and not header.has_template and spec.chat_template is None:
        raise SourceError(
            f"`sources.models[{spec.name}].chat_template` must be set, as {header.file.name} brings no chat template (base "
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
    """Return a line for each source that is a GGUF file: its size here and unpacked. Nothing is converted or downloaded.

    Raises:
        SourceError: With a line for each of them that cannot be used, also because the package `gguf` is not installed.
    """
    lines, faults = [], []
    for spec in params.sources.models:
        if not names_gguf(spec, root=root):
            continue
        try:
            header = gguf_header(spec, root=root)
            _require_package(spec)
        except SourceError as error:
            faults.append(str(error))
            continue
        lines.append(f"source {spec.name}: {_described(header, gguf_dtype(spec))}")
    if faults:
        raise SourceError("\n".join(faults))
    return lines


def _require_package(spec: SourceSpec) -> None:
    from models.lm.gguf.convert import require_gguf

    require_gguf(f"`sources.models[{spec.name}].model`")


def _described(header: GgufHeader | None, dtype: str) -> str:
    if header is None:
        return "a GGUF file on the hub, fetched by the stage `sources`"
    unpacked = header.num_parameters * _BYTES[dtype]
    return (
        f"GGUF, {header.architecture}, {header.num_parameters / 1e6:.1f} M parameters, {header.file.num_bytes / 1e6:.1f} MB "
        f"here, {unpacked / 1e6:.1f} MB unpacked to {dtype}"
    )
