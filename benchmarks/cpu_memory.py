"""What a process on a CPU takes beside its tensors: compiled kernels, and what the C library cannot give out again.

Optimiser steps of small models. Kernels: resident memory after steps of ever other lengths, with `flows.environment`'s limits and
with the libraries' own. Pieces: the peak within a step, as the C library gives memory out and with pages of its own for every
tensor above 256 KB. Each setting has a process of its own, since the libraries read it once.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MptConfig, PretrainedConfig

from benchmarks.memory import peak_megabytes
from flows.environment import KERNEL_CACHES
from models.fusion.losses import fusion_loss
from models.lm.head import head_of
from models.memory import release_memory
from models.reporting.results import ResultRow, Scalar

_STEPS, _ROWS, _LENGTHS = 60, 8, (100, 250)
_PEAK_ROWS, _PEAK_LENGTH, _WARM = 16, 240, 3
_OWN_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
_SIZES: dict[str, Any] = {"vocab_size": 3000, "hidden_size": 160, "num_hidden_layers": 4, "num_attention_heads": 5}
_CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES, intermediate_size=432),
    "gpt_neox": GPTNeoXConfig(**_SIZES, intermediate_size=640),
    "mpt": MptConfig(vocab_size=3000, d_model=160, n_layers=4, n_heads=5, max_seq_len=512),
}


def measure() -> list[ResultRow]:
    if not Path("/proc/self/clear_refs").exists():
        print("cpu_memory: skipped, the kernel tells of no process's memory here (/proc)")
        return []
    limited, free = _run("kernels", KERNEL_CACHES), _run("kernels", {})
    rows = [row(f"kernels kept after {_STEPS} steps: limited / not", limited, free, "<= 0.7")]
    for name in _CONFIGS:
        rows.append(
            row(f"peak of a step, {name}: C library / own pages", _run(name, {}), _run(name, _OWN_PAGES), "known: 1.2 to 2")
        )
    return rows


def row(name: str, ours: Mapping[str, float], other: Mapping[str, float], target: str) -> ResultRow:
    more: dict[str, Scalar] = {
        "target": target, "mb": ours["mb"], "other_mb": other["mb"], "seconds": ours["seconds"], "other_s": other["seconds"],
    }  # fmt: skip
    return ResultRow(name, ours["mb"] / other["mb"], "ratio", more=more)


def _run(what: str, environment: Mapping[str, str]) -> dict[str, float]:
    clean = {k: v for k, v in os.environ.items() if k not in (*KERNEL_CACHES, *_OWN_PAGES)}
    command = [sys.executable, "-m", "benchmarks.cpu_memory", what]
    done = subprocess.run(command, env=clean | dict(environment), check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def probe(what: str) -> dict[str, float]:
    """Return megabytes and seconds of CPU time, in the libraries' settings of this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return kernels() if what == "kernels" else peak(_CONFIGS[what])


def kernels() -> dict[str, float]:
    """Train with ever other numbers of rows and tokens; the growth after the first steps is what was kept."""
    train, draw = _Steps(_CONFIGS["llama"]), random.Random(0)

    def step() -> None:
        train(_ROWS, draw.randint(*_LENGTHS), supervised=_ROWS * 60 + draw.randint(-99, 99))

    for _ in range(_WARM):
        step()
    before, started = resident_megabytes(), time.process_time()
    for _ in range(_STEPS):
        step()
    return {"mb": resident_megabytes() - before, "seconds": time.process_time() - started}


def peak(config: PretrainedConfig) -> dict[str, float]:
    """Train with one shape and return the peak of the last step over what is resident between steps."""
    train = _Steps(config)

    def step() -> None:
        train(_PEAK_ROWS, _PEAK_LENGTH, supervised=_PEAK_ROWS * 60)

    for _ in range(_WARM):
        step()
    started = time.process_time()
    grown = peak_megabytes(step)
    assert grown is not None
    return {"mb": grown, "seconds": time.process_time() - started}


class _Steps:
    def __init__(self, config: PretrainedConfig) -> None:
        self._lm: Any = AutoModelForCausalLM.from_config(config)
        self._head, self._optimiser = head_of(self._lm), torch.optim.AdamW(self._lm.parameters())

    def __call__(self, rows: int, length: int, *, supervised: int) -> None:
        hidden = self._head.backbone(torch.randint(0, 3000, (rows, length)), None).flatten(0, 1)
        hidden = hidden.index_select(0, torch.randperm(rows * length)[:supervised])
        head, labels = self._lm.get_output_embeddings(), torch.randint(0, 3000, (supervised,))
        fusion_loss(hidden, head.weight, None, labels, None, beta=0.0, chunk=1024).objective.backward()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)


def resident_megabytes() -> float:
    release_memory()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1])))
