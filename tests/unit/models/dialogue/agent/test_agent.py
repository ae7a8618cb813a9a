import copy
import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from models.dialogue.agent.agent import DialogueAgent
from models.dialogue.agent.loading import build_index, load_agent
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn, write_kb
from models.dialogue.generators.base import Answer, DialogueItem
from models.dialogue.generators.decoder_only.model import CausalGenerator
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.retrieval import kb_index
from models.dialogue.retrieval.embedding import embed_contexts, embed_entities
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.dialogue.retrieval.kb_index import build_kb_index
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.errors import ArtifactError, DataError, RetrievalError
from models.params.dialogue import GeneratorParams, MetaKnowledgeParams
from models.params.index import IndexParams
from models.params.retriever import RetrieverParams

AREAS, FOODS = ("north", "south", "east"), ("thai", "indian", "chinese", "french")
KB = [
    Entity(f"e{i}", "food", {"name": f"house {word}", "area": AREAS[i % 3], "food": FOODS[i % 4], "phone": f"01223 {i:04}"})
    for i, word in enumerate("amber birch cedar dahlia ember fennel ginger hazel iris juniper kale laurel".split())
]
CONTEXT = ("i want thai food in the north", "house amber is one", "what is its phone ?")


class Echo:
    """A responder that keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[DialogueItem] = []

    def respond(self, items, *, on_progress=None):
        self.seen += items
        return [Answer(f"answer to {item.context[-1]}", 5, 3, "eos") for item in items]


@pytest.fixture(scope="module")
def retriever(tmp_path_factory):
    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    texts = [" ".join(e.attributes.values()) for e in KB] + list(CONTEXT)
    return build_retriever(RetrieverParams(pico=pico), texts=texts, root=tmp_path_factory.mktemp("root"))


@pytest.fixture
def agent(retriever):
    kb = KnowledgeBase(KB)
    meta = MetaKnowledge(MetaKnowledgeParams(), style="prefix")
    return DialogueAgent(retriever, build_index(retriever, kb, cfg=IndexParams()), kb, Echo(), meta, 5)


def turn(name: str, kb=()) -> Turn:
    return Turn(
        name, name.partition("#")[0], 0, "food", CONTEXT, "the secret is 42", gold_values=("42",), gold_entities=("e11",), kb=kb
    )


def test_retrieval_is_by_score_with_meta_knowledge(agent):
    [found] = agent.retrieve([CONTEXT])
    scores = (embed_contexts(agent.retriever, [CONTEXT]) @ embed_entities(agent.retriever, agent.kb).T)[0]
    best = sorted(range(len(KB)), key=lambda r: (-scores[r], r))[:5]
    assert [e.row for e in found] == best and [e.entity for e in found] == [KB[r] for r in best]
    assert [e.meta.score for e in found] == pytest.approx(scores[best].tolist(), abs=1e-5)
    assert [e.meta.rank for e in found] == [1, 2, 3, 4, 5]
    assert not any(e.meta.negative for e in found)


def test_an_entity_that_was_named_is_old(agent):
    everything = replace(agent, num_retrieved=50).retrieve([CONTEXT, CONTEXT[:1]])
    assert len(everything[0]) == len(KB), "K is cut to the knowledge base"
    assert [e.entity.id for e in everything[0] if e.meta.seen] == ["e0"]
    assert not [e for e in everything[1] if e.meta.seen]


def test_condensed_turns_retrieve_from_their_own_knowledge_base(agent):
    condensed = replace(agent, condensed=True)
    own, nothing = condensed.retrieve_turns([turn("a#0", kb=("e3", "e7")), turn("b#0")])
    assert {e.entity.id for e in own} == {"e3", "e7"}
    assert nothing == (), "a dialogue without rows must not search those of others"
    with pytest.raises(DataError, match="e99"):
        condensed.retrieve_turns([turn("a#0", kb=("e99",))])
    assert agent.retrieve_turns([turn("a#0", kb=("e3",))]) == agent.retrieve([CONTEXT])


def test_items_hold_no_reference(agent):
    [item] = agent.items([turn("a#0")])
    assert "secret" not in repr(item) and "42" not in repr(item) and "gold" not in {f.name for f in fields(item)}
    assert item.context == CONTEXT and len(item.entities) == 5


def test_reply(agent):
    reply = agent.reply(CONTEXT, within=[2, 4], domain="food", dynamic={"choice": ("3",)})
    [item] = agent.responder.seen
    assert item == DialogueItem("", "food", CONTEXT, reply.entities, {"choice": ("3",)})
    assert reply.text == "answer to what is its phone ?" == reply.answer.text
    assert {e.row for e in reply.entities} == {2, 4} and reply.scores == tuple(e.meta.score for e in reply.entities)
    assert set(reply.seconds) == {"retrieve", "generate"} and min(reply.seconds.values()) >= 0
    assert agent.retrieve([]) == []


@pytest.fixture(scope="module")
def variant(retriever, tmp_path_factory):
    """What `train_dialogue` writes, as far as an agent reads it."""
    folder = tmp_path_factory.mktemp("variant")
    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    meta = MetaKnowledge(MetaKnowledgeParams(), style="prefix")
    texts = [" ".join(e.attributes.values()) for e in KB]
    cfg = GeneratorParams(pico=pico, max_response_tokens=6)
    generator = Seq2SeqGenerator.build(cfg, texts=lambda: texts, special_tokens=meta.special_tokens(), root=folder, seed=1)
    retriever.save(folder / "best_generator" / "retriever")
    generator.save(folder / "best_generator" / "generator")
    record = {"kinds": ["confidence", "order"], "style": "prefix", "edges": [0.1, 0.2], "num_retrieved": 3}
    record["setting"] = "condensed"
    (folder / "meta.json").write_text(json.dumps(record))
    write_kb(folder / "kb.jsonl", KB)
    return folder


def test_a_trained_agent_is_loaded(variant, agent):
    loaded = load_agent(variant, variant / "kb.jsonl", device="cpu")
    assert loaded.meta.edges == (0.1, 0.2) and loaded.meta.kinds == ("confidence", "order") and loaded.meta.style == "prefix"
    assert loaded.kb.digest == loaded.index.kb_digest and loaded.index.encoder_digest == loaded.retriever.digest()
    reply = loaded.reply(CONTEXT)
    assert [e.row for e in reply.entities] == [e.row for e in agent.retrieve([CONTEXT])[0][:3]]
    assert reply.answer.num_tokens <= 6
    assert loaded.reply(CONTEXT).text == reply.text


def test_a_trained_causal_lm_answers_like_any_generator(variant, tmp_path):
    shutil.copytree(variant, tmp_path / "variant")
    pico = {"vocab_size": 300, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    cfg = GeneratorParams(kind="causal", pico=pico, max_response_tokens=6)
    texts = [" ".join(e.attributes.values()) for e in KB]
    generator = CausalGenerator.build(cfg, texts=lambda: texts, special_tokens=(), root=tmp_path, seed=1)
    generator.save(tmp_path / "variant" / "best_generator" / "generator")
    loaded = load_agent(tmp_path / "variant", variant / "kb.jsonl", device="cpu", num_beams=2)
    first, again = loaded.reply(CONTEXT), loaded.reply(CONTEXT)
    assert first.text == again.text and first.answer.num_tokens <= 6 and len(first.entities) == 3
    builder, meta = generator.builder, loaded.meta
    entities = [builder.entity_ids(e.entity, meta.text(e.meta)) for e in first.entities]
    assert all(e.meta for e in entities)
    assert first.answer.num_prompt_tokens == generator.num_prompt_tokens(builder.context_ids(CONTEXT), entities)


def test_another_generator_and_number_may_be_given(variant):
    loaded = load_agent(
        variant, variant / "kb.jsonl", device="cpu", responder=Echo(), num_retrieved=2, index=IndexParams(kind="hnsw")
    )
    assert loaded.reply(CONTEXT).text.startswith("answer to") and len(loaded.reply(CONTEXT).entities) == 2
    assert loaded.index.kind == "hnsw"


def test_a_saved_index_is_used_and_refused_where_it_does_not_belong(variant, tmp_path):
    first = load_agent(variant, variant / "kb.jsonl", device="cpu", responder=Echo())
    first.index.save(tmp_path / "index")
    again = load_agent(variant, first.kb, device="cpu", responder=Echo(), index_folder=tmp_path / "index")
    assert again.kb is first.kb and again.reply(CONTEXT).entities == first.reply(CONTEXT).entities
    write_kb(tmp_path / "kb.jsonl", KB[:-1])
    with pytest.raises(RetrievalError):
        load_agent(variant, tmp_path / "kb.jsonl", device="cpu", responder=Echo(), index_folder=tmp_path / "index")


def test_a_saved_index_is_carried_over_to_an_edited_knowledge_base(variant, tmp_path, monkeypatch):
    retriever = Retriever.load(variant / "best_generator" / "retriever")
    build_kb_index(retriever, KnowledgeBase.load(variant / "kb.jsonl"), cfg=IndexParams()).save(tmp_path / "index")
    write_kb(tmp_path / "kb.jsonl", KB[1:])
    monkeypatch.setattr(kb_index, "embed_entities", lambda *_, rows, **__: np.empty((len(rows), retriever.dim), np.float32))
    given = {"device": "cpu", "responder": Echo(), "index_folder": tmp_path / "index"}
    loaded = load_agent(variant, tmp_path / "kb.jsonl", refresh=True, **given)
    assert loaded.index.kb_digest == loaded.kb.digest and len(loaded.index) == len(KB) - 1
    fresh = load_agent(variant, variant / "kb.jsonl", **given)
    assert np.array_equal(loaded.index.reconstruct([0, 3]), fresh.index.reconstruct([1, 4]))


@pytest.mark.parametrize("text", [None, "{}", "[1]", "no json", '{"kinds": [], "style": "prefix"}'])
def test_an_unfinished_training_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "meta.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"meta\.json` must hold the meta knowledge.*Run `train_dialogue` again"):
        load_agent(tmp_path, tmp_path / "kb.jsonl", device="cpu")


def test_entities_are_embedded_where_the_weights_are(retriever, monkeypatch):
    """On a GPU the ids must be there too; the meta device refuses a mixture as CUDA does."""
    kb, there = KnowledgeBase(KB), copy.deepcopy(retriever).to("meta")
    asked = []

    def pad(self, rows, device=None):
        asked.append(torch.device(device or self.device))
        return self.tokeniser.pad(rows, device=self.device if device is None else device)

    monkeypatch.setattr(Retriever, "pad", pad)
    nothing = pytest.raises((NotImplementedError, RuntimeError), match="meta")  # there is nothing to compute with
    with nothing:
        build_index(there, kb, cfg=IndexParams())
    texts = kb_index.text_digests(there, kb)
    old = kb_index.KbIndex(build_index(retriever, kb, cfg=IndexParams()), texts, kb.digest, 0)
    old.index.encoder_digest = "there"
    monkeypatch.setattr(Retriever, "digest", lambda self: "there")
    with nothing:
        kb_index.refresh_kb_index(old, there, KnowledgeBase([*KB, Entity("new", "food", {"name": "house maple"})]))
    assert {d.type for d in asked if d.type != "cpu"} == {"meta"} and asked.count(torch.device("cpu")) == 1


def test_settings_of_generation_reach_the_responder(variant):
    given = {"num_beams": 3, "max_new_tokens": 4, "batch_size": 2, "num_retrieved": 1}
    loaded = load_agent(variant, variant / "kb.jsonl", device="cpu", **given)
    responder = loaded.responder
    assert (responder._num_beams, responder._max_new_tokens, responder._batch_size) == (3, 4, 2)
    assert len(loaded.reply(CONTEXT).entities) == 1


def test_a_saved_generator_keeps_how_its_checkpoint_generates(variant, tmp_path):
    generator = Seq2SeqGenerator.load(variant / "best_generator" / "generator", device="cpu")
    generator.model.generation_config.no_repeat_ngram_size = 2
    generator.model.generation_config.repetition_penalty = 1.5
    generator.save(tmp_path / "again")
    kept = Seq2SeqGenerator.load(tmp_path / "again", device="cpu").model.generation_config
    assert (kept.no_repeat_ngram_size, kept.repetition_penalty) == (2, 1.5)


def test_two_utterances_of_the_user_in_a_row_are_one(agent):
    talk = [{"role": "user", "content": text} for text in ("a cheap", "place")]
    assert agent.reply(talk).text == agent.reply(["a cheap place"]).text
    assert agent.reply(["a cheap", "", "place"]).scores == agent.reply(["a cheap place"]).scores
