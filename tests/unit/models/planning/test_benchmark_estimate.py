"""Estimate of the stage `benchmark`."""

import pytest

from models.planning.benchmark_estimate import BenchmarkSize, estimate_benchmark
from models.planning.footprint import ModelSize
from models.planning.stage_estimate import PROCESS_BYTES

SMALL = ModelSize(1_000_000, 1000, 100, 2)
LARGE = ModelSize(3_000_000, 5000, 100, 2)
# 40 sequences of 20 tokens, the longest of 50.
CHOICES = BenchmarkSize("arc_easy", documents=10, sequences=40, sequence_bytes=80, longest_bytes=200)
WRITTEN = BenchmarkSize("gsm8k", documents=10, sequences=0, sequence_bytes=80, longest_bytes=200, generated=30)


def test_every_model_reads_every_sequence_once() -> None:
    found = estimate_benchmark([SMALL, LARGE], [CHOICES], batch_size=8, bytes_per_token=4)
    attention = 2 * 2 * 100 * 20
    assert found.stage == "benchmark"
    assert found.flops == 40 * 20 * (2 * 1_000_000 + attention) + 40 * 20 * (2 * 3_000_000 + attention)
    assert found.layer_calls == 0
    assert found.disk_bytes == 2 * 10 * 150


def test_memory_is_that_of_the_logits_of_the_longest_batch_of_the_widest_vocabulary() -> None:
    found = estimate_benchmark([SMALL, LARGE], [CHOICES], batch_size=8, bytes_per_token=4)
    assert found.device_bytes == 4 * 3_000_000 + int(2.5 * 4 * 8 * 50 * 5000)
    assert found.host_bytes == PROCESS_BYTES + 200_000_000 + 4 * 3_000_000 + 2_400 * 5000


def test_written_answers_take_a_step_a_token() -> None:
    found = estimate_benchmark([SMALL], [WRITTEN], batch_size=8, bytes_per_token=4)
    assert found.layer_calls == 2 * 30 * 2, "two batches, 30 tokens, two layers"
    assert found.flops == 10 * 50 * (2 * 1_000_000 + 2 * 2 * 100 * 50)


@pytest.mark.parametrize("models", [[], [SMALL]])
def test_without_benchmarks_nothing_is_needed(models: list[ModelSize]) -> None:
    found = estimate_benchmark(models, [], batch_size=8, bytes_per_token=4)
    assert (found.flops, found.device_bytes, found.fixed_seconds, found.host_bytes) == (0, 0, 0, PROCESS_BYTES)
