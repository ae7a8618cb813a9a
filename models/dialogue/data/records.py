"""The records of the dialogue half (entities, system turns) and their files: JSON lines, streamed or read turn by turn."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

from models.corpus.examples import row_offsets, write_json_lines
from models.files import parse_json_line, read_json_lines
from models.records import to_row

TurnKind = Literal["response", "api_call"]
# What stands for a missing value in published data and in tables written by programs (`tod_jsonl` says which); readers leave
# such attributes out. `na` and `unknown` are not among them: they may be meant.
_MISSING_WORDS = ("none", "null", "nil", "nan", "n/a", "#n/a", "<na>", "undefined", "dontknow", "<dontknow>", "dont_know")
_NO_NUMBERS = ("inf", "+inf", "-inf", "-infinity", "-nan")
MISSING = frozenset({"", "-", "--", "–", "—", "?", *_MISSING_WORDS, *_NO_NUMBERS, "dont know", "don't know", "not mentioned"})


@dataclass(frozen=True, slots=True)
class Entity:
    """One record of a knowledge base.

    Attributes:
        id: Unique in the knowledge base, stable between runs.
        domain: Such as `restaurant`; scores are per domain.
        attributes: Attribute → value, lower case, in the knowledge base's order; missing values are absent. The first one is
            the name (`name`, or what the data set calls it: `poi`, `event`, `location`).
    """

    id: str
    domain: str
    attributes: Mapping[str, str]

    @property
    def name(self) -> str:
        """Value of the first attribute: what the entity is called."""
        return next(iter(self.attributes.values()), "")


@dataclass(frozen=True, slots=True)
class Turn:
    """One system turn of a dialogue: context, reference response, and the entities it refers to.

    Only `context`, `dynamic` and (in the condensed setting) `kb` are known when the system must answer; all else is for
    training and scoring.

    Attributes:
        id: `<dialogue>#<turn>`, unique.
        dialogue: Dialogue id.
        turn: 0-based index of the system turn.
        domain: Domain of the dialogue.
        kind: `response`, or `api_call` (the system's output is a separate query line, as in CamRest676).
        context: Utterances before this turn, oldest first, the user's first; user and system take turns.
        response: Reference response, lower case, blanks for underscores.
        gold_values: Attribute values annotated (or found) in the response.
        gold_entities: Ids of the entities that the response names, or that are known to be meant; empty where unknown.
        kb: Ids of the dialogue's own (condensed) knowledge base; empty where it has none.
        dynamic: Results of a real-time query that belong to no entity: `ref` (booking), `choice` (number of options). In prepared
            data only what has been issued up to and with this turn's answer (`models.dialogue.data.dynamic_values`).
        first_mention: Whether the response names an entity that the context has not named.
    """

    id: str
    dialogue: str
    turn: int
    domain: str
    context: tuple[str, ...]
    response: str
    kind: TurnKind = "response"
    gold_values: tuple[str, ...] = ()
    gold_entities: tuple[str, ...] = ()
    kb: tuple[str, ...] = ()
    dynamic: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first_mention: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict, its fields in the order of the files."""
        return {
            "id": self.id,
            "dialogue": self.dialogue,
            "turn": self.turn,
            "domain": self.domain,
            "kind": self.kind,
            "context": list(self.context),
            "response": self.response,
            "gold_values": list(self.gold_values),
            "gold_entities": list(self.gold_entities),
            "kb": list(self.kb),
            "dynamic": {k: list(v) for k, v in self.dynamic.items()},
            "first_mention": self.first_mention,
        }


KB, VALUES, STATS = "kb.jsonl", "values.json", "stats.json"


def write_turns(path: Path, turns: Iterable[Turn]) -> int:
    """Write turns as JSON lines; return their number."""
    return write_json_lines(path, (turn.to_json() for turn in turns))


def read_turns(path: Path) -> Iterator[Turn]:
    """Yield the turns of a file.

    Raises:
        ArtifactError: A line is not a turn; names file and line.
    """
    return read_json_lines(path, Turn, what="turn")


def write_kb(path: Path, entities: Iterable[Entity]) -> int:
    """Write entities as JSON lines; return their number."""
    return write_json_lines(path, (to_row(entity) for entity in entities))


def read_kb(path: Path) -> Iterator[Entity]:
    """Yield the entities of a file.

    Raises:
        ArtifactError: A line is not an entity; names file and line.
    """
    return read_json_lines(path, Entity, what="entity")


def splits_of(data: Path) -> dict[str, Path]:
    """Return the turn files of a dialogue artifact by split."""
    return {split: data / f"{split}.jsonl" for split in ("train", "valid", "test")}


class TurnFile(Sequence[Turn]):
    """Random access to a file of `write_turns` through memory-mapped line offsets."""

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
            ArtifactError: A line is not a turn; names file and line.
        """
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        line = os.pread(self._file.fileno(), stop - start, start)  # no shared position: threads and forks may read
        return parse_json_line(line, Turn, what="turn", path=self._path, number=row + 1)
