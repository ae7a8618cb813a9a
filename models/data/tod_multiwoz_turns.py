"""Builds turns of MultiWOZ from CDNet's annotated turns and from GraphDialog's text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from models.data.dialogue import Entity, Turn
from models.data.knowledge_base import KnowledgeBase
from models.data.pseudo_positive import ValueIndex
from models.data.tod_multiwoz_cdnet import CdnetTurn, Session
from models.data.tod_multiwoz_graphdialog import TextDialogue
from models.data.tod_multiwoz_mentions import ChoicePattern, VenueNames, gold_values, references
from models.data.tod_multiwoz_sessions import rebuilt
from models.data.tod_reader import ReadLog
from models.errors import Problem


class TurnBuilder:
    """Makes turns whose knowledge base and mentions are ids of one list of venues."""

    def __init__(self, entities: Sequence[Entity], choices: ChoicePattern, *, condensed: bool, log: ReadLog) -> None:
        """Index the venues by name; turns have a knowledge base only if `condensed`; `log` takes turns with unknown venues."""
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
        """Return what the responses give that no venue has: references, and the first number of options."""
        texts = dialogue.system_texts()
        found = {
            "ref": tuple(dict.fromkeys(reference for text in texts for reference in references(text))),
            "choice": self._choices.first(texts),
        }
        return {kind: values for kind, values in found.items() if values}
