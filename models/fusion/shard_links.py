"""One store out of the shards of several, without copying them."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from models.errors import SignalError
from models.fusion.signal_shard import complete_shards, shard_path


def link_shards(folders: Iterable[Path], folder: Path) -> Path:
    """Put the shards of `folders` into `folder`, numbered anew in the order given; shards that lay there before go.

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
            "Free space or mend the folder's rights, then run the stage again."
        ) from err
