import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.train.recall_rule import RecallRule
from models.dialogue.train.warm_start.validation import WarmValidation, contrastive_loss, ranking_loss, recall_scores
from models.params.retriever import PicoEncoder, RetrieverParams

TAU = 0.05


def _unit(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
    return torch.nn.functional.normalize(values, dim=-1)


def test_equals_cross_entropy_without_masks() -> None:
    q, e = _unit(5, 8), _unit(7, 8, seed=1)
    positives = torch.tensor([3, 0, 6, 6, 2])
    expected = torch.nn.functional.cross_entropy(q @ e.T / TAU, positives, reduction="none")
    torch.testing.assert_close(contrastive_loss(q, e, positives, temperature=TAU), expected)


def test_two_orthogonal_entities_by_hand() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.eye(2)
    loss = contrastive_loss(q, e, torch.tensor([0]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_masked_columns_neither_count_nor_learn() -> None:
    q, e = _unit(2, 8), _unit(3, 8, seed=1).requires_grad_()
    mask = torch.tensor([[True, True, False], [False, False, False]])
    loss = contrastive_loss(q, e, torch.tensor([0, 1]), mask=mask, temperature=1.0)
    kept = torch.nn.functional.cross_entropy((q[:1] @ e[[0, 2]].T), torch.tensor([0]))
    assert loss[0].item() == pytest.approx(kept.item(), rel=1e-5)
    loss[0].backward()
    assert e.grad is not None
    assert e.grad[1].abs().sum() == 0
    assert e.grad[0].abs().sum() > 0


def test_duplicate_of_the_positive_is_a_false_negative_unless_masked() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    positives = torch.tensor([0])
    assert contrastive_loss(q, e, positives, temperature=TAU).item() == pytest.approx(math.log(2))
    masked = contrastive_loss(q, e, positives, mask=torch.tensor([[False, True]]), temperature=TAU)
    assert masked.item() == 0


def test_any_of_several_positives_is_enough() -> None:
    q, e = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    also = torch.tensor([[False, True, False]])
    alone = contrastive_loss(q, e, torch.tensor([0]), temperature=TAU)
    either = contrastive_loss(q, e, torch.tensor([0]), also=also, temperature=TAU)
    assert alone.item() > 30
    assert either.item() < 1e-6


def test_nothing_to_tell_apart_is_zero_and_half_precision_is_reduced_in_float32() -> None:
    q = _unit(1, 8)
    assert contrastive_loss(q, q, torch.tensor([0]), temperature=TAU).item() == 0
    assert contrastive_loss(q.bfloat16(), q.bfloat16(), torch.tensor([0]), temperature=TAU).dtype == torch.float32


def test_logq_correction_lowers_each_logit_by_log_q() -> None:
    q, e = _unit(5, 8), _unit(7, 8, seed=1)
    positives, log_q = torch.tensor([3, 0, 6, 6, 2]), torch.linspace(-4, -0.1, 7)
    expected = torch.nn.functional.cross_entropy(q @ e.T / TAU - log_q, positives, reduction="none")
    torch.testing.assert_close(contrastive_loss(q, e, positives, log_q=log_q, temperature=TAU), expected)


def test_negatives_of_one_context_count_for_it_alone() -> None:
    q, e, own = _unit(2, 8), _unit(3, 8, seed=1), torch.tensor([[0.3, -torch.inf], [-torch.inf, -torch.inf]], requires_grad=True)
    positives, log_q = torch.tensor([0, 2]), torch.tensor([-1.0, -2.0, -3.0])
    plain = ranking_loss(q @ e.T, positives, log_q=log_q, temperature=0.5)
    loss = ranking_loss(q @ e.T, positives, log_q=log_q, own=own, temperature=0.5)
    logits = torch.cat([(q @ e.T)[0] / 0.5 - log_q, torch.tensor([0.3 / 0.5 + 1])])
    expected = torch.nn.functional.cross_entropy(logits[None], positives[:1])
    assert loss[0].item() == pytest.approx(expected.item(), rel=1e-5) and loss[0] > plain[0]
    assert loss[1].item() == pytest.approx(plain[1].item(), rel=1e-6)
    loss.sum().backward()
    assert own.grad is not None and own.grad[0, 0] > 0 and torch.equal(own.grad.flatten()[1:], torch.zeros(3))


def test_with_the_correction_scores_learn_how_often_an_entity_is_meant() -> None:
    """One context, three entities meant in 70, 20 and 10 of 100 turns; batches of two turns, so that few negatives are there."""
    draws = torch.Generator().manual_seed(0)
    share = torch.tensor([0.7, 0.2, 0.1])
    batches = torch.multinomial(share, 2 * 6000, replacement=True, generator=draws).view(-1, 2)
    gaps = {}
    for strength in (0.0, 1.0):
        scores, mean = torch.zeros(3, 1, requires_grad=True), torch.zeros(3)
        optimiser = torch.optim.SGD([scores], lr=0.05)
        for step, turns in enumerate(batches):
            columns, positives = turns.unique(return_inverse=True)
            log_q = strength * torch.log(1 - (1 - share) ** 2)[columns]
            contrastive_loss(torch.ones(2, 1), scores[columns], positives, log_q=log_q, temperature=1.0).sum().backward()
            optimiser.step()
            optimiser.zero_grad()
            mean += scores.detach()[:, 0] * (step >= 3000) / 3000
        gaps[strength] = [float(mean[0] - mean[1]), float(mean[0] - mean[2])]
    assert max(map(abs, gaps[0.0])) < 0.25, "each of two that meet was meant by one turn: equal"
    target = [math.log((1 - 0.3**2) / (1 - 0.8**2)), math.log((1 - 0.3**2) / (1 - 0.9**2))]
    assert gaps[1.0] == pytest.approx(target, abs=0.25)


KB = KnowledgeBase([Entity(str(i), "hotel", {"name": f"h{i}", "area": "north" if i < 4 else "south"}) for i in range(8)])


def _turn(*values: str, ids: tuple[str, ...] = ()) -> Turn:
    return Turn("t#0", "t", 0, "hotel", ("hi",), "r", gold_values=values, gold_entities=ids)


def test_recall_counts_only_turns_that_have_something_to_find() -> None:
    turns = [_turn("h1", "north"), _turn("south"), _turn(ids=("6",)), _turn("ref99", ids=("0", "5"))]
    ranked = [[0, 2, 1, 3, 4, 5, 6], [4, 0, 1, 2, 3, 5, 6], [0, 1, 2, 3, 4, 5, 7], [0, 1, 2, 3, 5, 4, 6]]
    scores = recall_scores(turns, ranked, RecallRule(KB))
    assert (scores.num_by_value, scores.num_by_id) == (3, 2)
    assert scores.by_value == {1: pytest.approx(2 / 3), 3: 1.0, 5: 1.0, 7: 1.0}
    assert scores.by_id == {1: 0.0, 3: 0.0, 5: 0.5, 7: 0.5}
    assert scores.choice == pytest.approx((2 / 3 + 3) / 4)
    assert scores.metrics()["retriever/recall_id@5"] == 0.5


def test_choice_falls_back_to_ids_and_then_to_nothing() -> None:
    by_id = recall_scores([_turn(ids=("0",))], [[0]], RecallRule(KB))
    assert by_id.choice == 1.0
    assert set(by_id.metrics()) == {f"retriever/recall_id@{k}" for k in (1, 3, 5, 7)}
    nothing = recall_scores([], [], RecallRule(KB))
    assert nothing.choice == 0.0
    assert nothing.metrics() == {}


@pytest.mark.parametrize("condensed", [True, False])
def test_turns_retrieve_from_their_session_only_where_dialogues_have_one(condensed: bool) -> None:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    retriever = build_retriever(cfg, texts=["name h1 ; area north"], root=Path())
    # The first finds what its two entities hold, the second has no entities (a calendar that is still empty).
    turns = [replace(_turn(ids=("1",)), kb=("1", "5")), _turn(ids=("1",))]
    validation = WarmValidation(turns, KB, device="cpu", condensed=condensed)
    scores, index = validation.score(retriever)
    assert len(index) == (2 if condensed else 8)
    # Without sessions both search the same entities with the same words.
    assert scores.by_id[3] in ({0.5} if condensed else {0.0, 1.0})
    assert scores.num_by_id == 2


def test_where_no_turn_has_entities_nothing_is_found() -> None:
    cfg = RetrieverParams(pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2))
    retriever = build_retriever(cfg, texts=["name h1 ; area north"], root=Path())
    scores, index = WarmValidation([_turn(ids=("1",))], KB, device="cpu", condensed=True).score(retriever)
    assert (len(index), scores.by_id[7], scores.num_by_id) == (0, 0.0, 1)
