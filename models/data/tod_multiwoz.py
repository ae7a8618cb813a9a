"""Reads the single-domain part of MultiWOZ 2.1 that MAKER and MK-TOD use.

Files below `dialogues.path`: `multiwoz/db/{attraction,hotel,restaurant}_db.json` (the venues), `cdnet/{val,test}.json.gz` and
`cdnet/entities.json` (annotated system turns with each dialogue's knowledge base; the entity list of Entity F1),
`graphdialog/{train,valid,test}.txt.gz` (the same dialogues, and the training ones, as text with little punctuation).

`dialogues.train_text` and `dialogues.test_text` choose between the two copies. CDNet's turns are annotated. GraphDialog's are
not: there the dialogue's knowledge base and dynamic values are those of CDNet's copy of the dialogue; for training dialogues,
which have no copy, the knowledge base is rebuilt (`tod_multiwoz_sessions`) and the dynamic values are found in the responses.
Booking references and numbers of options (`ref`, `choice`) are `dynamic`: they are no attributes of a venue.

`gold_entities` are the venues that the response names, also by a shortened name.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from models.data.dialogue import MISSING, Turn
from models.data.tod_multiwoz_cdnet import CdnetTurn, dialogues_of, read_cdnet
from models.data.tod_multiwoz_graphdialog import read_graphdialog
from models.data.tod_multiwoz_kb import knowledge_base
from models.data.tod_multiwoz_mentions import ChoicePattern
from models.data.tod_multiwoz_sessions import align
from models.data.tod_multiwoz_turns import TurnBuilder
from models.data.tod_reader import SPLITS, DialogueSource, ReadLog
from models.data.tod_rows import load_json, plain, unreadable
from models.errors import DataError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

_FILES = {"train": "train", "valid": "val", "test": "test"}
_DOMAINS = frozenset({"attraction", "hotel", "restaurant"})


def read(cfg: DialoguesParams, *, root: Path) -> DialogueSource:
    """Read MultiWOZ's raw files.

    Args:
        cfg: `path` is the folder of the files, relative to `root`; `train_text` and `test_text` choose the copy.
        root: Project root.

    Raises:
        DataError: A file is missing or damaged as a whole.
    """
    folder, log = root / cfg.path, ReadLog()
    annotated = {split: _annotated(folder, split, log) for split in SPLITS if split != "train" or cfg.train_text == "cdnet"}
    spellings = _spellings(turn for split in ("valid", "test") for turn in annotated[split])
    entities = knowledge_base(folder / "multiwoz" / "db", spellings)
    values, choices = _published(folder / "cdnet" / "entities.json")
    build = TurnBuilder(entities, ChoicePattern(choices), condensed=cfg.setting == "condensed", log=log)
    dialogues = {}
    for split in SPLITS:
        if (cfg.train_text if split == "train" else cfg.test_text) == "graphdialog":
            path = folder / "graphdialog" / f"{split}.txt.gz"
            dialogues[split] = read_graphdialog(path, domains=_DOMAINS, log=log)

    def stream(split: Split) -> Iterator[Turn]:
        if split not in dialogues:
            return build.annotated(annotated[split], prefix=f"mwoz-{_FILES[split]}")
        sessions = align(dialogues[split], dialogues_of(annotated.get(split, [])))
        return build.text(dialogues[split], sessions, prefix=f"mwoz-gd-{_FILES[split]}")

    return DialogueSource(entities, values, stream, log, {"choice": "later"})


def _annotated(folder: Path, split: Split, log: ReadLog) -> list[CdnetTurn]:
    path = folder / "cdnet" / f"{_FILES[split]}.json.gz"
    if split == "train" and not path.exists():
        hint = "Fetch it from CDNet's WOZ folder, or set `dialogues.train_text: graphdialog`."
        raise DataError("Dialogue data cannot be read", [Problem(str(path), "must be CDNet's training file", "missing", hint)])
    return read_cdnet(path, log=log)


def _spellings(turns: Iterable[CdnetTurn]) -> dict[str, str]:
    """Return name → address as the dialogues' rows spell it."""
    rows = (row for turn in turns for row in turn.session.rows.values())
    return {row["name"]: row["address"] for row in rows if "address" in row}


def _published(path: Path) -> tuple[list[str], list[str]]:
    """Return the values of all kinds in CDNet's entity list, and those of `choice`.

    In the former, values of `choice` begin with `choice-`: the published Entity F1 counts them only in some phrases.
    """
    lists = load_json(path)
    try:
        kinds = {kind: _plain(values) for kind, values in lists["all_entities"].items()}
        choices = kinds["choice"]
    except (KeyError, TypeError, AttributeError) as err:
        raise unreadable(path, "must hold lists of values in `all_entities`, one of them `choice`", repr(err)) from err
    values = [f"choice-{value}" if kind == "choice" else value for kind in kinds for value in kinds[kind]]
    return list(dict.fromkeys(values)), choices


def _plain(values: Iterable[str]) -> list[str]:
    return [text for text in map(plain, values) if text not in MISSING]
