import torch

from models.generation.sampling import ChooseToken, draw_uniforms, pick, sample_seed


def test_seed_depends_on_every_part():
    seeds = {sample_seed(s, i, n) for s in (0, 1) for i in ("a", "a1", "b") for n in (0, 1)}
    assert len(seeds) == 12 and all(0 <= s < 2**63 for s in seeds)
    assert sample_seed(0, "a", 0) == sample_seed(0, "a", 0)
    assert sample_seed(1, "a", 11) != sample_seed(11, "a", 1)


def test_uniforms_of_a_row_do_not_depend_on_its_neighbours():
    alone = draw_uniforms([7], steps=5, device=torch.device("cpu"))
    among = draw_uniforms([3, 7, 9], steps=5, device=torch.device("cpu"))
    assert torch.equal(alone[0], among[1]) and not torch.equal(among[0], among[1])


def test_pick_follows_the_distribution():
    probs = torch.tensor([0.1, 0.6, 0.3])
    uniforms = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(pick(probs.log().expand(1000, 3), uniforms, top_p=1.0), minlength=3)
    assert counts.tolist() == [100, 600, 300]


def test_nucleus_keeps_the_fewest_tokens_that_reach_top_p():
    probs = torch.tensor([0.1, 0.6, 0.3])
    uniforms = (torch.arange(900) + 0.5) / 900
    two = torch.bincount(pick(probs.log().expand(900, 3), uniforms, top_p=0.7), minlength=3)
    assert two.tolist() == [0, 600, 300]
    one = pick(probs.log().expand(900, 3), uniforms, top_p=0.59)
    assert set(one.tolist()) == {1}
    assert pick(probs.log()[None], torch.tensor([0.9999999]), top_p=1e-9).item() == 1


def test_pick_never_takes_an_impossible_token():
    logits = torch.tensor([[0.0, float("-inf"), float("-inf")]]).expand(3, 3)
    assert pick(logits, torch.tensor([0.0, 0.5, 0.9999999]), top_p=1.0).tolist() == [0, 0, 0]


def test_greedy_masks_rows_beyond_the_vocabulary():
    choose = ChooseToken(vocab_rows=2, prompt_length=1, uniforms=None)
    scores = choose(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[1.0, 2.0, 9.0]]))
    assert scores.tolist() == [[1.0, 2.0, float("-inf")]] and choose.broken.tolist() == [False]


def test_sampling_uses_the_number_of_the_step_and_the_temperature():
    uniforms = torch.tensor([[0.05, 0.95]])
    choose = ChooseToken(vocab_rows=2, prompt_length=3, uniforms=uniforms, temperature=2.0, top_p=1.0)
    logits = torch.tensor([[0.81, 0.19, 0.5]]).log()  # at temperature 2: 9/(9+√19…) — the square roots, 0.9 : 0.436
    first = choose(torch.zeros(1, 3, dtype=torch.long), logits)
    second = choose(torch.zeros(1, 4, dtype=torch.long), logits)
    assert first.argmax().item() == 0 and second.argmax().item() == 1
    assert first.isfinite().sum().item() == 1
    cold = ChooseToken(vocab_rows=2, prompt_length=3, uniforms=torch.tensor([[0.72]]), temperature=1.0, top_p=1.0)
    warm = ChooseToken(vocab_rows=2, prompt_length=3, uniforms=torch.tensor([[0.72]]), temperature=2.0, top_p=1.0)
    assert [c(torch.zeros(1, 3, dtype=torch.long), logits).argmax().item() for c in (cold, warm)] == [0, 1]


def test_rows_that_break_are_remembered():
    choose = ChooseToken(vocab_rows=2, prompt_length=1, uniforms=None)
    choose(torch.zeros(2, 1, dtype=torch.long), torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))
    choose(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2))
    assert choose.broken.tolist() == [False, True]
