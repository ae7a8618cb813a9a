"""Fusion-in-decoder knows no order and no padding; the tokenizer loses nothing."""

from functools import lru_cache
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.generators.trainable import pad_ids
from models.params.dialogue import GeneratorParams, PicoT5

TEXTS = ["i want a cheap hotel in the north", "name the golden house ; area centre ; phone 01223 351880"] * 3


@lru_cache(maxsize=1)
def generator() -> Seq2SeqGenerator:
    torch.set_num_threads(1)
    cfg = GeneratorParams(pico=PicoT5(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2))
    return Seq2SeqGenerator.build(cfg, texts=lambda: TEXTS, special_tokens=(), root=Path(), seed=0).eval()


ids = st.lists(st.integers(3, 299), min_size=1, max_size=12)
turns = st.lists(st.tuples(ids, st.lists(ids, min_size=1, max_size=4), ids), min_size=1, max_size=3)


@settings(max_examples=15, deadline=None)
@given(turns, st.randoms(use_true_random=False))
def test_order_batch_and_padding_of_passages_change_nothing(batch: list, random) -> None:
    g = generator()
    contexts = [turn[0] for turn in batch]
    entities = [turn[1] for turn in batch]
    response, mask = pad_ids([turn[2] for turn in batch], pad_id=g.pad_id, device="cpu")
    places = [random.sample(range(len(e)), len(e)) for e in entities]
    shuffled = [[e[i] for i in order] for e, order in zip(entities, places, strict=True)]
    with torch.no_grad():
        encoded = g.encode(contexts, entities, device="cpu")
        fused, single = g.response_logprobs(encoded, response, mask), g.single_logprobs(encoded, response, mask)
        other = g.encode(contexts, shuffled, device="cpu")
        assert torch.allclose(fused, g.response_logprobs(other, response, mask), atol=1e-4)
        moved = g.single_logprobs(other, response, mask)
        for turn, order in enumerate(places):
            assert torch.allclose(single[turn, order], moved[turn, : len(order)], atol=1e-4)
            alone = g.encode([contexts[turn]], [entities[turn]], device="cpu")
            expected = g.response_logprobs(alone, response[turn : turn + 1], mask[turn : turn + 1])
            assert torch.allclose(fused[turn], expected[0], atol=1e-4)
        assert (fused[~mask] == 0).all()
        assert (fused <= 0).all()


@settings(max_examples=15, deadline=None)
@given(turns, ids)
def test_an_entity_that_is_not_kept_changes_nothing(batch: list, extra: list[int]) -> None:
    g = generator()
    contexts = [turn[0] for turn in batch]
    response, mask = pad_ids([turn[2] for turn in batch], pad_id=g.pad_id, device="cpu")
    with torch.no_grad():
        usual = g.encode(contexts, [turn[1] for turn in batch], device="cpu")
        more = g.encode(contexts, [[extra, *turn[1]] for turn in batch], device="cpu")
        keep = more.entity_mask.clone()
        keep[:, 0] = False
        a = g.response_logprobs(usual, response, mask)
        b = g.response_logprobs(more, response, mask, keep=keep)
    assert torch.allclose(a, b, atol=1e-4)


@settings(max_examples=200, deadline=None)
# Without unassigned characters: a newer Unicode than that of Python may give them a lower case.
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cn")), max_size=30))
def test_the_tokenizer_gives_back_any_text(text: str) -> None:
    tokenizer = generator().tokenizer
    decoded = tokenizer.decode(tokenizer.encode(text, split_special_tokens=True))
    lowered = "".join(c.lower() for c in text)  # no context: a final sigma is a sigma
    assert decoded.strip() == lowered.strip()


@settings(max_examples=100, deadline=None)
@given(st.from_regex(r"\A[0-9]{5} [0-9]{6}\Z|\A[a-z]{1,2}[0-9]{1,2} [0-9][a-z]{2}\Z"))
def test_phone_numbers_and_postcodes_come_back(value: str) -> None:
    builder = generator().builder
    assert builder.text(builder.response_ids(f"it is {value}.")) == f"it is {value}."
