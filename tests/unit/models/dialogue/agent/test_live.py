import threading

import numpy as np
import pytest

from models.dialogue.agent import live as live_agent
from models.dialogue.agent.agent import DialogueAgent
from models.dialogue.agent.live import LiveAgent
from models.dialogue.agent.loading import build_index
from models.dialogue.data.knowledge_base import KbChanges, KnowledgeBase
from models.dialogue.data.records import Entity, write_kb
from models.dialogue.retrieval import kb_index
from models.dialogue.retrieval.embedding import embed_entities
from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.errors import ArtifactError, DataError
from models.params.dialogue import MetaKnowledgeParams
from models.params.index import IndexParams
from models.params.retriever import RetrieverParams

NAMES = "amber birch cedar dahlia ember fennel ginger hazel iris juniper kale laurel".split()
KB = [Entity(f"e{i}", "food", {"name": f"house {n}", "phone": f"01223 {i:04}"}) for i, n in enumerate(NAMES)]
NEW = Entity("new", "food", {"name": "house maple", "phone": "7"})


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    texts = [" ".join(e.attributes.values()) for e in KB]
    return build_retriever(RetrieverParams(pico=pico), texts=texts, root=tmp_path_factory.mktemp("root"))


@pytest.fixture(params=["flat", "ivf", "hnsw"])
def agent(retriever, tmp_path, request):
    write_kb(tmp_path / "kb.jsonl", KB)
    kb = KnowledgeBase.load(tmp_path / "kb.jsonl")
    index = build_index(retriever, kb, cfg=IndexParams(kind=request.param, nlist=2))
    meta = MetaKnowledge(MetaKnowledgeParams(), style="prefix")
    return DialogueAgent(retriever, index, kb, None, meta, 5)


def check(agent: DialogueAgent) -> None:
    """The index is that of the knowledge base."""
    assert agent.index.kb_digest == agent.kb.digest and len(agent.index) == len(agent.kb)
    whole = embed_entities(agent.retriever, agent.kb)
    np.testing.assert_allclose(agent.index.reconstruct(np.arange(len(agent.kb))), whole, atol=1e-6)


def test_changes_are_seen_here_and_beside_and_after_a_restart(agent, tmp_path):
    live, beside = LiveAgent(agent, state=tmp_path / "state"), LiveAgent(agent, state=tmp_path / "state")
    changed = live.change(KbChanges(add=(NEW,), remove=("e0", "e5")))
    for other in (changed, live.current(), beside.current(), LiveAgent(agent, state=tmp_path / "state").current()):
        assert [e.id for e in other.kb.entities] == [e.id for e in KB if e.id not in ("e0", "e5")] + ["new"]
        check(other)
    again = beside.change(KbChanges(update=(Entity("e1", "food", {"name": "house oak"}),)))
    assert live.current().kb.entities == again.kb.entities and again.kb[again.kb.row_of["e1"]].name == "house oak"
    check(live.current())
    assert len(agent.kb) == len(KB) and len(agent.index) == len(KB), "who had the old one keeps it"
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == ["00000002", "current", "lock"]


def test_hybrid_scores_follow_the_changes(tmp_path):
    """A new entity is found by its name at once, after a restart, and no longer once it has left."""
    write_kb(tmp_path / "kb.jsonl", KB)
    kb = KnowledgeBase.load(tmp_path / "kb.jsonl")
    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    texts = [" ".join(e.attributes.values()) for e in KB]
    retriever = build_retriever(RetrieverParams(pico=pico, scoring="hybrid"), texts=texts, root=tmp_path)
    index = build_index(retriever, kb, cfg=IndexParams())
    agent = DialogueAgent(retriever, index, kb, None, MetaKnowledge(MetaKnowledgeParams(), style="prefix"), 2)
    live = LiveAgent(agent, state=tmp_path / "state")
    live.change(KbChanges(add=(NEW,)))
    for now in (live.current(), LiveAgent(agent, state=tmp_path / "state").current()):
        [[best, second]] = now.retrieve([("house maple ?",)])
        assert best.entity == NEW and best.parts["name"] == pytest.approx(0.05) and second.parts["name"] == 0
        assert sum(best.parts.values()) == pytest.approx(best.meta.score, abs=1e-6)
    left = live.change(KbChanges(remove=("new",)))
    assert left.retrieve([("house maple ?",)])[0][0].parts["name"] == 0


def test_only_new_texts_are_embedded(agent, tmp_path, monkeypatch):
    seen = []

    def counted(retriever, kb, *, rows, **more):
        seen.append(len(rows))
        return embed_entities(retriever, kb, rows=rows, **more)

    monkeypatch.setattr(kb_index, "embed_entities", counted)
    LiveAgent(agent, state=tmp_path / "state").change(KbChanges(add=(NEW,), remove=("e11",)))
    assert seen == [1]


def test_a_change_that_fails_changes_nothing(agent, tmp_path, monkeypatch):
    state = tmp_path / "state"
    live = LiveAgent(agent, state=state)
    with pytest.raises(DataError):
        live.change(KbChanges(remove=("nobody",)))
    assert live.current() is agent
    live.change(KbChanges(remove=("e0",)))
    monkeypatch.setattr(live_agent, "_point", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # killed before `current` is replaced
        live.change(KbChanges(remove=("e1",)))
    monkeypatch.undo()
    for found in (live.current(), LiveAgent(agent, state=state).current()):
        assert len(found.kb) == len(KB) - 1
        check(found)
    check(LiveAgent(agent, state=state).change(KbChanges(remove=("e1",))))


def test_without_a_folder_nothing_can_be_changed(agent):
    live = LiveAgent(agent, state=None)
    with pytest.raises(ArtifactError, match=r"FUSEDIAL_STATE is not set\. Set it"):
        live.change(KbChanges(remove=("e0",)))
    assert live.current() is agent


def test_answers_beside_changes_are_whole(agent, tmp_path):
    """Every retrieval comes from one knowledge base: its rows, its entities, and as many as it has."""
    live, stop, wrong = LiveAgent(agent, state=tmp_path / "state"), threading.Event(), []

    def ask():
        while not stop.is_set():
            now = live.current()
            [found] = now.retrieve([("house maple ?",)])
            if len(found) != 5 or any(now.kb[e.row] != e.entity for e in found):
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            live.change(KbChanges(add=(NEW,)))
            live.change(KbChanges(remove=("new",)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong and len(live.current().kb) == len(KB)
