import numpy as np
import pytest
import torch
from support import dialogue_parts as parts

from models.dialogue.train.module import COMPONENTS, Scales
from models.dialogue.train.objectives import log_marginal
from models.dialogue.train.schedule import StepMode

JOINT, GENERATOR_ONLY, FROZEN = StepMode(True, True), StepMode(False, False), StepMode(True, False)
ONE = Scales(1.0, 1.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return parts.make_folders(tmp_path_factory.mktemp("town"))


def step(made, *, mode=JOINT, scales=ONE, turns=(0, 1, 2, 3)):
    batch = made.collator([(0, place, turn) for place, turn in enumerate(turns)])
    made.module.train().zero_grad()
    output = made.module(batch, mode=mode, scales=scales)
    output.loss.backward()
    return batch, output


def sums(output):
    return dict(zip(COMPONENTS, output.sums.tolist(), strict=True))


def moved(made, part):
    return sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in made.module.get_submodule(part).parameters())


def test_loss_is_the_weighted_sum_of_its_parts_with_fresh_scores(folders):
    """Put together again from the models themselves: eq. 7 with K + 1 entities."""
    made = parts.make_parts(folders, alpha=0.7, beta=0.3, k=3)
    batch, output = step(made, scales=Scales(0.1, 0.25))
    nll = mml = 0.0
    index = made.refresher.index
    for b, turn in enumerate(batch.turns):
        context = made.data.train[turn].context
        q = made.retriever.encode_contexts(batch.query_ids[b : b + 1], batch.query_mask[b : b + 1])
        choice = made.chooser.choose(index, q.detach().numpy(), contexts=[context], within=None, seeds=[(0, b)])
        entities = [made.retriever.entity_text(made.data.kb[int(r)]) for r in choice.rows[0]]
        e = made.retriever.encode_entities(*made.retriever.pad(made.retriever.tokenise_entities(entities)))
        encoded = made.generator.encode([batch.contexts[b]], choice.passages, device="cpu")
        response = batch.response_ids[b : b + 1], batch.response_mask[b : b + 1]
        nll -= made.generator.response_logprobs(encoded, *response).sum()
        single = made.generator.single_logprobs(encoded, *response)
        mml -= log_marginal(q @ e.T, single, response[1], entity_mask=encoded.entity_mask, temperature=0.1)[0]
    nll, mml = nll.detach(), mml.detach()
    torch.testing.assert_close(output.loss.detach(), 0.7 * 0.1 * nll + 0.3 * 0.25 * mml, rtol=1e-4, atol=1e-4)
    assert sums(output)["nll"] == pytest.approx(float(nll), rel=1e-4)
    assert sums(output)["objective"] == pytest.approx(float(mml), rel=1e-4)
    torch.testing.assert_close(output.by_turn.sum(), 0.7 * nll + 0.3 * mml, rtol=1e-4, atol=1e-3)


def test_scores_are_fresh_while_the_choice_is_stale(folders):
    made = parts.make_parts(folders)
    _, before = step(made)
    with torch.no_grad():
        for name, parameter in made.retriever.named_parameters():
            if "word_embeddings" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.2)
    stale = made.refresher.index
    _, after = step(made)
    assert made.refresher.index is stale and sums(after)["score_gap"] != pytest.approx(sums(before)["score_gap"], abs=1e-4)


@pytest.mark.parametrize(
    ("mode", "params", "retriever", "generator"),
    [
        (JOINT, {}, True, True),
        (GENERATOR_ONLY, {}, False, True),
        (FROZEN, {}, False, True),
        (JOINT, {"alpha": 0.0, "stop_generator": True}, True, False),
        (JOINT, {"alpha": 0.0, "objective": "emdr2"}, True, False),
        (JOINT, {"alpha": 0.0, "objective": "pdist"}, True, False),
        (JOINT, {"alpha": 0.0, "objective": "loop"}, True, False),
        (JOINT, {"alpha": 0.0, "objective": "adist"}, True, False),
        (JOINT, {"alpha": 0.0, "objective": "replug"}, True, False),
        (JOINT, {"alpha": 0.0}, True, True),
    ],
)
def test_what_gets_a_gradient(folders, mode, params, retriever, generator):
    made = parts.make_parts(folders, **params)
    step(made, mode=mode)
    assert (moved(made, "retriever") > 0) == retriever and (moved(made, "generator") > 0) == generator


def test_hybrid_scores_in_the_loss_are_fresh_and_train_their_weights(folders, tmp_path):
    """The scores of a fresh index are those of the loss; the gradient of the weights is that of finite differences."""
    made = parts.make_parts(parts.make_folders(tmp_path, scoring="hybrid"), alpha=0.0, beta=1.0, k=3, stop_generator=True)
    scorer = made.retriever.scorer
    batch, _ = step(made)
    q_reps = made.retriever.encode_contexts(batch.query_ids, batch.query_mask)
    choice = made.module._choose(q_reps, batch, mode=JOINT)
    scores = made.module._scores(q_reps, choice, fresh=True).detach()
    np.testing.assert_allclose(scores.numpy(), choice.scores, atol=1e-5)
    assert choice.features is not None and choice.features[:, :, 2].any()
    for parameter in (scorer.dense, scorer.lexical):
        for place in np.ndindex(*parameter.shape):
            found, change = float(parameter.grad[place]), 2e-3
            losses = []
            for sign in (1, -2):
                with torch.no_grad():
                    parameter[place] += sign * change
                losses.append(float(made.module(batch, mode=JOINT, scales=ONE).loss.detach()))
            with torch.no_grad():
                parameter[place] += change
            assert found == pytest.approx((losses[0] - losses[1]) / (2 * change), rel=0.05, abs=3e-3), place
    assert moved(made, "retriever.scorer") == 2


def test_a_frozen_retriever_is_not_run_on_entities_and_has_no_dropout(folders, monkeypatch):
    made = parts.make_parts(folders, retriever_lr=0.0, dropout=0.5)
    monkeypatch.setattr(made.retriever, "encode_entities", lambda *_: pytest.fail("encoded entities"))
    gaps = [sums(step(made, mode=FROZEN)[1])["score_gap"] for _ in range(2)]
    assert gaps[0] == gaps[1] and not any(p.requires_grad for p in made.retriever.parameters())
    assert not made.retriever.training and made.generator.training


def test_each_entity_is_encoded_once_a_micro_batch(folders, monkeypatch):
    made = parts.make_parts(folders, k=6)
    encode, seen = made.retriever.encode_entities, []
    monkeypatch.setattr(made.retriever, "encode_entities", lambda ids, mask: (seen.append(len(ids)), encode(ids, mask))[1])
    step(made, turns=tuple(range(8)))
    assert len(seen) == 1 and seen[0] <= 12


def test_temperature_is_trained_on_demand(folders):
    fixed, learned = parts.make_parts(folders), parts.make_parts(folders, learn_temperature=True)
    step(fixed), step(learned)
    assert fixed.module.log_temperature.grad is None and learned.module.log_temperature.grad.abs() > 0
    assert float(learned.module.temperature.detach()) == pytest.approx(0.1)


def test_contrastive_reads_the_best_ranked_and_never_the_negative(folders):
    made = parts.make_parts(folders, variant="contrastive", beta=0.0, alpha=0.0, margin=50.0, contrastive_top=8, k=3)
    batch, output = step(made, mode=FROZEN)
    ctr = 0.0
    for b, turn in enumerate(batch.turns):
        q = made.retriever.encode_contexts(batch.query_ids[b : b + 1], batch.query_mask[b : b + 1]).detach().numpy()
        context = made.data.train[turn].context
        passages = made.chooser.choose(made.refresher.index, q, contexts=[context], within=None, seeds=[(0, b)]).passages
        response = batch.response_ids[b : b + 1], batch.response_mask[b : b + 1]
        length = response[1].sum()
        encoded = made.generator.encode([batch.contexts[b]], passages, device="cpu")
        d = made.generator.single_logprobs(encoded, *response).sum(2)[0] / length
        bare = made.generator.context_logprobs([batch.contexts[b]], *response, device="cpu").sum() / length
        ctr += sum(float((bare - d[i]).detach() + 50.0) for i in range(3))
    assert sums(output)["ctr"] == pytest.approx(ctr, rel=1e-4) and float(output.loss.detach()) == pytest.approx(ctr, rel=1e-4)


def test_empty_session_trains_on_the_context_alone(folders):
    made = parts.make_parts(folders, condensed=True, negative_entity="none")
    batch = made.collator([(0, 0, 0), (0, 1, 1)])
    from dataclasses import replace

    made.module.train()
    output = made.module(replace(batch, within=[[], []]), mode=JOINT, scales=ONE)
    output.loss.backward()
    assert sums(output)["objective"] == 0 and torch.isfinite(output.loss) and moved(made, "generator") > 0


def test_concat_fusion(folders):
    generator = {"fusion": "concat", "pico": parts.town.dialogue_params().generator.pico.model_dump()}
    made = parts.make_parts(folders, generator=generator)
    _, output = step(made)
    assert torch.isfinite(output.loss) and moved(made, "retriever") > 0


def test_the_generator_reads_the_positive_before_joint_steps_only(folders, monkeypatch):
    made = parts.make_parts(folders, k=2, generator_entities="with_positive", positives=[11] * 40)
    choose, chosen = made.chooser.choose, []
    monkeypatch.setattr(made.chooser, "choose", lambda *a, **k: (chosen.append(choose(*a, **k)), chosen[-1])[1])
    step(made, mode=GENERATOR_ONLY)
    step(made, mode=JOINT)
    assert all(11 in row[:2] for row in chosen[0].rows) and not all(11 in row[:2] for row in chosen[1].rows)


def test_turns_without_a_positive_do_not_train_the_retriever(folders):
    each, mute = [3] * 40, [None] * 40
    some = [None if turn % 2 else 3 for turn in range(40)]
    figures = {}
    for name, positives in {"all": each, "none": mute, "some": some}.items():
        made = parts.make_parts(folders, alpha=0.0, stop_generator=True, objective_turns="with_positive", positives=positives)
        _, output = step(made)
        figures[name] = sums(output)["objective"], moved(made, "retriever"), output.by_turn.tolist()
    plain = sums(step(parts.make_parts(folders, alpha=0.0, stop_generator=True))[1])["objective"]
    assert figures["all"][0] == pytest.approx(plain) and figures["none"][0] == 0
    assert figures["all"][1] > 0 and figures["none"][1] == 0
    assert figures["some"][2][1::2] == [0, 0] and figures["some"][2][::2] == pytest.approx(figures["all"][2][::2])
