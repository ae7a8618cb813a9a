"""A knowledge base in memory: entities by row and by id; adding, replacing and removing them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.corpus.fields import BadRecord, shown
from models.dialogue.data.readers.base import attribute_name, attributes_of
from models.dialogue.data.records import Entity, read_kb
from models.errors import DataError, Problem
from models.files import file_digest


class KnowledgeBase:
    """Entities in a fixed order; the row is the place in that order.

    Attributes:
        entities: The entities.
        digest: sha256 of the file it was read from (empty for one made in memory).
        attributes: All attribute names, in the order they are first seen.
        row_of: Entity id → row.
    """

    def __init__(self, entities: Iterable[Entity], *, digest: str = "") -> None:
        """Index the entities.

        Raises:
            DataError: Two entities share an id.
        """
        self.entities: Sequence[Entity] = tuple(entities)
        self.digest = digest
        self.attributes = tuple(dict.fromkeys(name for e in self.entities for name in e.attributes))
        self.row_of: dict[str, int] = {}
        twice = []
        for row, entity in enumerate(self.entities):
            if self.row_of.setdefault(entity.id, row) != row:
                twice.append(Problem(f"row {row}", "must have an id of its own", repr(entity.id)))
        if twice:
            raise DataError("The knowledge base has entities with the same id", twice)

    @classmethod
    def load(cls, path: Path) -> "KnowledgeBase":
        return cls(read_kb(path), digest=file_digest(path))

    def __len__(self) -> int:
        return len(self.entities)

    def __getitem__(self, row: int) -> Entity:
        return self.entities[row]

    def rows(self, ids: Iterable[str]) -> list[int]:
        """Return the rows of entity ids, in their order.

        Raises:
            DataError: An id is not in the knowledge base.
        """
        wanted = list(ids)
        missing = [i for i in wanted if i not in self.row_of]
        if missing:
            rule = "must be the id of an entity of the knowledge base"
            raise DataError("A turn names unknown entities", [Problem("entity id", rule, repr(i)) for i in missing])
        return [self.row_of[i] for i in wanted]


@dataclass(frozen=True, slots=True)
class KbChanges:
    """Changes to a knowledge base; each id may occur once.

    Attributes:
        add: Entities with new ids.
        update: Entities that take the place of those with their ids.
        remove: Ids of entities that leave.
    """

    add: tuple[Entity, ...] = ()
    update: tuple[Entity, ...] = ()
    remove: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.add) + len(self.update) + len(self.remove)


def changed_attributes(row: object) -> dict[str, str]:
    """Return the attributes of an entity that a request gives, by the rules of the readers: missing values are absent.

    Raises:
        BadRecord: It is not an object of texts and numbers, two names coincide, or the first attribute (the name) is blank.
    """
    attributes = attributes_of(row, within="attributes")
    assert isinstance(row, Mapping)
    name, value = next(iter(row.items()), ("", None))
    if "" in attributes:
        raise BadRecord("must have a name for each attribute", repr(""))
    if attribute_name(name) not in attributes or isinstance(value, bool):
        raise BadRecord("must have text in its first attribute, which is the name", shown(value) if row else "without any")
    return attributes


def apply_changes(entities: Sequence[Entity], changes: KbChanges) -> list[Entity]:
    """Return the entities after the changes: those that stay keep their order, new ones come last.

    Raises:
        DataError: An id that must be held is not, or the reverse; an id that changes twice; an entity without a name; none left.
    """
    held = {entity.id for entity in entities}
    given = Counter([*(e.id for e in (*changes.add, *changes.update)), *changes.remove])
    problems = [_problem("add", e.id, "must not be in the knowledge base yet") for e in changes.add if e.id in held]
    problems += [_problem("update", e.id, "must be in the knowledge base") for e in changes.update if e.id not in held]
    problems += [_problem("remove", i, "must be in the knowledge base") for i in changes.remove if i not in held]
    problems += [_problem("change", i, "must occur once") for i, count in given.items() if count > 1]
    problems += [
        _problem("change", e.id, "must have a name (its first attribute)") for e in (*changes.add, *changes.update) if not e.name
    ]
    if len(held) + len(changes.add) == len(changes.remove):
        problems.append(Problem("`change`", "must leave at least one entity in the knowledge base"))
    if problems:
        raise DataError("The knowledge base cannot be changed so", problems)
    updated, removed = {e.id: e for e in changes.update}, set(changes.remove)
    return [updated.get(e.id, e) for e in entities if e.id not in removed] + list(changes.add)


def _problem(kind: str, id_: str, rule: str) -> Problem:
    return Problem(f"`{kind}`: entity `{id_}`", rule)
