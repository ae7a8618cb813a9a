"""Reads CDNet's MultiWOZ files: annotated system turns with the rows of their dialogue's knowledge base.

Every row of a dialogue's knowledge base carries what the booking system answered in that dialogue (`ref`, `choice`); these are
taken off the rows: they belong to the dialogue, not to a venue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.json_array import read_array
from models.data.tod_reader import ReadLog
from models.data.tod_rows import plain, texts_of, values_of
from models.data.validate import BadRecord, require_object, require_text, shown

DYNAMIC = ("ref", "choice")


@dataclass(frozen=True, slots=True)
class Session:
    """What a dialogue's system could look up: rows of venues (name → attribute → value), and dynamic values by kind."""

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
                raise BadRecord("must be a turn of its own", f"turn {turn.number} of dialogue {turn.dialogue}")
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
        raise BadRecord("must have the user's and the system's utterances in `context`, a user's last", str(len(context)))
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
