"""Batches of ever new shapes must not fill memory with kernels that were compiled for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flows.environment import set_environment

ROOT = Path(__file__).parents[2]
CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
# Prints the megabytes by which a process grows over 150 shapes of a head's product.
PROBE = """
import torch
from models.lm.head import head_product
from models.memory import release_memory

def resident():
    release_memory()
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024

torch.set_num_threads(1)
weight = torch.randn(3000, 160)
for rows in range(100, 250):
    with torch.no_grad():
        head_product(torch.randn(rows, 160), weight)
    if rows == 101:
        before = resident()
print(resident() - before)
"""


def growth(environment: dict[str, str]) -> float:
    given = {k: v for k, v in os.environ.items() if k not in CACHES} | environment
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=given, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="heads go to oneDNN on AVX-512 only")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_shapes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {k: v for k, v in os.environ.items() if k not in CACHES})
    set_environment(tmp_path)
    limited = {name: os.environ[name] for name in CACHES}
    assert growth(limited) < 0.7 * growth({}), "64 of 150 kernels are kept"
