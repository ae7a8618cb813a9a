"""Reader of SMD (KVRET): in-car dialogues, each with its own knowledge base.

Files below `dialogues.path`: `convlab3/data.zip` (all dialogues in ConvLab-3's unified form, the rows of a dialogue in
`db_results` of its system turns) and `mem2seq/kvret_entities.json` (the entity list of Entity F1).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord, require_object, require_text, shown
from models.corpus.rows import read_array
from models.corpus.text import PUBLISHED
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import with_mentions
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import DialogueSource, ReadLog, attributes_of, join_speakers, load_json, plain, unreadable
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.errors import ParamsError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

_ARCHIVE, _MEMBER = "convlab3/data.zip", "data/dialogues.json"
_ENTITY_LIST = "mem2seq/kvret_entities.json"
_SPLITS: Mapping[str, Split] = {"train": "train", "validation": "valid", "test": "test"}
# "20-30f" is written for "20f-30f".
_DEGREES = re.compile(r"(\d+)-(\d+)f\b")


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """A dialogue as the file has it: utterances, alternating between user and system, and the attributes of its rows."""

    id: str
    split: Split
    domain: str
    utterances: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Read SMD: the entities are the rows of all dialogues, with ids `<dialogue>/<row>`.

    Gold values are those of the entity list in the response (longest first), in the order of the response.

    Raises:
        DataError: A file is missing or damaged.
        ParamsError: The setting is not `condensed`: rows of two dialogues contradict each other.
    """
    if cfg.setting != "condensed":
        rule = "must be `condensed` for `smd`, where each dialogue has its own map, calendar or forecast"
        raise ParamsError("SMD has no large-scale setting", [Problem("`dialogues.setting`", rule, f"`{cfg.setting}`")])
    folder, log = root / cfg.path, ReadLog()
    values = _entity_list(folder / _ENTITY_LIST)
    entities, rows = _knowledge_base(folder, log)
    index, finder = ValueIndex(KnowledgeBase(entities)), ValueFinder()
    forms = {value: matchable(value, rule=PUBLISHED) for value in values}
    numbers = {finder.add(form): value for value, form in forms.items() if form}

    def stream(split: Split) -> Iterator[Turn]:
        for dialogue in _dialogues(folder, log):
            if dialogue.split == split:
                own = rows[dialogue.id]
                kb = tuple(entities[row].id for row in own)
                for turn in _turns(dialogue, kb, finder, numbers):
                    yield with_mentions(turn, index, rows=own)

    return DialogueSource(entities, values, stream, log)


def _knowledge_base(folder: Path, log: ReadLog) -> tuple[list[Entity], dict[str, range]]:
    """Return the rows of all dialogues, duplicates within a dialogue merged, and each dialogue's rows."""
    entities: list[Entity] = []
    rows: dict[str, range] = {}
    for dialogue in _dialogues(folder, log):
        first, seen = len(entities), set()
        for number, attributes in enumerate(dialogue.rows):
            if (key := tuple(attributes.items())) in seen:
                log.left_out["duplicate_kb_row"] += 1
                continue
            seen.add(key)
            entities.append(Entity(f"{dialogue.id}/{number}", dialogue.domain, attributes))
        rows[dialogue.id] = range(first, len(entities))
    return entities, rows


def _turns(dialogue: _Dialogue, kb: tuple[str, ...], finder: ValueFinder, values: Mapping[int, str]) -> Iterator[Turn]:
    for place in range(1, len(dialogue.utterances), 2):
        response = dialogue.utterances[place]
        said = finder.longest_spans(matchable(_DEGREES.sub(r"\1f-\2f", response), rule=PUBLISHED))
        yield Turn(
            id=f"{dialogue.id}#{place // 2}",
            dialogue=dialogue.id,
            turn=place // 2,
            domain=dialogue.domain,
            context=dialogue.utterances[:place],
            response=response,
            gold_values=tuple(dict.fromkeys(values[number] for *_, number in said)),
            kb=kb,
        )


def _dialogues(folder: Path, log: ReadLog) -> Iterator[_Dialogue]:
    path, seen = folder / _ARCHIVE, set()
    for number, record in read_array(path, member=_MEMBER):
        try:
            dialogue = _parse(record)
            if dialogue.id in seen:
                raise BadRecord("must have a unique `dialogue_id`", repr(record["dialogue_id"]))
            seen.add(dialogue.id)
            yield dialogue
        except BadRecord as bad:
            log.add(bad.at(f"{path}:{_MEMBER} dialogue {number}"))


def _parse(record: object) -> _Dialogue:
    record = require_object(record)
    wanted = record.get("data_split")
    split = _SPLITS.get(wanted) if isinstance(wanted, str) else None
    if split is None:
        raise BadRecord("must have `data_split` train, validation or test", shown(record.get("data_split")))
    domains, turns = record.get("domains"), record.get("turns")
    if not isinstance(domains, list) or len(domains) != 1 or not isinstance(domains[0], str):
        raise BadRecord("must have one domain in `domains`", shown(domains))
    if not isinstance(turns, list) or not turns:
        raise BadRecord("must have a list of turns in `turns`", shown(turns))
    name = require_text(record, "dialogue_id").removeprefix("kvret-").replace("validation", "val")
    utterances = _utterances(turns)
    answers = (turn.get("db_results") for turn in turns if turn["speaker"] == "system")
    return _Dialogue(f"smd-{name}", split, domains[0], utterances, _rows(next(answers, {}), domains[0]))


def _utterances(turns: Sequence[Any]) -> tuple[str, ...]:
    said: list[tuple[str, str]] = []
    for number, turn in enumerate(turns):
        speaker = turn.get("speaker") if isinstance(turn, Mapping) else None
        if speaker not in ("user", "system") or (not number and speaker != "user"):
            raise BadRecord(f"must have a turn by the user{' or the system' if number else ''} in `turns[{number}]`", shown(turn))
        text = turn.get("utterance")
        if not isinstance(text, str):
            raise BadRecord(f"must have text in `turns[{number}].utterance`", shown(text))
        said.append((speaker, plain(text)))
    return tuple(text for _, text in join_speakers(said))


def _rows(results: object, domain: str) -> tuple[dict[str, str], ...]:
    rows = results.get(domain, []) if isinstance(results, Mapping) else results
    if not isinstance(rows, list):
        raise BadRecord(f"must have a list of rows in `db_results.{domain}`", shown(rows))
    return tuple(attributes_of(row, within=f"db_results.{domain}[{number}]") for number, row in enumerate(rows))


def _entity_list(path: Path) -> list[str]:
    """Return the values of all kinds, blanks for underscores, each once."""
    kinds = load_json(path)
    if not isinstance(kinds, Mapping) or not all(isinstance(items, list) for items in kinds.values()):
        raise unreadable(path, "must hold an object of lists", shown(kinds))
    values: dict[str, None] = {}
    for items in kinds.values():
        for item in items:
            texts = item.values() if isinstance(item, Mapping) else [item]
            values.update((plain(str(text)), None) for text in texts)
    return list(values)
