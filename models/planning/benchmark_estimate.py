"""Estimate of the stage `benchmark`: sequences scored and answers written, at the full width of the vocabulary.

lm-evaluation-harness computes the logits of every position, the prompt's included, and their log-softmax in a second tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.planning.footprint import ModelSize, forward_flops, kv_cache_bytes, weights_bytes
from models.planning.stage_estimate import PROCESS_BYTES, StageEstimate

# Float32 tensors [B, T, V] alive at once (measured with V = 49,152 and 262,144 at the longest rows: 2.4 to 2.5).
_LOGITS_COPIES = 2.5
# To build a benchmark's prompts and tasks, for each system; loading the library once comes on top (measured: 1 to 2 s).
_TASK_SECONDS, _LIBRARY_SECONDS = 1.5, 8.0
# Of the harness and its libraries, and of one entry of a tokenizer, which it is given a copy of (measured: 1.2 KB each).
_HARNESS_BYTES, _ENTRY_BYTES = 200_000_000, 2_400
# JSON of one document's values (measured: 130 to 160).
_ITEM_BYTES = 150


@dataclass(frozen=True, slots=True)
class BenchmarkSize:
    """One benchmark in numbers.

    Attributes:
        name: Benchmark.
        documents: Documents scored.
        sequences: Sequences scored, a choice each; 0 where answers are written.
        sequence_bytes: UTF-8 bytes of a sequence, prompt included, on average.
        longest_bytes: Of the longest sequence.
        generated: Tokens that an answer may have; 0 where choices are scored.
    """

    name: str
    documents: int
    sequences: int
    sequence_bytes: float
    longest_bytes: float
    generated: int = 0


def estimate_benchmark(
    models: Sequence[ModelSize], benchmarks: Sequence[BenchmarkSize], *, batch_size: int, bytes_per_token: float
) -> StageEstimate:
    """Estimate the stage for models that are each scored on all benchmarks.

    Args:
        models: Sizes of the systems; an untrained target is the same step as the source of that name, and counts once.
        benchmarks: Their sizes; none gives an estimate of nothing.
        batch_size: Sequences scored together.
        bytes_per_token: Of the tokenizers.
    """
    flops = calls = 0.0
    device = 0
    for model in models:
        for benchmark in benchmarks:
            prompt, longest = (size / bytes_per_token for size in (benchmark.sequence_bytes, benchmark.longest_bytes))
            rows = benchmark.sequences or benchmark.documents
            flops += forward_flops(model, tokens=rows * (prompt + benchmark.generated), context=prompt + benchmark.generated)
            # Answers of a batch are written until the last of them ends, which few do before their limit.
            calls += -(-rows // batch_size) * benchmark.generated * model.num_layers
            device = max(device, _peak(model, batch_size, longest, benchmark.generated))
    documents = len(models) * sum(benchmark.documents for benchmark in benchmarks)
    fixed = _LIBRARY_SECONDS + _TASK_SECONDS * len(models) * len(benchmarks) if benchmarks else 0.0
    kept = max((weights_bytes(model) + _ENTRY_BYTES * model.vocab_size for model in models), default=0)
    host = PROCESS_BYTES + (_HARNESS_BYTES + kept if benchmarks else 0)
    return StageEstimate("benchmark", documents * _ITEM_BYTES, host, device, flops, calls, fixed_seconds=fixed)


def _peak(model: ModelSize, batch: int, longest: float, generated: int) -> int:
    """Return 2.5·4·B·T·V and the weights; where answers are written, logits of a position alone, and keys and values."""
    if generated:
        cache = kv_cache_bytes(model, tokens=int(batch * (longest + generated)))
        return weights_bytes(model) + cache + int(_LOGITS_COPIES * 4 * batch * model.vocab_size)
    return weights_bytes(model) + int(_LOGITS_COPIES * 4 * batch * longest * model.vocab_size)
