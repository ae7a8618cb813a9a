import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.errors import NumericsError
from models.lm.pico.training import PROMPT_WEIGHT, TrainingRow, _batch_loss, _grouped_by_length, train_causal_lm
from models.metrics_sink import NullSink
from models.params.sources import PicoTraining

VOCAB = 40


def tiny(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def row(*ids: int, prompt: int = 2) -> TrainingRow:
    return TrainingRow(np.array(ids, dtype=np.int32), prompt)


class Recorder(NullSink):
    def __init__(self) -> None:
        self.logged: list[tuple[int, float]] = []
        self.done: list[tuple[int, int]] = []

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.logged.append((step, metrics["train/loss"]))

    def progress(self, done: int, total: int, *, unit: str) -> None:
        self.done.append((done, total))


def test_the_loss_weighs_prompt_and_response_and_ignores_padding() -> None:
    model = tiny()
    rows = [row(1, 2, 3, 4, 5, 6), row(7, 8, 9), row(10, 11, 12, 13, prompt=3)]
    total = weight = 0.0
    for each in rows:
        ids = torch.from_numpy(each.ids.astype(np.int64))[None]
        logp = model(input_ids=ids).logits[0].log_softmax(-1).detach()
        for t in range(1, len(each.ids)):
            w = PROMPT_WEIGHT if t < each.prompt_length else 1.0
            total -= w * float(logp[t - 1, each.ids[t]])
            weight += w
    assert _batch_loss(model, rows, device="cpu").item() == pytest.approx(total / weight, rel=1e-5)


def test_grouping_keeps_every_row_and_saves_padding() -> None:
    rng = np.random.default_rng(0)
    rows = [row(*range(int(n))) for n in rng.integers(3, 40, 64)]
    order = rng.permutation(64).reshape(16, 4)
    batches = list(_grouped_by_length(order, rows))
    assert sorted(np.concatenate(batches)) == list(range(64))
    for window in (0, 8):
        assert sorted(np.concatenate(batches[window : window + 8])) == sorted(order[window : window + 8].reshape(-1))

    def padded(parts: list[np.ndarray]) -> int:
        return sum(len(b) * max(len(rows[i].ids) for i in b) for b in parts)

    assert padded(batches) < 0.8 * padded(list(order))


def test_training_learns_rows_by_heart_and_reports() -> None:
    rows = [row(1, i, 20 + i, 30 + i, 2) for i in range(3, 9)]
    order = np.resize(np.arange(6), (60, 6))
    sink, model = Recorder(), tiny()
    summary = train_causal_lm(model, rows, order=order, training=PicoTraining(lr=0.02, warmup_steps=5), device="cpu", sink=sink)
    assert summary.num_steps == 60
    assert summary.num_tokens == 60 * 6 * 5
    assert [step for step, _ in sink.logged] == [10, 20, 30, 40, 50, 60]
    assert sink.done[-1] == (60, 60)
    assert sink.logged[0][1] > 1 > 0.3 > summary.final_loss
    assert not model.training
    with torch.no_grad():
        guess = model(input_ids=torch.tensor([[1, 5, 25, 35]])).logits[0].argmax(-1)
    assert guess[1:].tolist() == [25, 35, 2]


def test_the_same_call_gives_the_same_weights() -> None:
    rows = [row(1, i, 20 + i, 2) for i in range(3, 9)]
    order = np.resize(np.arange(6), (5, 4))
    first, second = tiny(), tiny()
    for model in (first, second):
        train_causal_lm(model, rows, order=order, training=PicoTraining(), device="cpu", sink=NullSink())
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight[0, 0] = math.nan
    with pytest.raises(NumericsError, match=r"The loss of step 0 must be finite, but is nan"):
        train_causal_lm(
            model, [row(1, 2, 3)], order=np.zeros((2, 1), dtype=np.int64), training=PicoTraining(), device="cpu", sink=NullSink()
        )
