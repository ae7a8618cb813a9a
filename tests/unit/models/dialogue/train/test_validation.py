from dataclasses import replace

import pytest
import torch
from scipy.stats import kendalltau
from support import dialogue_parts as parts

from models.dialogue.train.validation import DialogueValidation, ValueF1, rank_agreement


def test_equal_and_reversed_orders():
    scores = torch.tensor([[0.9, 0.5, 0.1]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert rank_agreement(scores, 10 * scores - 30, mask) == {"tau": 1.0, "top1": 1.0, "inversions": 0.0, "num": 1.0}
    assert rank_agreement(scores, -scores, mask) == {"tau": -1.0, "top1": 0.0, "inversions": 3.0, "num": 1.0}


def test_tau_is_scipys_without_ties():
    g = torch.Generator().manual_seed(3)
    scores, likelihoods = torch.rand(20, 6, generator=g), -torch.rand(20, 6, generator=g)
    mask = torch.ones(20, 6, dtype=torch.bool)
    expected = sum(kendalltau(s, a).statistic for s, a in zip(scores.numpy(), likelihoods.numpy(), strict=True)) / 20
    assert rank_agreement(scores, likelihoods, mask)["tau"] == pytest.approx(expected, abs=1e-9)


def test_masked_entities_and_short_turns_are_left_out():
    inf = torch.inf
    scores = torch.tensor([[0.9, 0.5, -inf], [0.3, -inf, -inf], [-inf, -inf, -inf]])
    likelihoods = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    assert rank_agreement(scores, likelihoods, mask) == {"tau": 1.0, "top1": 1.0, "inversions": 0.0, "num": 1.0}
    assert rank_agreement(scores[1:], likelihoods[1:], mask[1:])["num"] == 0.0


def test_a_tie_is_neither_concordant_nor_discordant():
    report = rank_agreement(
        torch.tensor([[0.5, 0.5, 0.1]]), torch.tensor([[-1.0, -2.0, -3.0]]), torch.ones(1, 3, dtype=torch.bool)
    )
    assert report["tau"] == pytest.approx(2 / 3) and report["inversions"] == 0.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return parts.make_parts(parts.make_folders(tmp_path_factory.mktemp("town")), k=3)


def validation(made, turns, **options):
    known = {"meta": made.meta, "value_index": made.data.value_index, "values": made.data.values, "num_retrieved": 3}
    return DialogueValidation(turns, made.data.kb, device="cpu", **({"limit": None, "condensed": False} | known | options))


def run(made, check):
    return check.run(made.retriever, made.generator, made.refresher.index, temperature=0.1)


def test_recall_is_counted_from_the_hits(made):
    result = run(made, validation(made, made.data.valid, limit=2))
    for k in (1, 3, 5, 7):
        found = [
            t.gold_entities[0] in {made.data.kb[int(r)].id for r in rows[:k]}
            for t, rows in zip(made.data.valid, result.hits.rows, strict=True)
        ]
        assert result.metrics[f"valid/recall@{k}_id"] == pytest.approx(sum(found) / len(found))
        assert result.metrics[f"valid/recall@{k}_value"] >= result.metrics[f"valid/recall@{k}_id"]
    assert len(result.texts) == 2 and len(result.hits.rows) == len(made.data.valid)


def test_nll_is_a_mean_over_tokens_whatever_the_batch(made):
    values = [run(made, validation(made, made.data.valid, batch_size=size)).metrics for size in (1, 3, 16)]
    for name in ("valid/nll", "valid/agreement_tau", "valid/agreement_top1", "valid/q_max", "valid/value_f1"):
        assert values[0][name] == pytest.approx(values[1][name], abs=1e-5) == pytest.approx(values[2][name], abs=1e-5)


def test_api_turns_are_left_out_and_answered_turns_spread(made):
    turns = [replace(t, kind="api_call") if i % 2 else t for i, t in enumerate(made.data.valid)]
    check = validation(made, turns, limit=3)
    assert [t.id for t in check.turns] == [t.id for t in made.data.valid[::2]]
    assert check.answered == [0, 2, 4]


def test_what_cannot_be_told_is_absent(made):
    bare = [replace(t, gold_values=(), gold_entities=(), response="you are welcome") for t in made.data.valid]
    metrics = run(made, validation(made, bare, limit=2)).metrics
    assert not any("recall" in name or "value_f1" in name for name in metrics) and metrics["valid/nll"] > 0
    assert run(made, validation(made, [])).metrics == {}


def test_teacher_recall_counts_the_entities_that_make_the_reference_likeliest(made, monkeypatch):
    check = validation(made, made.data.valid)
    found = check.retrieve(made.retriever, made.refresher.index)

    def judged(right):
        """Likelihoods under which a retrieved entity with the gold values, if there is one, is best, or worst."""

        def force(generator, items, references):
            fused, single, mask, entities = DialogueValidation._force(check, generator, items, references)
            for b, item in enumerate(items):
                turn = next(t for t in made.data.valid if t.id == item.id)
                good = [float(check._rule.value_rank(turn, [e.row]) in (0, 1)) for e in item.entities]
                single[b, : len(good)] = torch.tensor(good)[:, None] * (1 if right else -1)
            return fused, single * mask[:, None], mask, entities

        monkeypatch.setattr(check, "_force", force)
        return run(made, check).metrics["valid/teacher_recall@1_value"]

    gold = [b for b, turn in enumerate(check.turns) if turn.gold_values]
    ranks = [[check._rule.value_rank(check.turns[b], [int(row)]) in (0, 1) for row in found.rows[b, :3]] for b in gold]
    assert judged(right=True) == pytest.approx(sum(map(any, ranks)) / len(gold))
    assert judged(right=False) == pytest.approx(sum(map(all, ranks)) / len(gold)) != judged(right=True)


F1 = ValueF1(["rice boat", "rice", "north", "7pm", "", "cheap"])


def test_by_hand():
    score = F1.score(["the Rice Boat is cheap .", "hello north"], ["rice boat in the north", "see you"])
    # Turn 1: both 1 (rice boat), predicted 2, true 2; turn 2 has no value in its reference.
    assert score == pytest.approx(2 * 1 / (2 + 2))


def test_longest_value_and_whole_words():
    assert len(F1.values_in("rice boat")) == 1 and F1.values_in("rice boat") != F1.values_in("rice")
    assert F1.values_in("northern licorice") == set() and F1.values_in("at 7 pm") == F1.values_in("7pm")


def test_nothing_to_score():
    assert F1.score(["north"], ["hello"]) is None
    assert F1.score(["hello"], ["north"]) == 0.0
