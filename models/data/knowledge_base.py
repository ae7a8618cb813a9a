"""A knowledge base in memory: entities by row and by id."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from models.data.dialogue import Entity
from models.data.dialogue_files import file_digest, read_kb
from models.errors import DataError, Problem


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
        """Read `kb.jsonl`."""
        return cls(read_kb(path), digest=file_digest(path))

    def __len__(self) -> int:
        """Return the number of entities."""
        return len(self.entities)

    def __getitem__(self, row: int) -> Entity:
        """Return the entity of a row."""
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
