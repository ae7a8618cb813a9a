"""Interface of dialogue readers, and parsing shared by the published data sets."""

import json
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from models.corpus.fields import BadRecord, has_lone_surrogate, shown
from models.corpus.file_kind import READ_ERRORS
from models.corpus.rows import open_text
from models.corpus.text import replace_lone_surrogates
from models.dialogue.data.records import MISSING, Entity, Turn
from models.errors import DataError, Problem
from models.schema import Split

KnownFrom = Literal["query", "answer", "later"]
"""When a dynamic value becomes known. `query`: it is computed from the knowledge base and what was asked for, for every turn
that has it. `answer`: a call returns it just before the answer that says it (a booking). `later`: it is the wording of an answer
(`several`), known once it has been said."""
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
# More problems than this are only counted: in a file of the wrong kind every record is one.
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
    """Dialogues and their knowledge base, as a reader returns them.

    Attributes:
        entities: The whole knowledge base, ids unique; in a data set whose dialogues have rows of their own (SMD) the union of
            all sessions with ids `<dialogue>/<row>`.
        values: Entity list of Entity F1 as published with the data set, else all values of the knowledge base.
        stream: Split → a fresh iterator over its turns, dialogue by dialogue; malformed ones go to `log`.
        log: Unreadable and excluded records; complete once every split has been streamed.
        known_from: Dynamic value's name → when it becomes known; the default is `answer`.
    """

    entities: Sequence[Entity]
    values: Sequence[str]
    stream: Callable[[Split], Iterator[Turn]]
    log: ReadLog = field(default_factory=ReadLog)
    known_from: Mapping[str, KnownFrom] = field(default_factory=dict)

    def turns(self, split: Split) -> Iterator[Turn]:
        """Return the turns of a split in order, from the beginning at each call."""
        return self.stream(split)


def plain(text: str) -> str:
    """Return a published text as the records have it: lower case, blanks for underscores, single blanks."""
    return " ".join(text.lower().replace("_", " ").split())


def cell_text(value: object) -> str:
    """Return a cell of a table as a value: text as `plain` gives it, `yes` or `no`, a number without exponent or trailing `.0`.

    `40.0` is `40`. Empty where the value is missing: null, NaN, an infinity, a word of `MISSING`.

    Raises:
        TypeError: The cell holds a list or an object.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _number(value) if math.isfinite(value) else ""
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise TypeError(type(value).__name__)
    text = plain(str(value))
    return "" if unicodedata.normalize("NFKC", text) in MISSING else text


def given_values(value: object) -> list[Any]:
    """Return what a field holds, a value or a list of them, as values; missing ones are left out.

    Anything but text and numbers (a list, an object, true or false) is kept as is, for the caller to reject by name.
    """
    given = value if isinstance(value, list) else [value]
    kept = (v if isinstance(v, bool | list | Mapping) else cell_text(v) for v in given)
    return [v for v in kept if v != ""]


def _number(value: float) -> str:
    return format(Decimal(repr(value + 0.0)), "f").removesuffix(".0")


def attribute_name(name: str) -> str:
    """Return the name of a field as attributes have it: without blanks around it, case folded, in one Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


def same_names(names: Iterable[str]) -> list[str]:
    """Return the names that coincide with another one once normalised, in their order; `_` counts as a blank."""
    read = {name: attribute_name(attribute_name(name).replace("_", " ")) for name in names}
    counts = Counter(read.values())
    return [name for name, text in read.items() if counts[text] > 1]


def attributes_of(row: object, *, within: str, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the attributes of a row of a knowledge base in its order; missing values are absent.

    Args:
        row: A mapping of names to texts or numbers.
        within: Which part of the record it is, for the message.
        leave_out: Names of fields that are not attributes.

    Raises:
        BadRecord: The row is not a mapping, two of its names coincide, or a value is a list or an object.
    """
    if not isinstance(row, Mapping):
        raise BadRecord(f"must have a JSON object in `{within}`", shown(row))
    if has_lone_surrogate(row):
        raise BadRecord(f"must have valid Unicode in `{within}`", "half a surrogate pair")
    if same := same_names(row):
        raise BadRecord(f"must have distinct field names in `{within}`", ", ".join(map(repr, same)))
    attributes = {}
    for name, value in row.items():
        if name in leave_out:
            continue
        try:
            text = cell_text(value)
        except TypeError as error:
            raise BadRecord(f"must have text or a number in `{within}.{name}`", shown(value)) from error
        if text:
            attributes[attribute_name(name)] = text
    return attributes


def texts_of(record: Mapping[str, Any], field: str) -> list[str]:
    """Return the texts listed in `field`.

    Raises:
        BadRecord: There is no list of texts.
    """
    texts = record.get(field)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRecord(f"must have a list of texts in `{field}`", shown(texts))
    return texts


def values_of(record: Mapping[str, Any], field: str) -> list[str]:
    """Return the values listed in `field` as texts; they may be numbers.

    Raises:
        BadRecord: There is no list of texts and numbers.
    """
    values = record.get(field)
    if not isinstance(values, list) or not all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in values):
        raise BadRecord(f"must have a list of texts or numbers in `{field}`", shown(values))
    return [plain(value) if isinstance(value, str) else cell_text(value) for value in values]


def load_json(path: Path) -> Any:
    """Return what a small JSON file holds (also compressed); lines before it that begin with `#` are dropped.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with open_text(path) as text:
            content = json.loads("".join(line for line in text if not line.startswith("#")))
    except (*READ_ERRORS, RecursionError) as error:
        raise unreadable(path, "must be a JSON file", str(error)) from error
    if has_lone_surrogate(content):
        raise unreadable(path, "must be valid Unicode", "a file with half a surrogate pair")
    return content


def unreadable(path: Path, rule: str, seen: str) -> DataError:
    """Return the error for a file that is unreadable as a whole."""
    hint = "Fetch the file again, or check `dialogues.path` (relative to the project root)."
    return DataError("Dialogue data cannot be read", [Problem(str(path), rule, seen, hint)])


SPEAKERS = {"user": "user", "assistant": "system", "system": "system"}
"""Role of a message → speaker in the records."""


def join_speakers(said: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return (speaker, text), with consecutive utterances of a speaker joined by a blank."""
    runs = groupby(said, key=lambda one: one[0])
    return [(speaker, " ".join(text for _, text in run if text)) for speaker, run in runs]


def live_context(context: Sequence[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the context of an ongoing conversation in the form of the records (`plain`): alternating, the user last.

    Args:
        context: Oldest first; alternating texts, the user's last, or messages {"role": "user" or "assistant", "content": text}.

    Raises:
        DataError: It holds something else, or does not end with the user.
    """
    turns = [_utterance(item, place, len(context)) for place, item in enumerate(context)]
    # A system that said nothing leaves two adjacent utterances of the user.
    said = join_speakers(turn for turn in turns if turn[1])
    if not said or not turns[-1][1] or said[-1][0] != "user":
        raise _bad("context", "must end with an utterance of the user", shown(context[-1]) if context else "empty")
    return tuple(text for _, text in said)


def _utterance(item: str | Mapping[str, Any], place: int, count: int) -> tuple[str, str]:
    speaker: str | None = ("system", "user")[(count - place) % 2]
    text: object = item
    if isinstance(item, Mapping):
        speaker, text = SPEAKERS.get(str(item.get("role"))), item.get("content")
    if speaker is None or not isinstance(text, str):
        raise _bad(f"context[{place}]", 'must be a text or {"role": "user" or "assistant", "content": text}', shown(item))
    return speaker, plain(replace_lone_surrogates(text))


def _bad(where: str, rule: str, value: str) -> DataError:
    hint = "Give the utterances oldest first, the user's last."
    return DataError("The turn cannot be answered", [Problem(f"`{where}`", rule, value, hint)])
