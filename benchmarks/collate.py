"""Collating 2,048 response tokens with the distributions of two sources, reading them from the stores included.

The peer is FuseLLM's collator, which scatters each source into a dense [T, V] target; its rows are already in memory as lists.
Both sides are given the same distributions; the dense ones must hold ours, and nothing else.
"""

import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawn_samples import draw, named, spec_of, write_store
from benchmarks.memory import peak_megabytes
from benchmarks.peer import peer_module
from benchmarks.real_texts import LLAMA2, missing
from benchmarks.timing import cpu_seconds, paired
from models.fusion.buckets import TeacherRows
from models.fusion.schedule import ResolvedPhase, plan_steps
from models.fusion.signals.record import SampleSignals
from models.fusion.signals.store import SignalStore
from models.fusion.train.batches import FusionBatch, FusionCollator
from models.fusion.train.prompt_signals import PairedSignals
from models.reporting.results import ResultRow

V, TOKENS, PROMPT = 32_000, 2048, 64
SHAPES = ((2048, 1), (64, 32))  # response tokens of a sample, samples of a batch
TARGET = "<= 3 ms, no dense target"
_BFLOAT16_ERROR = 0.02


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    rows = [_ours(tokens, batch) for tokens, batch in SHAPES]
    module = peer_module("FuseLLM/src/utils", "data_collator")
    return rows if module is None or missing() else [*rows, _beside_peer(module)]


def _ours(tokens: int, batch: int) -> ResultRow:
    with tempfile.TemporaryDirectory() as name:
        collator, samples = _collator(Path(name), tokens=tokens, num=4 * batch)
        planned = [(0, i) for i in range(0, 4 * batch, 4)]
        made = collator(planned)
        _check(made, [samples[i] for _, i in planned])
        seconds = sorted(cpu_seconds(lambda: [collator(planned) for _ in range(50)]) / 50 for _ in range(7))
        more = {"target": TARGET, "rows": made.labels.shape[0], "peak_mb": peak_megabytes(lambda: collator(planned))}
    name = f"collate {batch} × {tokens:,} tokens, two sources"
    return ResultRow(name, 1e3 * seconds[3], "ms", 1e3 * seconds[0], 1e3 * seconds[-1], len(seconds), more)


def _beside_peer(module: ModuleType) -> ResultRow:
    with tempfile.TemporaryDirectory() as name:
        collator, samples = _collator(Path(name), tokens=TOKENS, num=4)
        peer, features = _peer_collator(module), _peer_features(samples[0])
        made, dense = collator([(0, 0)]), peer([dict(features)])
        for teacher, key in ((made.infer_teacher, "aligned_target_dist_0"), (made.train_teacher, "aligned_target_dist_1")):
            _compare(teacher, dense[key][0])
        del dense
        fast, slow, ratio = paired(lambda: collator([(0, 0)]), lambda: peer([dict(features)]), rounds=2)
        more = {
            "ours_s": fast,
            "peer_s": slow,
            "peak_mb": peak_megabytes(lambda: collator([(0, 0)])),
            "peer_peak_mb": peak_megabytes(lambda: peer([dict(features)])),
            "target": TARGET,
        }
    return ResultRow(
        f"collate 1 × {TOKENS:,} tokens, two sources: ours / FuseLLM's dense target", ratio, "ratio", num=2, more=more
    )


def _collator(folder: Path, *, tokens: int, num: int) -> tuple[FusionCollator, list[SampleSignals]]:
    """Write both stores with the same samples, each of exactly `tokens` response tokens."""
    spec = spec_of(vocab_size=V, kind="aligned")
    longer = [sample for sample in draw(spec, tokens=2 * tokens, prompt=PROMPT, distinct=num) if sample.num_tokens >= tokens]
    samples = [_cut(longer[i % len(longer)], tokens, name=sample.id) for i, sample in enumerate(named(longer, num))]
    for mode in ("train", "infer"):
        write_store(folder / mode, spec, iter(samples), num=num)
    signals = PairedSignals(SignalStore.open(folder / "train"), SignalStore.open(folder / "infer"), max_length=tokens + PROMPT)
    return FusionCollator(
        signals, plan_steps([ResolvedPhase(0.1, 1.0, 0.11, 1.0, 1e-4)], num_prompts=num, batch_size=num)
    ), samples


def _cut(sample: SampleSignals, tokens: int, *, name: str) -> SampleSignals:
    columns = ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce", "has_teacher")
    return SampleSignals(id=name, prompt_ids=sample.prompt_ids, **{c: getattr(sample, c)[:tokens] for c in columns})


def _check(batch: FusionBatch, samples: list[SampleSignals]) -> None:
    """Compare with the samples laid out one by one."""
    labels = np.concatenate([sample.token_ids for sample in samples]).astype(np.int64)
    ids = np.concatenate([sample.topk_ids for sample in samples]).astype(np.int64)
    has = np.concatenate([sample.has_teacher for sample in samples])  # type: ignore[arg-type]
    teachers = (batch.infer_teacher, batch.train_teacher)
    right = np.array_equal(batch.labels.numpy(), np.tile(labels, 2)) and batch.num_infer == len(labels)
    for teacher in teachers:
        right = right and teacher is not None and np.array_equal(teacher.ids.numpy(), ids)
        right = right and teacher is not None and np.array_equal(teacher.has.numpy(), has)
    first = [np.concatenate([s.prompt_ids, s.token_ids[:-1]]) for s in samples]  # type: ignore[list-item]
    if not right or not np.array_equal(batch.input_ids.numpy(), np.tile(np.stack(first), (2, 1))):
        raise SystemExit("the collated batch differs from its samples")


def _compare(teacher: TeacherRows | None, dense: Tensor) -> None:
    if teacher is None:
        raise SystemExit("the collated batch has no teacher")
    wanted = torch.softmax(teacher.logprobs, -1)
    found = dense.gather(1, teacher.ids).float()
    if not torch.allclose(found, wanted, atol=_BFLOAT16_ERROR) or int((dense > 0).sum()) > wanted.numel():
        raise SystemExit("the peer's dense target and our rows differ")


def _peer_collator(module: ModuleType) -> Any:
    from transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer.from_pretrained(LLAMA2, padding_side="right")
    tokenizer.pad_token = tokenizer.eos_token
    flags = {f"distill_with_{what}": True for what in ("ref_model", "aligned_model_0", "aligned_model_1")}
    args = SimpleNamespace(**flags, distill_teacher_temperature=1.0)
    return module.DataCollatorForDistill(tokenizer, padding="max_length", max_length=TOKENS, training_args=args)


def _peer_features(sample: SampleSignals) -> dict[str, Any]:
    tokens = sample.token_ids.tolist()
    features: dict[str, Any] = {"input_ids": tokens, "attention_mask": [1] * TOKENS, "labels": tokens, "metric_ce": 1.0}
    for where in ("", "aligned_"):
        for suffix in ("_0", "_1") if where else ("",):
            features[f"per_step_{where}logits{suffix}"] = sample.topk_logprobs.astype(float).tolist()
            features[f"per_step_{where}indices{suffix}"] = sample.topk_ids.tolist()
    return features | {"metric_ce_aligned_0": 1.0, "metric_ce_aligned_1": 1.0}
