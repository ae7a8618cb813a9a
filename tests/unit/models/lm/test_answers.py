from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import NumericsError
from models.lm.answers import NextTokenProcessor, draw_uniforms, generate_responses, sample_seed, sample_top_p, stop_ids
from models.lm.loading import load_codec
from models.lm.prompts import PromptItem
from models.params.teach import ResponseParams
from models.schema import Message

ARCHITECTURES = ["llama", "mistral", "gpt_neox", "mpt"]
PROMPTS = ["Hi", "What is 17 plus 25?", "Once upon a time there was a little town on a hill", "def add(a, b):", "I", "東京 🙂"]
LMS = Path("data/external/lms")


def items(*prompts: str) -> list[PromptItem]:
    return [PromptItem(f"row-{i}", [Message("user", p)]) for i, p in enumerate(prompts)]


def greedy_without_cache(source, item: PromptItem, steps: int) -> str:
    """The slow truth: one row, no padding, no cache, arg-max of the real vocabulary."""
    from models.lm.prompts import fit_prompts

    (prompt,) = fit_prompts(source.source, source.codec, [item], room=steps, overflow="truncate_left")
    ids = prompt.ids.tolist()
    start = len(ids)
    for _ in range(steps):
        with torch.no_grad():
            logits = source.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1, : source.codec.vocab_size]
        best = int(logits.argmax())
        if best in stop_ids(source):
            break
        ids.append(best)
    return source.codec.decode(ids[start:])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_batched_greedy_equals_one_by_one_without_padding_or_cache(pico, arch):
    source = pico(arch)
    together = generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=12))
    assert [r.text for r in together] == [greedy_without_cache(source, item, 12) for item in items(*PROMPTS)]
    assert len({r.text for r in together}) > 3, "the untrained model must tell prompts apart for this test to mean anything"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sampling_does_not_depend_on_the_batch(pico, arch):
    source = pico(arch)
    cfg = ResponseParams(max_new_tokens=10, temperature=0.9, top_p=0.9, num_samples=3, seed=5)
    together = generate_responses(source, items(*PROMPTS), cfg)
    alone = [r for item in items(*PROMPTS) for r in generate_responses(source, [item], cfg.model_copy(update={"batch_size": 1}))]
    assert together == alone
    assert [(r.id, r.sample) for r in together] == [(f"row-{i}", s) for i in range(len(PROMPTS)) for s in range(3)]
    assert len({r.text for r in together}) > len(PROMPTS), "samples of one prompt differ"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_first_of_several_answers_may_be_the_greedy_one(pico, arch):
    source = pico(arch)
    sampled = ResponseParams(max_new_tokens=10, temperature=0.9, top_p=0.9, num_samples=3, seed=5)
    greedy = generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=10))
    mixed = generate_responses(source, items(*PROMPTS), sampled.model_copy(update={"greedy_first": True}))
    assert mixed[::3] == greedy
    plain = generate_responses(source, items(*PROMPTS), sampled)
    assert [r for r in mixed if r.sample] == [r for r in plain if r.sample], "the others stay what they were"
    assert plain[::3] != greedy


def test_seed_decides_the_samples(pico):
    source, cfg = pico("llama"), ResponseParams(max_new_tokens=10, temperature=1.0)
    texts = [[r.text for r in generate_responses(source, items(*PROMPTS), cfg.model_copy(update={"seed": s}))] for s in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]


def test_ids_beyond_the_tokenizer_are_never_produced(pico):
    source = pico("llama", head_size=400)
    with torch.no_grad():
        source.model.get_output_embeddings().weight[source.codec.vocab_size :] *= 50
    assert source.vocab_rows == source.codec.vocab_size < 400
    greedy = generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=8))
    assert [r.text for r in greedy] == [greedy_without_cache(source, item, 8) for item in items(*PROMPTS)]
    sampled = generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=8, temperature=2.0, top_p=1.0))
    assert all(len(r.text) >= 4 for r in sampled if r.num_tokens == 8), "ids without a text would leave gaps"


def test_stops_at_any_stop_id_and_leaves_it_out(pico):
    source = pico("llama", context_length=127)
    (free,) = generate_responses(source, items("Hi"), ResponseParams(max_new_tokens=12))
    ids = source.codec.encode_responses([free.text])[0].ids.tolist()
    assert free.finish == "length" and free.num_tokens == 12
    third = next(i for i in ids[2:] if i not in ids[:2])
    stopping = replace(source, codec=load_codec(replace(source.source, end_ids=(source.codec.eos_id, third))))
    (cut,) = generate_responses(stopping, items("Hi"), ResponseParams(max_new_tokens=12))
    assert cut.finish == "eos" and free.text.startswith(cut.text) and 0 < cut.num_tokens < 12


def test_checkpoints_own_decoding_settings_are_not_used(pico):
    source = pico("llama")
    expected = generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=12))
    config = source.model.generation_config
    config.repetition_penalty, config.suppress_tokens, config.max_new_tokens = 5.0, [40, 41, 42, 43], 3
    try:
        assert generate_responses(source, items(*PROMPTS), ResponseParams(max_new_tokens=12)) == expected
        assert source.model.generation_config is config
    finally:
        config.repetition_penalty, config.suppress_tokens, config.max_new_tokens = None, None, None


def test_missing_pad_token_changes_nothing(pico, pico_folder, tmp_path):
    import shutil

    from models.lm.loading import load_source
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    folder = shutil.copytree(pico_folder("gpt_neox"), tmp_path / "m")
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "<pad>"', '"pad_token": null'))
    bare = load_source(
        resolve_source(SourceSpec(name="gpt_neox", model=str(folder), chat_template="plain"), root=folder), device="cpu"
    )
    assert bare.codec.tokenizer.pad_token is None
    cfg = ResponseParams(max_new_tokens=9)
    assert generate_responses(bare, items(*PROMPTS), cfg) == generate_responses(pico("gpt_neox"), items(*PROMPTS), cfg)


def test_truncated_prompt_is_flagged_and_fits(pico):
    source = pico("llama", context_length=32)
    responses = generate_responses(source, items("word " * 40, "Hi"), ResponseParams(max_new_tokens=12))
    assert [r.prompt_truncated for r in responses] == [True, False]
    assert responses[0].text == greedy_without_cache(source, items("word " * 40)[0], 12)


def test_progress_counts_responses(pico):
    seen: list[int] = []
    generate_responses(pico("llama"), items(*PROMPTS), ResponseParams(max_new_tokens=2, batch_size=4), on_progress=seen.append)
    assert seen == [4, 6]
    assert generate_responses(pico("llama"), [], ResponseParams()) == []


def test_not_a_number_names_the_source_and_prompts(pico):
    source = pico("llama", context_length=100)
    weight = source.model.model.norm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(NumericsError, match="The logits of `llama` must be numbers, but are NaN on 1 prompts: row-0"):
            generate_responses(source, items("Hi"), ResponseParams(max_new_tokens=2))
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.skipif(not LMS.exists(), reason="data/external/lms is not there")
def test_real_model_reproduces_its_published_greedy_text():
    from models.lm.loading import load_source
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    spec = SourceSpec(name="stories", model=str(LMS / "stories260K" / "hf"), chat_template="text")
    source = load_source(resolve_source(spec, root=Path()), device="cpu")
    assert stop_ids(source) == [1, 2], "a story ends with the separator, not with </s>"
    expected = (LMS / "stories260K" / "expected_greedy.txt").read_text().strip()
    length = len(source.codec.encode_responses([expected])[0].ids)
    short, whole = generate_responses(source, items("Once upon", ""), ResponseParams(max_new_tokens=length + 8))
    assert whole.text.strip().startswith(expected)
    assert whole.text.strip().startswith("Once upon" + short.text[:200]), "padding changes nothing"


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
    counts = torch.bincount(sample_top_p(probs.log().expand(1000, 3), uniforms, top_p=1.0), minlength=3)
    assert counts.tolist() == [100, 600, 300]


def test_nucleus_keeps_the_fewest_tokens_that_reach_top_p():
    probs = torch.tensor([0.1, 0.6, 0.3])
    uniforms = (torch.arange(900) + 0.5) / 900
    two = torch.bincount(sample_top_p(probs.log().expand(900, 3), uniforms, top_p=0.7), minlength=3)
    assert two.tolist() == [0, 600, 300]
    one = sample_top_p(probs.log().expand(900, 3), uniforms, top_p=0.59)
    assert set(one.tolist()) == {1}
    assert sample_top_p(probs.log()[None], torch.tensor([0.9999999]), top_p=1e-9).item() == 1


def test_pick_never_takes_an_impossible_token():
    logits = torch.tensor([[0.0, float("-inf"), float("-inf")]]).expand(3, 3)
    assert sample_top_p(logits, torch.tensor([0.0, 0.5, 0.9999999]), top_p=1.0).tolist() == [0, 0, 0]


def test_greedy_masks_rows_beyond_the_vocabulary():
    choose = NextTokenProcessor(vocab_rows=2, prompt_length=1, uniforms=None)
    scores = choose(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[1.0, 2.0, 9.0]]))
    assert scores.tolist() == [[1.0, 2.0, float("-inf")]] and choose.broken.tolist() == [False]


def test_sampling_uses_the_number_of_the_step_and_the_temperature():
    uniforms = torch.tensor([[0.05, 0.95]])
    choose = NextTokenProcessor(vocab_rows=2, prompt_length=3, uniforms=uniforms, temperature=2.0, top_p=1.0)
    logits = torch.tensor([[0.81, 0.19, 0.5]]).log()  # at temperature 2: 9/(9+√19…) — the square roots, 0.9 : 0.436
    first = choose(torch.zeros(1, 3, dtype=torch.long), logits)
    second = choose(torch.zeros(1, 4, dtype=torch.long), logits)
    assert first.argmax().item() == 0 and second.argmax().item() == 1
    assert first.isfinite().sum().item() == 1
    cold = NextTokenProcessor(vocab_rows=2, prompt_length=3, uniforms=torch.tensor([[0.72]]), temperature=1.0, top_p=1.0)
    warm = NextTokenProcessor(vocab_rows=2, prompt_length=3, uniforms=torch.tensor([[0.72]]), temperature=2.0, top_p=1.0)
    assert [c(torch.zeros(1, 3, dtype=torch.long), logits).argmax().item() for c in (cold, warm)] == [0, 1]


def test_rows_that_break_are_remembered():
    choose = NextTokenProcessor(vocab_rows=2, prompt_length=1, uniforms=None)
    choose(torch.zeros(2, 1, dtype=torch.long), torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]))
    choose(torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2))
    assert choose.broken.tolist() == [False, True]
