from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from models.data.corpus import write_json_lines
from models.metrics_sink import NullSink
from models.params.sources import PicoTraining
from models.schema import Message
from models.tokenization.chat import PRESETS
from models.training.reward_model import Pair, PairRow, encode_pairs, pair_margins, read_pairs, train_reward_model


def tiny(vocab_size: int = 40) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        initializer_range=0.2,
        **{"num_labels": 1},
    )
    return LlamaForSequenceClassification(config).eval()


def pair(better: list[int], worse: list[int]) -> PairRow:
    return PairRow(np.array(better, dtype=np.int32), np.array(worse, dtype=np.int32))


PAIRS = [pair([5, 6, 7, 8, 9], [5, 6, 3, 8]), pair([5, 6], [5, 6, 7, 8, 9, 10, 11]), pair([4, 4, 4], [4, 4, 5])]


@torch.no_grad()
def test_the_last_margin_is_the_difference_of_the_judged_scores() -> None:
    model = tiny()
    margins, _ = pair_margins(model, PAIRS)
    for row, margin in zip(PAIRS, margins[:, -1], strict=True):
        scores = [float(model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits) for ids in (row.better, row.worse)]
        assert float(margin) == pytest.approx(scores[0] - scores[1], abs=1e-5)


@torch.no_grad()
def test_half_the_weight_lies_behind_the_first_difference_and_half_at_the_end() -> None:
    _, weights = pair_margins(tiny(), PAIRS)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    sixth, tenth = 0.5 / 3, 0.1
    expected = [
        [0, 0, sixth, sixth, sixth, 0, 0.5],
        [0, 0, tenth, tenth, tenth, tenth, tenth + 0.5],
        [0, 0, 0.5, 0, 0, 0, 0.5],
    ]
    assert torch.allclose(weights, torch.tensor(expected), atol=1e-6)


def test_training_ranks_pairs_by_a_rule() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        prompt = rng.integers(10, 20, 3).tolist()
        rows.append(pair([*prompt, prompt[1] + 10, 1], [*prompt, int(rng.integers(20, 30)), 1]))
    rows = [r for r in rows if r.better.tolist() != r.worse.tolist()]
    order = np.resize(np.arange(len(rows)), (60, 32))
    model = tiny()
    with torch.no_grad():
        before = (pair_margins(model, rows)[0][:, -1] > 0).float().mean()
    summary = train_reward_model(
        model, rows, order=order, training=PicoTraining(lr=0.01, warmup_steps=5), device="cpu", sink=NullSink()
    )
    assert before < 0.7
    assert summary.final_accuracy > 0.95
    assert summary.final_loss < 0.2
    assert not model.training


def test_pairs_are_read_and_encoded_as_they_are_judged(tmp_path: Path, pico_tokenizer) -> None:  # type: ignore[no-untyped-def]
    row = {"family": "f", "messages": [{"role": "user", "content": "Hi"}], "better": "Hello", "worse": "x"}
    write_json_lines(tmp_path / "p.jsonl", [row])
    pairs = list(read_pairs(tmp_path / "p.jsonl"))
    assert pairs == [Pair("f", (Message("user", "Hi"),), "Hello", "x")]
    (encoded,) = encode_pairs(pairs, pico_tokenizer, template=PRESETS["plain"], context_length=64)
    assert pico_tokenizer.decode(encoded.better.tolist()) == f"{pico_tokenizer.bos_token}Q: Hi\nA: Hello\n"
    assert pico_tokenizer.decode(encoded.worse.tolist()) == f"{pico_tokenizer.bos_token}Q: Hi\nA: x\n"
