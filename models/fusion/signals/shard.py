"""One shard of the signal store: two files, written atomically and checked when opened; shards linked into one store."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import SignalError
from models.fusion.signals.arrays import Array, TensorHeader, encode_safetensors, publish
from models.fusion.signals.record import SampleSignals, SignalSpec

_FORMAT = "fusedial-signals-1"


def shard_path(folder: Path, index: int) -> Path:
    """Return the path of shard `index` in `folder`."""
    return folder / f"shard-{index:05d}.safetensors"


def complete_shards(folder: Path) -> dict[int, Path]:
    """Return the complete shards of a folder by index; empty when there are none."""
    found = {path.stem.removeprefix("shard-"): path for path in folder.glob("shard-*.safetensors")}
    return {int(number): found[number] for number in sorted(found, key=lambda n: (len(n), n)) if number.isdigit()}


# --- writing -------------------------------------------------------------------------------------------------------------


def stored_columns(spec: SignalSpec) -> dict[str, npt.DTypeLike]:
    """Return names and dtypes of the arrays that hold one row per token."""
    per_token: dict[str, npt.DTypeLike] = {
        "token_ids": spec.id_dtype,
        "topk_ids": spec.id_dtype,
        "topk_logprobs": "<f2",
        "tail": "<f2",
        "ce": "<f4",
    }
    return per_token | ({"has_teacher": np.bool_} if spec.kind == "aligned" else {})


def _problem(sample: SampleSignals, spec: SignalSpec) -> str | None:
    """Say what is wrong with a sample, or None."""
    if spec.kind == "aligned" and (sample.has_teacher is None or sample.prompt_ids is None):
        return "an aligned sample must have `prompt_ids` and `has_teacher`"
    for name, dtype in stored_columns(spec).items():
        array = getattr(sample, name)
        shape = (sample.num_tokens, spec.top_k) if name.startswith("topk") else (sample.num_tokens,)
        if array.shape != shape:
            return f"`{name}` must have the shape {shape}, but has {array.shape}"
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):  # what overflows is the finding
                finite = np.isfinite(array.astype(dtype, copy=False))
            if not finite.all():
                return f"`{name}` must be finite as {np.dtype(dtype)}, but {int((~finite).sum())} of its values are not"
    for name in ("token_ids", "topk_ids", "prompt_ids"):
        ids = getattr(sample, name)
        if ids is not None and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < spec.vocab_size:
            return f"`{name}` must be from 0 to {spec.vocab_size - 1}, but has {int(ids.min())} to {int(ids.max())}"
    logprobs = sample.topk_logprobs
    if (logprobs[:, 1:] > logprobs[:, :-1]).any() or (logprobs[:, :1] > 0.01).any():
        return "`topk_logprobs` must be logarithms of probabilities, descending in each row"
    return None


def _collect(spec: SignalSpec, samples: Iterable[SampleSignals]) -> tuple[list[str], dict[str, Array]]:
    """Check and concatenate the samples of one shard."""
    kept: list[SampleSignals] = []
    seen: set[str] = set()
    for sample in samples:
        problem = "its id must be unique in the shard" if sample.id in seen else _problem(sample, spec)
        if problem:
            raise SignalError(f"Sample `{sample.id}` of source `{spec.source}`: {problem}.")
        seen.add(sample.id)
        kept.append(sample)
    arrays: dict[str, Array] = {"offsets": _offsets([s.num_tokens for s in kept])}
    for name, dtype in stored_columns(spec).items():
        empty = np.empty((0, spec.top_k) if name.startswith("topk") else (0,), dtype)
        arrays[name] = np.concatenate([empty, *(np.asarray(getattr(s, name)).astype(dtype, copy=False) for s in kept)])
    if spec.kind == "aligned":
        prompts = [np.asarray(s.prompt_ids).astype(spec.id_dtype, copy=False) for s in kept]
        arrays["prompt_offsets"] = _offsets([len(p) for p in prompts])
        arrays["prompt_ids"] = np.concatenate([np.empty(0, spec.id_dtype), *prompts])
    return [s.id for s in kept], arrays


def _offsets(lengths: Sequence[int]) -> npt.NDArray[np.uint32]:
    total = sum(lengths)
    if total >= 2**32:
        raise SignalError(f"A shard must have fewer than {2**32} tokens, but has {total}. Lower `teach.shard_size`.")
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype("<u4")


def write_shard(folder: Path, index: int, spec: SignalSpec, samples: Iterable[SampleSignals]) -> Path:
    """Write one complete shard, or nothing; an earlier shard of that index is replaced.

    The bytes depend only on `spec` and `samples`.

    Returns:
        Path of the safetensors file.

    Raises:
        SignalError: A sample breaks the contract (names it), or the disk refuses (names file and bytes wanted).
    """
    ids, arrays = _collect(spec, samples)
    names = json.dumps(ids, ensure_ascii=False, separators=(",", ":")).encode()
    metadata = {"format": _FORMAT, "spec": spec.to_json(), "ids_sha256": hashlib.sha256(names).hexdigest()}
    path = shard_path(folder, index)
    publish({path.with_suffix(".json"): [names], path: encode_safetensors(arrays, metadata)})
    return path


# --- reading -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """One checked shard; `num_bytes` counts both files."""

    path: Path
    header: TensorHeader
    spec: SignalSpec
    ids: list[str]
    num_bytes: int


def open_shard(path: Path) -> Shard:
    """Check header, size and ids of one shard; its arrays are not read.

    Raises:
        SignalError: It is truncated, of another format, or its ids are missing or not the ones it was written with.
    """
    header = TensorHeader(path)
    if header.metadata.get("format") != _FORMAT:
        raise SignalError(f"`{path}` must have the format {_FORMAT!r}, but has {header.metadata.get('format')!r}.")
    listing = path.with_suffix(".json")
    try:
        names = listing.read_bytes()
    except FileNotFoundError as err:
        raise SignalError(
            f"`{listing}` (the ids of `{path.name}`) is missing. Delete the shard and run the stage again."
        ) from err
    digest = hashlib.sha256(names).hexdigest()
    if digest != header.metadata.get("ids_sha256"):
        raise SignalError(
            f"`{listing}` must have the sha256 {header.metadata.get('ids_sha256')}, but has {digest}. "
            "Delete the shard and run the stage again: complete shards are kept."
        )
    spec = SignalSpec.from_json(header.metadata["spec"])
    return Shard(path, header, spec, json.loads(names), header.num_bytes + len(names))


def link_shards(folders: Iterable[Path], folder: Path) -> Path:
    """Link the shards of `folders` into `folder`, renumbered in the given order, replacing shards already there.

    Files are hard links, or copies where the file system has none. The shards themselves are checked by `SignalStore.open`.

    Returns:
        `folder`.

    Raises:
        SignalError: One of `folders` has no complete shard, or the disk refuses (names the file).
    """
    shards: list[Path] = []
    for source in folders:
        found = list(complete_shards(source).values())
        if not found:
            raise SignalError(f"`{source}` must hold at least one complete shard, but has none. Run the stage that writes it.")
        shards += found
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("shard-*"):
        stale.unlink()
    for index, shard in enumerate(shards):
        target = shard_path(folder, index)
        _link(shard.with_suffix(".json"), target.with_suffix(".json"))
        _link(shard, target)
    return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError as err:
        raise SignalError(f"`{source}` is missing. Delete its shard and run the stage again.") from err
    except OSError:  # another file system, or one without hard links
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as err:
        target.unlink(missing_ok=True)
        raise SignalError(
            f"`{target}` cannot be written ({source.stat().st_size} bytes wanted): {err.strerror or err}. "
            "Free space or correct the folder's permissions, then run the stage again."
        ) from err
