"""The turns of a file as a sequence that reads a turn when it is asked for: memory does not grow with the dialogues."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

from models.data.corpus import row_offsets
from models.data.dialogue import Turn
from models.data.dialogue_files import read_turns
from models.data.json_lines import parse_json_line


class TurnFile(Sequence[Turn]):
    """A file of `write_turns` by index; what is kept is its line offsets, mapped from the file beside it."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ArtifactError: It is missing.
        """
        self._path = path
        self._offsets = row_offsets(path)
        self._file = path.open("rb")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __iter__(self) -> Iterator[Turn]:
        return read_turns(self._path)

    @overload
    def __getitem__(self, index: int) -> Turn: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Turn]: ...
    def __getitem__(self, index: int | slice) -> Turn | Sequence[Turn]:
        """Read a turn, or those of a slice.

        Raises:
            ArtifactError: A line is no turn; names file and line.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        line = os.pread(self._file.fileno(), stop - start, start)  # no shared position: threads and forks may read
        return parse_json_line(line, Turn.from_json, what="turn", path=self._path, number=row + 1)
