"""How a retrieved entity is shown in a trace."""

from models.dialogue.data.records import Entity
from models.dialogue.generators.base import RetrievedEntity
from models.dialogue.retrieval.meta_knowledge import EntityMeta
from tasks.dialogue_traces import document

ENTITY, META = Entity("e1", "hotel", {"name": "bridge inn", "price_range": "cheap"}), EntityMeta(2, 0.75, seen=True)


def test_a_document_has_what_retrieval_knows_of_the_entity() -> None:
    assert document(RetrievedEntity(4, ENTITY, META)) == {
        "page_content": "name: bridge inn; price range: cheap",
        "metadata": {"rank": 2, "score": 0.75, "seen": True, "domain": "hotel"},
        "id": "e1",
    }


def test_the_parts_of_a_hybrid_score_stand_with_it() -> None:
    shown = document(RetrievedEntity(4, ENTITY, META, {"dense": 0.5, "name": 0.25}))
    assert {k: v for k, v in shown["metadata"].items() if "_" in k} == {"score_dense": 0.5, "score_name": 0.25}
