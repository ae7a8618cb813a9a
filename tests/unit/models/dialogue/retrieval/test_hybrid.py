"""Hybrid scores: what is found, what each hit rests on, and the gradient of the weights under MML."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.dialogue.retrieval.hybrid import HybridIndex, HybridScorer, ScoreWeights, score_parts, vectors_of
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.lexical import FEATURES, LexicalIndex, lexical_features
from models.dialogue.train.objectives import retriever_losses
from models.params.dialogue import JointParams
from models.params.index import IndexParams
from models.params.retriever import LexicalParams, PicoEncoder, RetrieverParams

NUM = 40
KB = KnowledgeBase(
    [Entity(str(i), "d", {"name": f"house {i}", "food": f"food{i % 5}", "area": f"area{i % 3}"}) for i in range(NUM)], digest="kb"
)
CONTEXTS = [["food1 in area2 please"], ["house 7 ?", "it is in area1", "another one with food3"], ["hello"]]
WEIGHTS = ScoreWeights(0.5, np.array([0.2, 0.1, 0.3, 0.1, 0.05], dtype=np.float32))


def unit(*shape: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


E_REPS, Q_REPS = unit(NUM, 8, seed=0), unit(3, 8, seed=1)


def make_index(*, candidates: int = 1024, weights: ScoreWeights = WEIGHTS) -> HybridIndex:
    dense = EntityIndex.build(IndexParams(kind="flat"), E_REPS, ids=np.arange(NUM), encoder_digest="e", kb_digest="kb")
    return HybridIndex(dense, LexicalIndex.build(KB, LexicalParams(candidates=candidates)), weights)


def table(weights: ScoreWeights = WEIGHTS) -> np.ndarray:
    """The scores of all entities, float32[3, N], by the formula."""
    lexical = LexicalIndex.build(KB, LexicalParams())
    features = lexical_features(lexical, CONTEXTS, np.tile(np.arange(NUM), (3, 1)))
    return weights.dense * (Q_REPS @ E_REPS.T) + features @ weights.lexical


def test_a_small_knowledge_base_is_ranked_by_the_formula() -> None:
    hits = make_index().search(Q_REPS, 6, contexts=CONTEXTS)
    order = np.argsort(-table(), axis=1, kind="stable")[:, :6]
    assert hits.rows.tolist() == order.tolist()
    np.testing.assert_allclose(hits.scores, np.take_along_axis(table(), order, axis=1), atol=1e-6)
    assert make_index().search(Q_REPS[:0], 6, contexts=[]).rows.shape == (0, 6)


def test_sessions_bound_the_search_and_may_be_empty() -> None:
    within = [[3, 9, 21], [], [5]]
    hits = make_index().search(Q_REPS, 2, within=within, contexts=CONTEXTS)
    assert hits.counts.tolist() == [2, 0, 1]
    assert hits.rows[0].tolist() == sorted(within[0], key=lambda row: -table()[0, row])[:2]


def test_a_larger_one_finds_what_leads_by_either_kind_of_evidence() -> None:
    """Sixteen candidates of each kind among 40 entities."""
    index = make_index(candidates=16)
    found = index.search(Q_REPS, 5, contexts=CONTEXTS)
    lexical = LexicalIndex.build(KB, LexicalParams())
    for b, context in enumerate(CONTEXTS):
        near = np.argsort(-(Q_REPS[b] @ E_REPS.T))[:16]
        named = lexical.best(lexical.query(context), WEIGHTS.lexical, 16)
        pool = np.union1d(near, named)
        assert len(pool) < NUM
        assert found.rows[b].tolist() == pool[np.argsort(-table()[b, pool], kind="stable")][:5].tolist()
    against = make_index(candidates=16, weights=ScoreWeights(-0.5, WEIGHTS.lexical)).search(Q_REPS[2:], 1, contexts=CONTEXTS[2:])
    assert against.rows[0, 0] == np.argmin(Q_REPS[2] @ E_REPS.T), "a negative weight looks where −q leads"


def test_the_lowest_are_those_of_the_score() -> None:
    index = make_index()
    lowest = index.lowest(Q_REPS, exclude=[[], [], []], contexts=CONTEXTS)
    assert lowest.tolist() == np.argmin(table(), axis=1).tolist()
    again = index.lowest(Q_REPS, exclude=[[int(row)] for row in lowest], contexts=CONTEXTS)
    assert again.tolist() == np.argsort(table(), axis=1)[:, 1].tolist()
    assert index.lowest(Q_REPS[:1], exclude=[[4]], within=[[4]], contexts=CONTEXTS[:1]).tolist() == [-1]


def test_given_entities_are_scored() -> None:
    rows = np.array([[1, -1], [7, 3], [0, 2]])
    scores = make_index().scores(Q_REPS, rows, contexts=CONTEXTS)
    assert scores[0, 1] == -np.inf
    np.testing.assert_allclose(scores[1:], np.take_along_axis(table(), rows, axis=1)[1:], atol=1e-6)


def test_the_parts_of_a_score_add_up_to_it() -> None:
    index = make_index()
    hits = index.search(Q_REPS, 4, contexts=CONTEXTS)
    parts = score_parts(index, CONTEXTS, hits)
    for b in range(3):
        for (row, score), part in zip(hits.of(b), parts[b], strict=True):
            assert set(part) == {"dense", "name", "value", "bm25"}
            assert sum(part.values()) == pytest.approx(score, abs=1e-6)
            assert part["dense"] == pytest.approx(0.5 * float(Q_REPS[b] @ E_REPS[row]), abs=1e-5)
    named = parts[1][hits.rows[1].tolist().index(7)]
    assert named["name"] == pytest.approx(0.2 + 0.1 * 0.7**2, abs=1e-6), "named two utterances before the last"
    assert score_parts(vectors_of(index), CONTEXTS, hits) == [[{}] * 4] * 3, "a cosine has no parts"


def test_contexts_are_needed() -> None:
    with pytest.raises(ValueError, match="needs the context of each of the 3 queries"):
        make_index().search(Q_REPS, 2)


@pytest.mark.parametrize("marginal", ["sequence", "token"])
def test_the_weights_gradient_under_mml_is_that_of_finite_differences(marginal: str) -> None:
    g = torch.Generator().manual_seed(0)
    cosines, features = torch.rand(2, 4, generator=g, dtype=torch.float64), torch.rand(2, 4, 5, generator=g, dtype=torch.float64)
    logprobs, tokens = -torch.rand(2, 4, 6, generator=g, dtype=torch.float64), torch.ones(2, 6, dtype=torch.bool)
    entities = torch.tensor([[True] * 4, [True, True, False, False]])
    scorer = HybridScorer(temperature=0.05).double()

    def loss() -> torch.Tensor:
        scores = scorer(cosines, features)
        cfg = JointParams(objective="mml", marginal=marginal)
        masks = {"token_mask": tokens, "entity_mask": entities}
        return retriever_losses(cfg, scores=scores, token_logprobs=logprobs, temperature=0.1, **masks).sum()

    loss().backward()
    for parameter in (scorer.dense, scorer.lexical):
        assert parameter.grad is not None
        for place in np.ndindex(*parameter.shape):
            found, step = float(parameter.grad[place]), 1e-6
            with torch.no_grad():
                parameter[place] += step
                above = float(loss())
                parameter[place] -= 2 * step
                below = float(loss())
                parameter[place] += step
            assert found == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9) and abs(found) > 1e-5


def test_weights_are_saved_and_part_of_the_digest(tmp_path: Path) -> None:
    pico = PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2)

    def build(**changes: object) -> Retriever:
        return build_retriever(RetrieverParams(pico=pico, **changes), texts=["house food area"], root=tmp_path)

    made = build(scoring="hybrid")
    assert made.scorer is not None
    before = made.digest()
    with torch.no_grad():
        made.scorer.lexical[4] = 1.5
    assert made.digest() != before
    made.save(tmp_path)
    read = Retriever.load(tmp_path)
    assert read.digest() == made.digest() and read.scorer is not None
    assert read.scorer.figures() == {"dense": pytest.approx(0.02), **dict(zip(FEATURES, (1, 0, 1, 0, 1.5), strict=True))}
    np.testing.assert_allclose(read.scorer.weights().lexical, [0.05, 0, 0.05, 0, 0.075], rtol=1e-6)
    cosine = build()
    assert cosine.scorer is None and cosine.digest() == build(lexical=LexicalParams(k1=2.0)).digest()
    assert build(scoring="hybrid", lexical=LexicalParams(k1=2.0)).digest() != before
    assert build(scoring="hybrid", lexical=LexicalParams(lr_factor=2.0)).digest() == before
