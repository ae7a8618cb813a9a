"""Small fusion trainings for the tests of `models.training`: a pico target and two aligned stores of random signals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NUM_PROMPTS = 22
TOP_K = 4


def random_sample(rng: np.random.Generator, id_: str, *, vocab: int, prompt: np.ndarray):
    from models.fusion.signals.record import SampleSignals

    tokens = int(rng.integers(3, 12))
    logits = rng.normal(0, 2, (tokens, vocab))
    logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = np.argsort(-logprobs, axis=1, kind="stable")[:, :TOP_K]
    top = np.take_along_axis(logprobs, ids, axis=1)
    response = rng.integers(3, vocab, tokens).astype(np.uint32)
    response[-1] = 1  # </s>
    return SampleSignals(
        id=id_,
        token_ids=response,
        topk_ids=ids.astype(np.uint32),
        topk_logprobs=top.astype(np.float16),
        tail=np.log1p(-np.exp(top).sum(1)).astype(np.float16),
        ce=-logprobs[np.arange(tokens), response].astype(np.float32),
        prompt_ids=prompt,
        has_teacher=rng.random(tokens) < 0.8,
    )


def write_store(folder: Path, *, ids: list[str], seed: int, vocab: int, tokenizer_digest: str) -> Path:
    """Random aligned samples; prompts depend on the id alone, so that both stores agree on them."""
    from models.fusion.signals.record import SignalSpec
    from models.fusion.signals.shard import write_shard

    rng = np.random.default_rng(seed)
    spec = SignalSpec("winners", "m", tokenizer_digest, "t", "c", TOP_K, vocab, "aligned")
    prompts = {i: np.random.default_rng(int(i[1:])).integers(3, vocab, 2 + int(i[1:]) % 6).astype(np.uint32) for i in ids}
    samples = [random_sample(rng, i, vocab=vocab, prompt=prompts[i]) for i in ids]
    half = len(samples) // 2
    write_shard(folder, 0, spec, samples[:half])
    write_shard(folder, 1, spec, samples[half:])
    return folder


@pytest.fixture(scope="session")
def fusion_inputs(pico_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """`target` (a Llama), `target_dropout` (the same with dropout), and two stores of 22 prompts of which each lacks one."""
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    root = tmp_path_factory.mktemp("fusion")
    shutil.copytree(pico_folder("llama"), root / "dropout")
    config = json.loads((root / "dropout" / "config.json").read_text())
    (root / "dropout" / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
    target, with_dropout = (
        resolve_source(SourceSpec(name="pico", model=str(folder), chat_template="plain"), root=root)
        for folder in (pico_folder("llama"), root / "dropout")
    )
    ids = [f"p{i:03}" for i in range(NUM_PROMPTS)]
    stores = {
        name: write_store(
            root / name,
            ids=[i for i in ids if i != missing],
            seed=seed,
            vocab=target.vocab_size,
            tokenizer_digest=target.tokenizer_digest,
        )
        for name, missing, seed in (("train_store", "p003", 1), ("infer_store", "p007", 2))
    }
    return {"target": target, "target_dropout": with_dropout, **stores}


@pytest.fixture
def fusion_call(fusion_inputs: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`fusion_call(name, method=…, runtime={…}, dropout=…, **fusion params)`: all arguments of `train_fusion` but the sink."""
    from models.params.fusion import FusionParams
    from models.params.runtime import Runtime

    def make(name: str = "run", *, method: str = "profuser", runtime: dict[str, Any] | None = None, dropout=False, **params: Any):
        defaults = {"targets": ("pico",), "epochs": 4.0, "batch_size": 8, "micro_batch_size": 4, "lr": 3e-3, "max_length": 64}
        cfg = FusionParams(**(defaults | params))
        folders = {"out": tmp_path / name / "out", "resume_dir": tmp_path / name / "resume"}
        chosen = Runtime(**({"device": "cpu", "threads": 1} | (runtime or {})))
        inputs = {name: fusion_inputs[name] for name in ("train_store", "infer_store")}
        target = fusion_inputs["target_dropout" if dropout else "target"]
        return {"cfg": cfg, "method": method, "target": target, "runtime": chosen, **folders, **inputs}

    return make


class RecordingSink:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.done: list[tuple[int, int, str]] = []

    def log(self, metrics, *, step: int) -> None:
        self.rows[step] = dict(metrics)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        self.done.append((done, total, unit))


@pytest.fixture
def recording_sink() -> type[RecordingSink]:
    return RecordingSink
