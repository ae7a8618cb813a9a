import math

import pytest
import torch

from models.dialogue.train.objectives import (
    contrastive_margins,
    entity_log_probs,
    log_marginal,
    response_logprobs,
    retriever_losses,
)
from models.params.dialogue import JointParams


def worked(form, *, temperature=1.0, dtype=torch.float32):
    """Two entities, q = (0.75, 0.25), two tokens with probabilities (0.5, 0.5) and (0.1, 0.9)."""
    scores = torch.tensor([[math.log(3.0), 0.0]], dtype=dtype) * temperature
    logprobs = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]], dtype=dtype).log()
    masks = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool)
    return float(log_marginal(scores, logprobs, masks[0], entity_mask=masks[1], temperature=temperature, form=form))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_by_hand(temperature):
    assert worked("sequence", temperature=temperature) == pytest.approx(math.log(0.75 * 0.25 + 0.25 * 0.09), abs=1e-6)
    by_token = (math.log(0.75 * 0.5 + 0.25 * 0.1) + math.log(0.75 * 0.5 + 0.25 * 0.9)) / 2
    assert worked("token", temperature=temperature) == pytest.approx(by_token, abs=1e-6)
    assert worked("sequence_norm", temperature=temperature) == pytest.approx(math.log(0.75 * 0.5 + 0.25 * 0.3), abs=1e-6)


def test_saturation_of_raw_cosines():
    """With K = 7 cosines the best q at τ = 1 is e/(e + 6/e) = 0.55; at τ = 0.05 it is all but 1 (weakness 3 of the paper)."""
    scores = torch.full((1, 7), -1.0)
    scores[0, 2] = 1.0
    mask = torch.ones(1, 7, dtype=torch.bool)
    assert float(entity_log_probs(scores, mask, temperature=1.0).exp().max()) == pytest.approx(0.552, abs=5e-4)
    assert float(entity_log_probs(scores, mask, temperature=0.05).exp().max()) > 1 - 1e-6
    logprobs = torch.full((1, 7, 3), -20.0)
    logprobs[0, 5] = -0.01
    gradients = {}
    for tau in (1.0, 0.05):
        leaf = scores.clone().requires_grad_()
        loss = -log_marginal(leaf, logprobs, torch.ones(1, 3, dtype=torch.bool), entity_mask=mask, temperature=tau)
        gradients[tau] = torch.autograd.grad(loss.sum(), leaf)[0]
    assert gradients[1.0].abs().max() < 1.0 < gradients[0.05].abs().max()  # bounded by 1/τ
    assert gradients[0.05][0, 5] == pytest.approx(-20.0, abs=0.01)


def test_half_precision_is_reduced_in_float32():
    scores, mask = torch.tensor([[0.5, 0.25]], dtype=torch.bfloat16), torch.ones(1, 2, dtype=torch.bool)
    logprobs = torch.full((1, 2, 200), -0.125, dtype=torch.bfloat16)
    value = log_marginal(scores, logprobs, torch.ones(1, 200, dtype=torch.bool), entity_mask=mask, temperature=0.1)
    assert value.dtype == torch.float32 and float(value) == pytest.approx(-25.0, abs=1e-4)


def test_turn_without_entities_is_zero_and_spoils_no_gradient():
    scores = torch.tensor([[0.3, 0.1], [torch.nan, torch.nan]], requires_grad=True)
    logprobs = torch.full((2, 2, 3), -1.0, requires_grad=True)
    mask = torch.tensor([[True, True], [False, False]])
    for form in ("sequence", "token", "sequence_norm"):
        value = log_marginal(scores, logprobs, torch.ones(2, 3, dtype=torch.bool), entity_mask=mask, temperature=0.1, form=form)
        assert value[1] == 0 and value[0] < 0
        ds, da = torch.autograd.grad(value.sum(), (scores, logprobs))
        assert ds[1].eq(0).all() and da[1].eq(0).all() and da.isfinite().all() and ds.isfinite().all()


def test_likelihoods_of_responses():
    logprobs = torch.tensor([[[-1.0, -2.0, -9.0], [-3.0, -3.0, -9.0]]])
    tokens, entities = torch.tensor([[True, True, False]]), torch.tensor([[True, False]])
    assert response_logprobs(logprobs, tokens, entities, per_token=False).tolist() == [[-3.0, 0.0]]
    assert response_logprobs(logprobs, tokens, entities, per_token=True).tolist() == [[-1.5, 0.0]]


SCORES = torch.tensor([[0.2, 0.1, 0.0], [0.5, 0.4, 0.0]])
LOGPROBS = torch.tensor([[[-1.0, -1.0], [-2.0, -0.5], [-3.0, -3.0]], [[-1.0, -9.0], [-0.5, -9.0], [0.0, 0.0]]])
TOKENS = torch.tensor([[True, True], [True, False]])
ENTITIES = torch.tensor([[True, True, True], [True, True, False]])


def losses(objective, scores=SCORES, logprobs=LOGPROBS, **options):
    extra = {name: options.pop(name) for name in ("leave_one_out", "attention") if name in options}
    cfg = JointParams(objective=objective, **options)
    return retriever_losses(
        cfg, scores=scores, token_logprobs=logprobs, token_mask=TOKENS, entity_mask=ENTITIES, temperature=0.5, **extra
    )


def softmax(*values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_targets_by_hand():
    q = [softmax(0.4, 0.2, 0.0), softmax(1.0, 0.8)]
    t = [softmax(-1.0 / 0.5, -1.25 / 0.5, -3.0 / 0.5), softmax(-1.0 / 0.5, -0.5 / 0.5)]
    pdist = losses("pdist", target_temperature=0.5).tolist()
    assert pdist == pytest.approx([kl(t[0], q[0]), kl(t[1], q[1])], abs=1e-6)
    replug = losses("replug", target_temperature=0.5).tolist()
    assert replug == pytest.approx([kl(q[0], t[0]), kl(q[1], t[1])], abs=1e-6)
    without = torch.tensor([[-4.0, -1.0, -1.0], [-2.0, -3.0, 7.0]])
    t = [softmax(4.0, 1.0, 1.0), softmax(2.0, 3.0)]
    assert losses("loop", leave_one_out=without).tolist() == pytest.approx([kl(t[0], q[0]), kl(t[1], q[1])], abs=1e-6)
    assert losses("adist", attention=-without).tolist() == pytest.approx([kl(t[0], q[0]), kl(t[1], q[1])], abs=1e-6)


def test_the_entity_that_is_missed_most_gains_score_under_loop():
    scores = SCORES.clone().requires_grad_()
    losses("loop", scores, leave_one_out=torch.tensor([[-9.0, -1.0, -1.0], [-1.0, -9.0, 0.0]])).sum().backward()
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1] and scores.grad[1, 1] < 0 < scores.grad[1, 0]


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"objective": "mml"}, True),
        ({"objective": "mml", "marginal": "token"}, True),
        ({"objective": "mml", "stop_generator": True}, False),
        ({"objective": "emdr2"}, False),
        ({"objective": "pdist"}, False),
    ],
)
def test_which_objectives_train_the_generator(options, trained):
    logprobs = LOGPROBS.clone().requires_grad_()
    loss = losses(scores=SCORES.clone().requires_grad_(), logprobs=logprobs, **options)
    gradient = torch.autograd.grad(loss.sum(), logprobs, allow_unused=True)[0]
    assert (gradient is not None) == trained


def test_emdr2_is_the_token_marginal():
    assert torch.equal(losses("emdr2"), losses("mml", marginal="token"))
    assert not torch.equal(losses("emdr2"), losses("mml"))


def test_a_turn_without_entities_costs_nothing():
    cfg = JointParams()
    mask = torch.tensor([[True, True, True], [False, False, False]])
    options = {"scores": SCORES, "token_logprobs": LOGPROBS, "token_mask": TOKENS, "entity_mask": mask, "temperature": 0.5}
    each = retriever_losses(cfg, **options)
    assert each[1] == 0 and each[0] > 0


def test_missing_inputs_are_named():
    with pytest.raises(ValueError, match="`attention` must be given for the objective `adist`"):
        losses("adist")
    with pytest.raises(ValueError, match="`leave_one_out`"):
        losses("loop")


def test_contrastive_by_hand():
    d = torch.tensor([[-1.0, -1.3, -0.1, -5.0], [-0.5, -9.0, -9.0, -9.0]])
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    values = contrastive_margins(d, torch.tensor([-1.0, -0.4]), margin=0.05, top=3, mask=mask)
    assert values.tolist() == pytest.approx([0.05 + 0.35, 0.15], abs=1e-6)
