"""What must hold of the marginal likelihood, its gradient and its alternatives, for any scores and likelihoods."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dialogue.train.objectives import (
    contrastive_margins,
    entity_log_probs,
    log_marginal,
    response_logprobs,
    retriever_losses,
)
from models.params.dialogue import JointParams

FORMS = ("sequence", "token", "sequence_norm")
OBJECTIVES = ("mml", "emdr2", "pdist", "loop", "adist", "replug")


@st.composite
def problems(draw, *, max_k: int = 6, min_k: int = 1):
    """Scores [B, K], token log-probabilities [B, K, T], token and entity masks; every turn has a token and an entity."""
    b, k, t = draw(st.integers(1, 4)), draw(st.integers(min_k, max_k)), draw(st.integers(1, 6))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scores = 2 * torch.rand(b, k, generator=g, dtype=torch.float64) - 1
    logprobs = -draw(st.sampled_from([0.1, 1.0, 8.0])) * torch.rand(b, k, t, generator=g, dtype=torch.float64)
    tokens = torch.arange(t)[None] < torch.randint(1, t + 1, (b, 1), generator=g)
    entities = torch.rand(b, k, generator=g) < 0.8
    entities[:, 0] = True
    return scores, logprobs, tokens, entities


temperatures = st.sampled_from([0.05, 0.1, 1.0, 3.0])
forms = st.sampled_from(FORMS)
pytestmark = pytest.mark.filterwarnings("ignore")
many = settings(deadline=None, max_examples=60)
few = settings(deadline=None, max_examples=15)


def loss_and_gradients(problem, **options):
    scores, logprobs, tokens, entities = problem
    s, a = scores.clone().requires_grad_(), logprobs.clone().requires_grad_()
    loss = -log_marginal(s, a, tokens, entity_mask=entities, **options)
    ds, da = torch.autograd.grad(loss.sum(), (s, a))
    return loss.detach(), ds, da


@given(problems(max_k=1), temperatures, forms)
@many
def test_one_entity_gives_its_own_likelihood_and_no_retriever_gradient(problem, temperature, form):
    _, logprobs, tokens, entities = problem
    loss, ds, da = loss_and_gradients(problem, temperature=temperature, form=form)
    likelihood = response_logprobs(logprobs, tokens, entities, per_token=form != "sequence")[:, 0]
    torch.testing.assert_close(loss, -likelihood)
    assert ds.eq(0).all() and da[tokens[:, None]].ne(0).all()


@given(problems(), temperatures, forms)
@many
def test_equal_likelihoods_give_no_retriever_gradient(problem, temperature, form):
    scores, logprobs, tokens, entities = problem
    equal = logprobs[:, :1].expand_as(logprobs).contiguous()
    _, ds, _ = loss_and_gradients((scores, equal, tokens, entities), temperature=temperature, form=form)
    assert ds.abs().max() < 1e-10


@given(problems(), temperatures, forms)
@many
def test_score_gradients_sum_to_zero_and_masked_places_get_none(problem, temperature, form):
    *_, entities = problem
    _, ds, da = loss_and_gradients(problem, temperature=temperature, form=form)
    assert ds.sum(dim=1).abs().max() < 1e-9
    assert ds[~entities].eq(0).all() and da[~entities].eq(0).all()


@given(problems(), temperatures, forms, st.randoms(use_true_random=False))
@many
def test_order_of_entities_changes_nothing(problem, temperature, form, random):
    scores, logprobs, tokens, entities = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    before, ds, _ = loss_and_gradients(problem, temperature=temperature, form=form)
    mixed = (scores[:, order], logprobs[:, order], tokens, entities[:, order])
    after, ds_mixed, _ = loss_and_gradients(mixed, temperature=temperature, form=form)
    torch.testing.assert_close(before, after)
    torch.testing.assert_close(ds[:, order], ds_mixed, atol=1e-12, rtol=1e-9)


@given(problems(), temperatures, st.sampled_from(["sequence", "sequence_norm"]))
@many
def test_bounds(problem, temperature, form):
    """−max a ≤ L ≤ −Σ q a (the second is Jensen's)."""
    scores, logprobs, tokens, entities = problem
    loss, *_ = loss_and_gradients(problem, temperature=temperature, form=form)
    a = response_logprobs(logprobs, tokens, entities, per_token=form == "sequence_norm")
    q = entity_log_probs(scores, entities, temperature=temperature).exp()
    assert (loss >= -a.masked_fill(~entities, -torch.inf).max(dim=1).values - 1e-9).all()
    assert (loss <= -(q * a).sum(dim=1) + 1e-9).all()


@given(problems(), temperatures, forms, st.floats(-50, 50))
@many
def test_a_shift_of_all_scores_changes_nothing(problem, temperature, form, shift):
    scores, *rest = problem
    before, ds, _ = loss_and_gradients(problem, temperature=temperature, form=form)
    after, ds_shifted, _ = loss_and_gradients((scores + shift, *rest), temperature=temperature, form=form)
    torch.testing.assert_close(before, after, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(ds, ds_shifted, atol=1e-8, rtol=1e-6)


@given(problems(), temperatures)
@many
def test_what_stands_at_masked_places_is_not_read(problem, temperature):
    scores, logprobs, tokens, entities = problem
    junk_s = scores.masked_fill(~entities, torch.nan)
    junk_a = logprobs.masked_fill(~(entities[:, :, None] & tokens[:, None]), -torch.inf)
    for form in FORMS:
        before = loss_and_gradients(problem, temperature=temperature, form=form)
        after = loss_and_gradients((junk_s, junk_a, tokens, entities), temperature=temperature, form=form)
        for x, y in zip(before, after, strict=True):
            torch.testing.assert_close(x, y)


@given(problems(), temperatures, st.sampled_from(["sequence", "sequence_norm"]))
@many
def test_closed_form_gradients(problem, temperature, form):
    """dL/ds = (q − π)/τ and dL/da = −π (over |r|, if normalised), with the posterior π = softmax(log q + a)."""
    scores, logprobs, tokens, entities = problem
    _, ds, da = loss_and_gradients(problem, temperature=temperature, form=form)
    log_q = entity_log_probs(scores, entities, temperature=temperature)
    norm = form == "sequence_norm"
    posterior = torch.softmax(log_q + response_logprobs(logprobs, tokens, entities, per_token=norm), dim=1)
    torch.testing.assert_close(ds, (log_q.exp() - posterior) / temperature, atol=1e-10, rtol=1e-8)
    share = posterior / tokens.sum(dim=1, keepdim=True) if norm else posterior
    torch.testing.assert_close(da, -share[:, :, None] * tokens[:, None], atol=1e-10, rtol=1e-8)


@given(problems(min_k=2, max_k=4), temperatures, st.sampled_from(OBJECTIVES), forms)
@few
def test_gradient_on_scores_by_finite_differences(problem, temperature, objective, form):
    scores, logprobs, tokens, entities = problem
    cfg = JointParams(objective=objective, marginal=form, target_temperature=0.5)
    extra = {"leave_one_out": logprobs.mean(dim=2), "attention": logprobs.exp().mean(dim=2)}

    def loss(s, log_tau):
        return retriever_losses(
            cfg, scores=s, token_logprobs=logprobs, token_mask=tokens, entity_mask=entities, temperature=log_tau.exp(), **extra
        )

    log_tau = torch.tensor(temperature, dtype=torch.float64).log().requires_grad_()
    assert torch.autograd.gradcheck(loss, (scores.clone().requires_grad_(), log_tau), atol=1e-5, rtol=1e-4)


@given(problems(max_k=3), forms, st.integers(0, 2**31))
@few
def test_gradient_on_generator_logits_by_finite_differences(problem, form, seed):
    scores, logprobs, tokens, entities = problem
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(*logprobs.shape, 3, generator=g, dtype=torch.float64).requires_grad_()
    labels = torch.randint(3, logprobs.shape, generator=g)

    def loss(z):
        chosen = torch.log_softmax(z, dim=-1).gather(-1, labels[..., None])[..., 0]
        return -log_marginal(scores, chosen, tokens, entity_mask=entities, temperature=0.1, form=form)

    assert torch.autograd.gradcheck(loss, (logits,), atol=1e-5, rtol=1e-4)


@given(problems(min_k=2), st.sampled_from(["pdist", "loop", "adist", "replug"]), temperatures)
@many
def test_divergences_are_not_negative_and_vanish_at_their_target(problem, objective, temperature):
    scores, logprobs, tokens, entities = problem
    cfg = JointParams(objective=objective, target_temperature=0.7)
    utility = response_logprobs(logprobs, tokens, entities, per_token=True)
    given_ = {
        "token_logprobs": logprobs.clone().requires_grad_(),
        "token_mask": tokens,
        "entity_mask": entities,
        "leave_one_out": -utility,
        "attention": utility,
        "temperature": temperature,
    }
    at_target = (utility / 0.7 * temperature).requires_grad_()
    assert retriever_losses(cfg, scores=scores, **given_).min() > -1e-12
    loss = retriever_losses(cfg, scores=at_target, **given_).mean()
    assert abs(float(loss)) < 1e-9
    ds, da = torch.autograd.grad(loss, (at_target, given_["token_logprobs"]), allow_unused=True)
    assert ds.abs().max() < 1e-8 and da is None  # the reader gets no gradient


@given(problems(), st.floats(0, 0.5), st.integers(1, 8))
@many
def test_contrastive_loss_is_zero_iff_every_entity_beats_none_by_the_margin(problem, margin, top):
    _, logprobs, tokens, entities = problem
    d = response_logprobs(logprobs, tokens, entities, per_token=True)
    worst = d.masked_fill(~entities, torch.inf)[:, :top].min(dim=1).values
    assert (contrastive_margins(d, worst - margin - 1e-9, margin=margin, top=top, mask=entities) == 0).all()
    missed = contrastive_margins(d, worst - margin + 1e-3, margin=margin, top=top, mask=entities)
    assert missed.mean() >= 1e-3 - 1e-9
