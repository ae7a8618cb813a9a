"""The two published copies of MultiWOZ: CDNet's annotated system turns, and GraphDialog's text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord, require_object, require_text, shown
from models.corpus.file_kind import READ_ERRORS
from models.corpus.rows import open_text, read_array
from models.dialogue.data.readers.base import ReadLog, plain, texts_of, unreadable, values_of

DYNAMIC = ("ref", "choice")


@dataclass(frozen=True, slots=True)
class Session:
    """Query results available to a dialogue's system: venue rows (name → attribute → value), and dynamic values by kind."""

    rows: Mapping[str, Mapping[str, str]]
    dynamic: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CdnetTurn:
    """One system turn; `number` is its 0-based place in the dialogue `dialogue`, `where` its file and record."""

    where: str
    dialogue: int
    number: int
    domain: str
    context: tuple[str, ...]
    response: str
    gold_values: tuple[str, ...]
    session: Session


def read_cdnet(path: Path, *, log: ReadLog) -> list[CdnetTurn]:
    """Return the turns of a file in order; malformed ones go to `log`.

    Raises:
        DataError: The file is missing or damaged as a whole.
    """
    turns: dict[tuple[int, int], CdnetTurn] = {}
    for number, row in read_array(path):
        where = f"{path} record {number}"
        try:
            turn = _turn(row, where=where)
            if (key := (turn.dialogue, turn.number)) in turns:
                raise BadRecord("must be a unique turn", f"turn {turn.number} of dialogue {turn.dialogue}")
            turns[key] = turn
        except BadRecord as bad:
            log.add(bad.at(where))
    return list(turns.values())


def dialogues_of(turns: Sequence[CdnetTurn]) -> dict[int, list[CdnetTurn]]:
    """Return the turns by dialogue, in order."""
    dialogues: dict[int, list[CdnetTurn]] = {}
    for turn in turns:
        dialogues.setdefault(turn.dialogue, []).append(turn)
    return dialogues


def _turn(row: Any, *, where: str) -> CdnetTurn:
    row = require_object(row)
    if not isinstance(row.get("did"), int):
        raise BadRecord("must have a number in `did`", shown(row.get("did")))
    context = tuple(map(plain, texts_of(row, "context")))
    if len(context) % 2 == 0:
        raise BadRecord("must have alternating utterances of user and system in `context`, the user last", str(len(context)))
    return CdnetTurn(
        where=where,
        dialogue=row["did"],
        number=len(context) // 2,
        domain=require_text(row, "type"),
        context=context,
        response=plain(require_text(row, "output")),
        gold_values=tuple(values_of(row, "gold_entities")),
        session=_session(row.get("kb")),
    )


def _session(kb: Any) -> Session:
    if not isinstance(kb, list) or not all(_is_row(row) for row in kb):
        raise BadRecord("must have a list of rows with a `name` and text values in `kb`", shown(kb))
    rows: dict[str, dict[str, str]] = {}
    dynamic: dict[str, dict[str, None]] = {}
    for row in kb:
        values = {key: plain(str(value)) for key, value in row.items()}
        for kind in DYNAMIC:
            if kind in values:
                dynamic.setdefault(kind, {})[values.pop(kind)] = None
        rows.setdefault(values["name"], {}).update(values)
    return Session(rows, {kind: tuple(dynamic[kind]) for kind in DYNAMIC if kind in dynamic})


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return False
    return all(isinstance(value, str | int) and not isinstance(value, bool) for value in row.values())


@dataclass(frozen=True, slots=True)
class TextDialogue:
    """One dialogue: `exchanges` are pairs of the user's and the system's utterance."""

    number: int
    domain: str
    exchanges: tuple[tuple[str, str], ...]

    def user_text(self) -> str:
        """Return all utterances of the user."""
        return " ".join(user for user, _ in self.exchanges)

    def system_texts(self) -> tuple[str, ...]:
        """Return the system's utterances."""
        return tuple(system for _, system in self.exchanges)


def read_graphdialog(path: Path, *, domains: frozenset[str], log: ReadLog) -> list[TextDialogue]:
    """Return the dialogues of a file (`#domain#`, then lines `<n> <user>`, tab, `<system>`, then an empty line).

    A malformed dialogue goes to `log` and is left out whole, since a later turn without an earlier one is another dialogue; so
    are dialogues of other domains. Numbers count the dialogues of the wanted domains from 0, malformed ones included.

    Raises:
        DataError: The file is missing or damaged as a whole.
    """
    dialogues, number = [], 0
    for line, block in _blocks(path):
        domain = block[0].strip("#")
        if block[0].startswith("#") and domain not in domains:
            log.left_out["other_domain"] += len(block) - 1
            continue
        try:
            dialogues.append(TextDialogue(number, domain, tuple(_exchanges(block))))
        except BadRecord as bad:
            log.add(bad.at(f"{path}:{line}"))
        number += 1
    return dialogues


def _blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first line, lines) of every run of lines that are not empty."""
    for blank, lines in groupby(_lines(path), key=lambda numbered: not numbered[1].strip()):
        if not blank:
            block = list(lines)
            yield block[0][0], [text for _, text in block]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_text(path) as text:
            for number, line in enumerate(text, start=1):
                yield number, line.rstrip("\r\n")
    except READ_ERRORS as err:
        raise unreadable(path, "must be a readable text file", str(err)) from err


def _exchanges(block: Iterable[str]) -> Iterator[tuple[str, str]]:
    header, *lines = block
    if not header.startswith("#"):
        raise BadRecord("must begin with a line `#domain#`", repr(header[:60]))
    if not lines:
        raise BadRecord("must have at least one exchange", repr(header))
    for place, line in enumerate(lines, start=1):
        number, _, rest = line.partition(" ")
        user, tab, system = rest.partition("\t")
        if number != str(place) or not (user.strip() and tab and system.strip()):
            raise BadRecord(f"must have `{place} <user>`, a tab and `<system>` in its line {place + 1}", repr(line[:60]))
        yield user, system
