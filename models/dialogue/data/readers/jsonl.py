"""Reader of user data: a folder with `kb.jsonl`, `train.jsonl`, `valid.jsonl` and `test.jsonl`, one JSON object a line.

A line of `kb.jsonl` is an entity:

    id        required; text or whole number, unique
    name      required; what users and system call it
    domain    kind of entity, such as "hotel"; default "entity". Scores are per domain
    …         every other field is an attribute: text, number (40.0 is 40), true/false (yes/no). Missing values: null, NaN,
              ±Infinity, "", and what data writes for them, in upper or lower case: "?", "-", "none", "null", "nil", "nan",
              "n/a", "<na>", "undefined", "dontknow", "don't know", "not mentioned". An attribute that means it should say "no"

Upper case and blanks around the name of a field do not count: two fields that become one are an error.

A line of a split is one turn of the system:

    dialogue  required; text or whole number; the turns of a dialogue are consecutive, in one split
    context   required; all utterances before the response, oldest first: texts, the user's and the system's by turns, the user's
              first and last; or messages {"role": "user" | "assistant", "content": text}, of which those of one speaker in a row
              are joined
response  required; the system's utterance
    turn      number of the system turn from 0; default: what follows from the length of the context
    domain    default: the domain of the turn's entities, or of all entities if there is one only
    kind      "response" (default) or "api_call" (the system queries: not scored as text)
entities  ids of the entities that the response refers to; default: those whose names it has
    values    values that the response gives (texts or numbers); default: values of the knowledge base found in it
    kb        ids of the dialogue's own knowledge base; required in the condensed setting, else unused
    dynamic   {name: text, number or list} that a real-time query gave and belongs to no entity, such as a booking number

Texts are lower-cased, underscores become blanks. Other fields of a turn are ignored, unless they look like a misspelt one.
`docs/examples/dialogues` is a small example.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord, has_lone_surrogate
from models.corpus.file_kind import READ_ERRORS, UnsupportedFileError
from models.corpus.rows import read_rows
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import with_mentions
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import SPLITS, DialogueSource, ReadLog
from models.dialogue.data.readers.jsonl_schema import Fields, Findings, TurnContext, parse_entity, parse_turn
from models.dialogue.data.records import Entity, Turn
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.errors import DataError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

_KB = "kb.jsonl"
_RULE = "must be a file of JSON lines (also gzip, zstd, xz, bz2) or Parquet"
# Values that are answers rather than properties.
_ANSWERS = frozenset({"yes", "no"})


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Read a folder of JSON lines; malformed lines go to the log with file, line and every finding.

    Args:
        cfg: `path` is the folder, relative to `root`; in the setting `condensed` every turn needs its `kb`.
        root: Project root.

    Raises:
        DataError: A file is missing, is not UTF-8 text, or no line of kb.jsonl is an entity.
    """
    folder, log = root / cfg.path, ReadLog()
    _require_files(folder)
    entities = list(_entities(folder / _KB, log))
    if not entities:
        raise DataError("The knowledge base has no entity that can be used", log.problems or [Problem(_KB, "must have a line")])
    kb = KnowledgeBase(entities)
    known = TurnContext({entity.id: entity.domain for entity in entities}, condensed=cfg.setting == "condensed")
    complete = _Completion(kb)

    def stream(split: Split) -> Iterator[Turn]:
        path, seen = folder / f"{split}.jsonl", dict[int, int]()
        for number, row in _rows(path, log):
            found = Findings(f"{path}:{number}")
            parsed = parse_turn(row, found, known)
            if parsed and (first := seen.setdefault(hash(parsed[0].id), number)) != number:
                found.add("must be unique within its dialogue", f"turn `{parsed[0].id}`, as in line {first}")
            if parsed and not found.problems:
                yield complete(*parsed)
            _log_all(found, log)

    return DialogueSource(entities, complete.values, stream, log)


def problems_in(folder: Path, *, condensed: bool = False) -> list[Problem]:
    """Return every problem in the four files of a folder, so that they can be fixed in one go.

    Raises:
        DataError: As `read`.
    """
    cfg = DialoguesParams(kind="jsonl", path=folder.name or ".", setting="condensed" if condensed else "large_scale")
    source = read(cfg, root=folder.parent)
    for split in SPLITS:
        for _ in source.turns(split):
            pass
    return source.log.problems


class _Completion:
    """Fills in what a line may leave out: entities and values found in the response."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb, self._index, self._finder = kb, ValueIndex(kb), ValueFinder()
        every = dict.fromkeys(value for entity in kb.entities for value in entity.attributes.values())
        self.values = [value for value in every if value not in _ANSWERS]
        self._numbers: dict[int, str] = {}
        for value in self.values:
            if text := matchable(value):
                self._numbers.setdefault(self._finder.add(text), value)

    def __call__(self, turn: Turn, given: frozenset[str]) -> Turn:
        """Return the turn with entities, first mention and values."""
        found = with_mentions(turn, self._index, rows=self._kb.rows(turn.kb) if turn.kb else None)
        if "entities" in given:
            named = {id for id in found.gold_entities if id in turn.gold_entities}
            found = replace(found, gold_entities=turn.gold_entities, first_mention=found.first_mention and bool(named))
        if "values" not in given and turn.kind == "response":
            spans = self._finder.longest_spans(matchable(turn.response))
            found = replace(found, gold_values=tuple(dict.fromkeys(self._numbers[number] for *_, number in spans)))
        return found


def _require_files(folder: Path) -> None:
    missing = [name for name in (_KB, *(f"{split}.jsonl" for split in SPLITS)) if not (folder / name).is_file()]
    if missing:
        hint = "Check `dialogues.path` (relative to the project root); docs/examples/dialogues shows the four files."
        raise DataError(
            "Dialogue data is incomplete", [Problem(str(folder / m), "must be a file", "missing", hint) for m in missing]
        )


def _entities(path: Path, log: ReadLog) -> Iterator[Entity]:
    lines: dict[str, int] = {}
    for number, row in _rows(path, log):
        found = Findings(f"{path}:{number}")
        entity = parse_entity(row, found)
        if entity and (first := lines.setdefault(entity.id, number)) != number:
            found.add("must have a unique `id`", f"`{entity.id}`, as in line {first}")
        if entity and not found.problems:
            yield entity
        _log_all(found, log)


def _log_all(found: Findings, log: ReadLog) -> None:
    for problem in found.problems:
        log.add(problem)


def _rows(path: Path, log: ReadLog) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of every line that is not empty; lines that are not JSON go to the log."""
    try:
        for number, row in read_rows(path, pairs=Fields):
            if isinstance(row, BadRecord):
                log.add(row.at(f"{path}:{number}"))
            elif has_lone_surrogate(row):
                log.add(Problem(f"{path}:{number}", "must be valid Unicode", "half a surrogate pair in a text"))
            else:
                yield number, row
    except UnsupportedFileError as foreign:
        raise DataError("Dialogue data cannot be read", [Problem(str(path), _RULE, foreign.seen, foreign.hint)]) from foreign
    except READ_ERRORS as error:
        raise DataError("Dialogue data cannot be read", [Problem(str(path), _RULE, str(error))]) from error
