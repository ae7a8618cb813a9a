"""What every reader of task-oriented dialogue data gives: a knowledge base, turns by split, and what could not be read.

A reader module has `read(cfg: DialoguesParams, *, root: Path) -> DialogueSource`. It raises `DataError` only where a file as a
whole is missing or damaged; a malformed record goes to the log and is left out, and `prepare_dialogues` decides whether the log
stops the stage.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from models.data.dialogue import Entity, Turn
from models.errors import Problem
from models.schema import Split

KnownFrom = Literal["query", "answer", "later"]
"""From when on a dynamic value is known. `query`: it is computed from the knowledge base and what was asked for, for every turn
that has it. `answer`: a call returns it just before the answer that says it (a booking). `later`: it is the wording of an answer
(`several`), known once it has been said."""
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
# More problems than this are only counted: a file of another kind has one in every record.
_MOST_PROBLEMS = 10_000


@dataclass(slots=True)
class ReadLog:
    """Malformed records, and what was left out on purpose.

    Attributes:
        problems: The first ten thousand findings.
        left_out: Reason → rows, such as `malformed`, `duplicate_kb_row`; reported in the statistics.
    """

    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    _places: set[int] = field(default_factory=set)

    def add(self, problem: Problem) -> None:
        """Record a finding; one that is already there is not counted again (turns may be read twice)."""
        place = hash((problem.where, problem.rule, problem.value))
        if place in self._places:
            return
        self._places.add(place)
        self.left_out["malformed"] += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class DialogueSource:
    """Dialogues and their knowledge base, as one of the readers gives them.

    Attributes:
        entities: The whole knowledge base, ids unique; in a data set whose dialogues have rows of their own (SMD) the union of
            all sessions with ids `<dialogue>/<row>`.
        values: Entity list of Entity F1 as published with the data set, else all values of the knowledge base.
        stream: Split → a fresh iterator over its turns, dialogue by dialogue; malformed ones go to `log`.
        log: What could not be read, or was left out; complete once every split has been streamed.
        known_from: Dynamic value's name → from when on it is known; the default is `answer`.
    """

    entities: Sequence[Entity]
    values: Sequence[str]
    stream: Callable[[Split], Iterator[Turn]]
    log: ReadLog = field(default_factory=ReadLog)
    known_from: Mapping[str, KnownFrom] = field(default_factory=dict)

    def turns(self, split: Split) -> Iterator[Turn]:
        """Return the turns of a split in order, from the beginning at each call."""
        return self.stream(split)
