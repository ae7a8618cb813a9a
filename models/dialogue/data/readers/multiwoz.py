"""Reads the single-domain part of MultiWOZ 2.1 used by MAKER and MK-TOD, from CDNet's annotated turns and GraphDialog's text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from models.corpus.text import PUBLISHED
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.mentions import pad_with_distractors
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers.base import SPLITS, DialogueSource, ReadLog, load_json, plain, unreadable
from models.dialogue.data.readers.multiwoz_files import (
    CdnetTurn,
    Session,
    TextDialogue,
    dialogues_of,
    read_cdnet,
    read_graphdialog,
)
from models.dialogue.data.readers.multiwoz_venues import (
    ChoicePattern,
    VenueNames,
    gold_values,
    knowledge_base,
    references,
    to_british_spelling,
)
from models.dialogue.data.records import MISSING, Entity, Turn
from models.errors import DataError, Problem
from models.params.dialogues import DialoguesParams
from models.schema import Split

SESSION_SIZE = 7
# Two copies of a dialogue share nine words in ten, two different dialogues fewer than half.
_LEAST_SHARED = 0.7


def align(dialogues: Sequence[TextDialogue], annotated: Mapping[int, Sequence[CdnetTurn]]) -> dict[int, Session]:
    """Return the session of each text dialogue (by its number) that has an annotated copy.

    Copies differ in punctuation and spelling, so the copy is the dialogue of the same domain with the most words in common
    (multiset Jaccard, at least 0.7); a few first utterances occur in several dialogues, so all utterances count.
    """
    bags = {number: (turns[-1].domain, _bag(*turns[-1].context, turns[-1].response)) for number, turns in annotated.items()}
    sessions = {}
    for dialogue in dialogues:
        bag = _bag(*(text for exchange in dialogue.exchanges for text in exchange))
        shared = {n: _shared(bag, other) for n, (domain, other) in bags.items() if domain == dialogue.domain}
        best = max(shared, key=lambda n: (shared[n], -n), default=None)
        if best is not None and shared[best] >= _LEAST_SHARED:
            sessions[dialogue.number] = annotated[best][-1].session
    return sessions


def rebuilt(dialogue: TextDialogue, names: VenueNames, index: ValueIndex, *, key: str) -> tuple[Entity, ...]:
    """Return seven venues in the knowledge base's order: those that the dialogue names, then those that fit the user's wishes.

    Venues of the dialogue's domain that have the most values in common with what the user says come first; `key` (the
    dialogue) breaks ties.
    """
    everything = " . ".join(text for exchange in dialogue.exchanges for text in exchange)
    named = [index.kb.row_of[entity.id] for entity in names.named(everything, domain=dialogue.domain)]
    wishes = [to_british_spelling(dialogue.user_text())]
    rows = pad_with_distractors(named, index, size=SESSION_SIZE, like=wishes, key=key, domain=dialogue.domain)
    return tuple(index.kb[row] for row in rows)


def _bag(*texts: str) -> Counter[str]:
    return Counter(PUBLISHED.normalise(" ".join(texts)).split())


def _shared(one: Counter[str], other: Counter[str]) -> float:
    both = (one & other).total()
    return both / max(one.total() + other.total() - both, 1)


class TurnBuilder:
    """Makes turns whose knowledge base and mentions are ids of one list of venues."""

    def __init__(self, entities: Sequence[Entity], choices: ChoicePattern, *, condensed: bool, log: ReadLog) -> None:
        """Index the venues by name; turns have a knowledge base only if `condensed`; turns with unknown venues go to `log`."""
        self._names = VenueNames(entities)
        self._index = ValueIndex(KnowledgeBase(entities))
        self._by_name = {entity.name: entity for entity in entities}
        self._choices = choices
        self._condensed = condensed
        self._log = log

    def annotated(self, turns: Iterable[CdnetTurn], *, prefix: str) -> Iterator[Turn]:
        """Yield CDNet's turns with ids `<prefix>-<dialogue>#<turn>`; one with an unknown venue goes to the log."""
        for turn in turns:
            if unknown := [name for name in turn.session.rows if name not in self._by_name]:
                rule = "must have rows of venues of MultiWOZ's database in `kb`"
                self._log.add(Problem(turn.where, rule, ", ".join(map(repr, unknown))))
                continue
            yield self._turn(
                f"{prefix}-{turn.dialogue}",
                turn.number,
                domain=turn.domain,
                context=turn.context,
                response=turn.response,
                gold=turn.gold_values,
                kb=self._venues(turn.session),
                dynamic=turn.session.dynamic,
            )

    def text(self, dialogues: Iterable[TextDialogue], sessions: Mapping[int, Session], *, prefix: str) -> Iterator[Turn]:
        """Yield the system turns of text dialogues, with their session where one is known, else a rebuilt one."""
        for dialogue in dialogues:
            name, session = f"{prefix}-{dialogue.number}", sessions.get(dialogue.number)
            kb = self._venues(session) if session else rebuilt(dialogue, self._names, self._index, key=name)
            dynamic = session.dynamic if session else self._dynamic(dialogue)
            context: list[str] = []
            for number, (user, system) in enumerate(dialogue.exchanges):
                context.append(user)
                yield self._turn(
                    name,
                    number,
                    domain=dialogue.domain,
                    context=tuple(context),
                    response=system,
                    gold=gold_values(system, kb, domain=dialogue.domain),
                    kb=kb,
                    dynamic=dynamic,
                )
                context.append(system)

    def _turn(
        self,
        dialogue: str,
        number: int,
        *,
        domain: str,
        context: tuple[str, ...],
        response: str,
        gold: tuple[str, ...],
        kb: Sequence[Entity],
        dynamic: Mapping[str, tuple[str, ...]],
    ) -> Turn:
        named = self._names.named(response, domain=domain)
        before = {entity.id for text in context for entity in self._names.named(text, domain=domain)} if named else set()
        return Turn(
            id=f"{dialogue}#{number}",
            dialogue=dialogue,
            turn=number,
            domain=domain,
            context=context,
            response=response,
            gold_values=gold,
            gold_entities=tuple(entity.id for entity in named),
            kb=tuple(entity.id for entity in kb) if self._condensed else (),
            dynamic=dynamic,
            first_mention=any(entity.id not in before for entity in named),
        )

    def _venues(self, session: Session) -> tuple[Entity, ...]:
        venues = (self._by_name[name] for name in session.rows)
        return tuple(sorted(venues, key=lambda entity: self._index.kb.row_of[entity.id]))

    def _dynamic(self, dialogue: TextDialogue) -> dict[str, tuple[str, ...]]:
        """Return the values in the responses that belong to no venue: references, and the first number of options."""
        texts = dialogue.system_texts()
        found = {
            "ref": tuple(dict.fromkeys(reference for text in texts for reference in references(text))),
            "choice": self._choices.first(texts),
        }
        return {kind: values for kind, values in found.items() if values}


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
