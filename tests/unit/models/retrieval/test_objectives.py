import math

import pytest
import torch

from models.params.dialogue import JointParams
from models.retrieval.objectives import contrastive_margin, retriever_loss, retriever_losses

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


def test_mean_over_turns_with_entities():
    cfg = JointParams()
    mask = torch.tensor([[True, True, True], [False, False, False]])
    options = {"scores": SCORES, "token_logprobs": LOGPROBS, "token_mask": TOKENS, "entity_mask": mask, "temperature": 0.5}
    each = retriever_losses(cfg, **options)
    assert each[1] == 0 and retriever_loss(cfg, **options) == each[0] > 0


def test_missing_inputs_are_named():
    with pytest.raises(ValueError, match="`attention` must be given for the objective `adist`"):
        losses("adist")
    with pytest.raises(ValueError, match="`leave_one_out`"):
        losses("loop")


def test_contrastive_by_hand():
    d = torch.tensor([[-1.0, -1.3, -0.1, -5.0], [-0.5, -9.0, -9.0, -9.0]])
    mask = torch.tensor([[True, True, True, True], [True, False, False, False]])
    value = contrastive_margin(d, torch.tensor([-1.0, -0.4]), margin=0.05, top=3, mask=mask)
    assert float(value) == pytest.approx(((0.05 + 0.35) + 0.15) / 2, abs=1e-6)
