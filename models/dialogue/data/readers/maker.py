"""Reads MAKER's processed files, the form in which MK-TOD's group publishes its data sets.

Files below `dialogues.path`: `train.json`, `val.json`, `test.json` (lists of system turns), `all_db.json` (the knowledge base of
all dialogues) and, where it is there, `entities.json` (kind → values: the entity list of Entity F1). Everything is lower-cased.
Fields of a turn that are read:

    did            dialogue
    type           domain
    context_used   "<user> … <sys> … <user> …"; `<api>` is the user's side of a query, `<sys-api>` the system's; consecutive
                   utterances of one side are joined
    output_used    "<sys> …" or, for a query that is not a response, "<sys-api> …"
    gold_entities  values in the response, underscores for blanks
    kb             rows of the dialogue's own knowledge base; `ref` and `choice` become the turn's dynamic values
    gt_db_idx      their places in `all_db.json`; needed in the condensed setting

`attributes_value_times` is not read: it follows from the texts.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord, require_object, require_text, shown
from models.corpus.rows import read_array
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import with_mentions
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import (
    SPLITS,
    DialogueSource,
    ReadLog,
    attributes_of,
    cell_text,
    join_speakers,
    load_json,
    plain,
    unreadable,
    values_of,
)
from models.dialogue.data.records import MISSING, Entity, Turn
from models.errors import DataError
from models.params.dialogues import DialoguesParams
from models.schema import Split

_FILES: Mapping[Split, str] = {"train": "train.json", "valid": "val.json", "test": "test.json"}
_NAMES = ("name", "poi", "event", "location")
_DYNAMIC = ("ref", "choice")
_MARK = re.compile(r"<(user|sys|api|sys-api)>")
_USER_SIDE = frozenset({"user", "api"})


@dataclass(frozen=True, slots=True)
class _Example:
    """A parsed record: the turn, and the rows of its dialogue's own knowledge base."""

    turn: Turn
    rows: tuple[int, ...]


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Read MAKER's files: entities `db-<row>`, turns `<split>-<did>#<turn>`.

    Raises:
        DataError: A file is missing or damaged, or the knowledge base malformed.
    """
    folder, log = root / cfg.path, ReadLog()
    rows = _database(folder / "all_db.json")
    domains = _domains(folder, rows, log)
    kb = KnowledgeBase(Entity(f"db-{number}", domains[number], row) for number, row in enumerate(rows))
    index = ValueIndex(kb)
    names_differ = len({entity.name for entity in kb.entities}) == len(kb)

    def stream(split: Split) -> Iterator[Turn]:
        for example in _examples(folder, split, len(rows), log, condensed=cfg.setting == "condensed"):
            own = None if names_differ or not example.rows else example.rows
            turn = with_mentions(example.turn, index, rows=own)
            yield replace(turn, kb=tuple(kb[row].id for row in example.rows) if cfg.setting == "condensed" else ())

    return DialogueSource(kb.entities, _values(folder / "entities.json", rows), stream, log, {"choice": "later"})


def _database(path: Path) -> list[dict[str, str]]:
    rows, problems = [], []
    for number, row in read_array(path):
        try:
            rows.append(_attributes(row))
        except BadRecord as bad:
            problems.append(bad.at(f"{path} row {number}"))
    if problems:
        raise DataError("MAKER's knowledge base is malformed", problems)
    return rows


def _attributes(row: object) -> dict[str, str]:
    found = attributes_of(row, within="row", leave_out=frozenset(_DYNAMIC))
    name = next((key for key in _NAMES if key in found), None)
    if name is None:
        raise BadRecord(f"must have one of the fields {', '.join(f'`{key}`' for key in _NAMES)}", shown(row))
    return {name: found.pop(name), **found}


def _domains(folder: Path, rows: Sequence[Mapping[str, str]], log: ReadLog) -> list[str]:
    """Return each row's domain: that of the dialogues which have it among their rows, else of rows of the same type."""
    by_row = [Counter[str]() for _ in rows]
    by_type: dict[str, Counter[str]] = {}
    every: Counter[str] = Counter()
    for split in SPLITS:
        for example in _examples(folder, split, len(rows), log, condensed=False):
            every[example.turn.domain] += 1
            for place in example.rows:
                by_row[place][example.turn.domain] += 1
    for row, counts in zip(rows, by_row, strict=True):
        by_type.setdefault(row.get("type", ""), Counter()).update(counts)
    chosen = (counts or by_type[row.get("type", "")] or every for row, counts in zip(rows, by_row, strict=True))
    return [counts.most_common(1)[0][0] if counts else "unknown" for counts in chosen]


def _examples(folder: Path, split: Split, num_rows: int, log: ReadLog, *, condensed: bool) -> Iterator[_Example]:
    path, seen = folder / _FILES[split], set()
    for number, record in read_array(path):
        try:
            example = _parse(record, split, num_rows, condensed=condensed)
            if example.turn.id in seen:
                raise BadRecord("must be a unique turn", repr(example.turn.id))
            seen.add(example.turn.id)
            yield example
        except BadRecord as bad:
            log.add(bad.at(f"{path} record {number}"))


def _parse(record: object, split: Split, num_rows: int, *, condensed: bool) -> _Example:
    record = require_object(record)
    if not isinstance(did := record.get("did"), int | str):
        raise BadRecord("must have a dialogue id in `did`", shown(did))
    context = _utterances(require_text(record, "context_used").lower(), "context_used")
    output = join_speakers(_utterances(require_text(record, "output_used").lower(), "output_used"))
    if len(output) != 1 or output[0][0] in _USER_SIDE:
        raise BadRecord("must have one utterance, of `<sys>` or `<sys-api>`, in `output_used`", shown(record["output_used"]))
    spoken = join_speakers(("user" if mark in _USER_SIDE else "system", text) for mark, text in context)
    if spoken[0][0] != "user" or spoken[-1][0] != "user":
        marks = " ".join(f"<{mark}>" for mark, _ in context)
        raise BadRecord("must alternate between user and system, the user first and last, in `context_used`", marks)
    dialogue, number = f"{split}-{did}", len(spoken) // 2
    turn = Turn(
        id=f"{dialogue}#{number}",
        dialogue=dialogue,
        turn=number,
        domain=plain(require_text(record, "type")),
        kind="api_call" if output[0][0] == "sys-api" else "response",
        context=tuple(text for _, text in spoken),
        response=output[0][1],
        gold_values=tuple(values_of(record, "gold_entities")),
        dynamic=_dynamic(record.get("kb", [])),
    )
    return _Example(turn, _rows(record, num_rows, condensed=condensed))


def _utterances(text: str, field: str) -> list[tuple[str, str]]:
    """Return (mark, utterance) of a marked text."""
    before, *parts = _MARK.split(text)
    if before.strip() or not parts:
        raise BadRecord(f"must begin with `<user>`, `<sys>`, `<api>` or `<sys-api>` in `{field}`", shown(text))
    said = [(mark, plain(utterance)) for mark, utterance in zip(parts[::2], parts[1::2], strict=True)]
    if empty := [mark for mark, utterance in said if not utterance]:
        raise BadRecord(f"must have text after each mark in `{field}`", f"`<{empty[0]}>` without text")
    return said


def _rows(record: Mapping[str, Any], num_rows: int, *, condensed: bool) -> tuple[int, ...]:
    places = record.get("gt_db_idx", None if condensed else [])
    if not isinstance(places, list) or not all(isinstance(place, int) and 0 <= place < num_rows for place in places):
        raise BadRecord(f"must have a list of rows of `all_db.json` (0 to {num_rows - 1}) in `gt_db_idx`", shown(places))
    return tuple(dict.fromkeys(places))


def _dynamic(rows: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise BadRecord("must have a list of rows in `kb`", shown(rows))
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for kind in _DYNAMIC:
            if value := _cell(row.get(kind), kind):
                found.setdefault(kind, {})[value] = None
    return {kind: tuple(values) for kind, values in found.items()}


def _cell(value: object, kind: str) -> str:
    try:
        return cell_text(value)
    except TypeError as error:
        raise BadRecord(f"must have text or a number in `kb.{kind}`", shown(value)) from error


def _values(path: Path, rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not path.exists():
        return list(dict.fromkeys(value for row in rows for value in row.values()))
    kinds = load_json(path)
    if not isinstance(kinds, Mapping) or not all(isinstance(values, list) for values in kinds.values()):
        raise unreadable(path, "must hold an object of lists", shown(kinds))
    values = (item.values() if isinstance(item, Mapping) else [item] for items in kinds.values() for item in items)
    return [text for text in dict.fromkeys(plain(str(v)) for some in values for v in some) if text not in MISSING]
