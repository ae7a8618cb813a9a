"""Capture of signals (tokenisation, batching, forward pass, log-probabilities, top-k) against the forward pass alone.

The bare side runs the model over the very batches of ours, already tokenised and padded, and drops the logits it makes.
"""

import random

import numpy as np
import torch
from torch import Tensor

from benchmarks.memory import peak_megabytes
from benchmarks.small_source import small_source, text_of
from benchmarks.timing import paired
from models.fusion.signals.record import SampleSignals
from models.fusion.teacher_forcing import capture_signals
from models.lm.loading import LoadedSource
from models.lm.prompts import FittedText, TextItem, fit_texts, pad_rows, plan_batches
from models.reporting.results import ResultRow
from models.schema import Message

NUM_TEXTS, BATCH_TOKENS, K = 32, 2048, 10


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    with small_source() as source:
        return _measure(source)


def _measure(source: LoadedSource) -> list[ResultRow]:
    draw = random.Random(0)
    items = [
        TextItem(
            f"t{i}", [Message("user", text_of(draw.randint(16, 96), seed=2 * i))], text_of(draw.randint(32, 192), seed=2 * i + 1)
        )
        for i in range(NUM_TEXTS)
    ]
    texts = fit_texts(source.source, source.codec, items, overflow="error")
    tokens = sum(len(t.inputs) for t in texts)
    plan = plan_batches([len(t.inputs) for t in texts], max_tokens=BATCH_TOKENS)
    batches = [
        pad_rows([texts[i].inputs for i in batch], pad_id=source.pad_id, side="right", device=source.device) for batch in plan
    ]

    def ours() -> list[SampleSignals]:
        return list(capture_signals(source, items, top_k=K, batch_tokens=BATCH_TOKENS))

    @torch.inference_mode()
    def bare() -> None:
        for ids, mask in batches:
            source.model(input_ids=ids, attention_mask=mask, use_cache=False)

    _refuse_different(source, ours(), texts)
    peak, bare_peak = peak_megabytes(ours), peak_megabytes(bare)
    slow, fast, ratio = paired(bare, ours, rounds=3)
    more = {"ours_s": fast, "peer_s": slow, "peak_mb": peak, "peer_peak_mb": bare_peak, "tokens_per_s": tokens / fast}
    size = f"{source.source.num_parameters / 1e6:.0f}M parameters, V={source.vocab_rows}, k={K}"
    return [
        ResultRow(f"signals capture, {size}: tokens/s, ours / bare forward", ratio, "ratio", more=more | {"target": ">= 0.9"})
    ]


@torch.inference_mode()
def _refuse_different(source: LoadedSource, signals: list[SampleSignals], texts: list[FittedText]) -> None:
    for one, text in zip(signals, texts, strict=True):
        logits: Tensor = source.model(input_ids=torch.from_numpy(text.inputs.astype(np.int64))[None]).logits[0]
        rows = logits[len(text.prompt) - 1 :].log_softmax(-1)
        ce = -rows.gather(1, torch.from_numpy(text.labels.astype(np.int64))[:, None])[:, 0].numpy()
        top = rows.topk(K).values.numpy()
        if not np.allclose(one.ce, ce, atol=1e-3) or not np.allclose(one.topk_logprobs.astype(np.float32), top, atol=0.02):
            raise SystemExit(f"the signals of {one.id} differ from those of the bare forward pass")
