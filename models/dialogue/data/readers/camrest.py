"""Reads CamRest676: one domain, 110 restaurants; the dialogues in CDNet's split and wording, the knowledge base of NNDIAL.

Files below `dialogues.path`: `cdnet/{train,val,test}.json.gz` (one record a system turn), `cdnet/entities.json` (entity list of
Entity F1), `nndial/CamRestDB.json`. The system may answer with an API query (`api_call <food> <area> <pricerange>`), whose result
the later turns of the dialogue carry in `kb`; the user then says `<silence>`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from models.corpus.fields import BadRecord, require_object, require_text, shown
from models.corpus.rows import read_array
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import pad_with_distractors, with_mentions
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import (
    DialogueSource,
    ReadLog,
    attributes_of,
    load_json,
    plain,
    texts_of,
    unreadable,
    values_of,
)
from models.dialogue.data.records import Entity, Turn
from models.errors import DataError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

# Entities of a dialogue's own knowledge base (Table 7 of MK-TOD).
CONDENSED_SIZE = 7
_ATTRIBUTES = ("name", "address", "area", "food", "phone", "postcode", "pricerange")
_FILES: Mapping[Split, str] = {"train": "train", "valid": "val", "test": "test"}
_API = "api_call "


@dataclass(frozen=True, slots=True)
class _Said:
    """A turn, the names that the API had returned by then, and the turn's position for error messages."""

    turn: Turn
    returned: tuple[str, ...]
    where: str


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Read CamRest676: entities by name, gold values as CDNet annotates them, API queries as turns of kind `api_call`.

    In the condensed setting a dialogue has 7 entities: those named in it, then what its API query returned, in order; filled up
    with those that share most values with the last query.

    Raises:
        DataError: A file is missing or damaged, or the knowledge base malformed.
    """
    folder, log = root / cfg.path, ReadLog()
    kb = KnowledgeBase(_entities(folder / "nndial/CamRestDB.json"))
    values = _entity_list(folder / "cdnet/entities.json")
    index = ValueIndex(kb)

    def stream(split: Split) -> Iterator[Turn]:
        for dialogue in _dialogues(folder, split, index, log):
            own = _condensed(dialogue, index) if cfg.setting == "condensed" else ()
            yield from (replace(said.turn, kb=own) for said in dialogue)

    return DialogueSource(kb.entities, values, stream, log)


def _dialogues(folder: Path, split: Split, index: ValueIndex, log: ReadLog) -> Iterator[list[_Said]]:
    seen: set[str] = set()
    for id, group in groupby(_records(folder, split, log), key=lambda said: said.turn.dialogue):
        dialogue: dict[str, _Said] = {}
        for said in group:
            if id in seen or said.turn.id in dialogue:
                log.add(Problem(said.where, "must be a unique turn, adjacent to the others of its dialogue", repr(said.turn.id)))
            else:
                dialogue[said.turn.id] = replace(said, turn=with_mentions(said.turn, index))
        seen.add(id)
        if dialogue:
            yield list(dialogue.values())


def _records(folder: Path, split: Split, log: ReadLog) -> Iterator[_Said]:
    name = _FILES[split]
    path = folder / f"cdnet/{name}.json.gz"
    for number, record in read_array(path):
        where = f"{path} record {number}"
        try:
            yield _parse(record, name, where)
        except BadRecord as bad:
            log.add(bad.at(where))


def _parse(record: object, name: str, where: str) -> _Said:
    record = require_object(record)
    context, output = texts_of(record, "context"), require_text(record, "output")
    if len(context) % 2 == 0:
        raise BadRecord("must have alternating utterances of user and system in `context`, the user last", f"{len(context)}")
    if not isinstance(did := record.get("did"), int | str):
        raise BadRecord("must have a dialogue id in `did`", shown(did))
    rows = record.get("kb")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise BadRecord("must have a list of rows in `kb`", shown(rows))
    dialogue, number = f"camrest-{name}-{did}", len(context) // 2
    turn = Turn(
        id=f"{dialogue}#{number}",
        dialogue=dialogue,
        turn=number,
        domain="restaurant",
        kind="api_call" if output.startswith(_API) else "response",
        context=tuple(map(plain, context)),
        response=plain(output),
        gold_values=tuple(values_of(record, "gold_entities")),
    )
    return _Said(turn, tuple(plain(require_text(row, "name")) for row in rows), where)


def _condensed(dialogue: Sequence[_Said], index: ValueIndex) -> tuple[str, ...]:
    """Return the ids of a dialogue's own entities in the order of the knowledge base, which reveals nothing about them."""
    turns = [said.turn for said in dialogue]
    texts = (*turns[-1].context, turns[-1].response)
    returned = {name: None for said in dialogue for name in said.returned}
    queries = [turn.response for turn in turns if turn.kind == "api_call"]
    first = [*index.rows_named(texts), *index.rows_named(returned)]
    rows = pad_with_distractors(first, index, size=CONDENSED_SIZE, like=queries[-1:], key=turns[0].dialogue)
    return tuple(index.kb[row].id for row in rows)


def _entities(path: Path) -> list[Entity]:
    """Return the restaurants by name; what they do not have is absent."""
    rows = load_json(path)
    if not isinstance(rows, list):
        raise unreadable(path, "must hold a list of restaurants", shown(rows))
    entities, problems = [], []
    for number, row in enumerate(rows, start=1):
        try:
            entities.append(_entity(row))
        except BadRecord as bad:
            problems.append(bad.at(f"{path} row {number}"))
    if problems:
        raise DataError("The knowledge base of CamRest676 is malformed", problems)
    return sorted(entities, key=lambda entity: (entity.name, entity.id))


def _entity(row: object) -> Entity:
    known = attributes_of(row, within="restaurant")
    for needed in ("id", "name"):
        if needed not in known:
            raise BadRecord(f"must have the field `{needed}`", shown(row))
    if "postcode" in known:
        # "C.B 2, 1 A.B" in the file, "cb21ab" in the dialogues.
        known["postcode"] = known["postcode"].translate({ord(sign): None for sign in " .,"})
    return Entity(f"camrest-{known['id']}", "restaurant", {name: known[name] for name in _ATTRIBUTES if name in known})


def _entity_list(path: Path) -> list[str]:
    listed = load_json(path)
    if not isinstance(listed, Mapping):
        raise unreadable(path, "must hold an object with `all_entities_list`", shown(listed))
    try:
        return list(dict.fromkeys(plain(text) for text in texts_of(listed, "all_entities_list")))
    except BadRecord as bad:
        raise unreadable(path, bad.rule, bad.value) from bad
