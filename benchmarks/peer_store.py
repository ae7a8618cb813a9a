"""The form in which FuseLLM stores a teacher's signals: one `datasets` row a sample, padded to the model's length."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

LENGTH, ROWS, K = 2048, 8, 10


@dataclass(frozen=True, slots=True)
class PeerBytes:
    """Bytes on disk per padded slot, and per real token of samples as short as ours."""

    per_slot: float
    per_token: float
    form: str


def stored_bytes(vocab_size: int, *, tokens: int) -> PeerBytes:
    """Store drawn rows with the ancestors' columns and types, and count the bytes.

    The columns and their types are what its step `forward_for_logits` leaves: tokens, mask and labels as lists, the top-k of
    every slot (padding included) as float16 logits and int64 ids, and the mean cross-entropy.
    """
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    generator = torch.Generator().manual_seed(0)

    def forward(examples: dict[str, list[list[int]]]) -> dict[str, object]:
        shape = (len(examples["input_ids"]), LENGTH, K)
        return examples | {
            "per_step_logits": torch.randn(shape, generator=generator).half(),
            "per_step_indices": torch.randint(vocab_size, shape, generator=generator),
            "metric_ce": torch.rand(shape[0], generator=generator).half(),
        }

    ids = torch.randint(vocab_size, (ROWS, tokens), generator=generator).tolist()
    rows = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * tokens] * ROWS, "labels": ids})
    with tempfile.TemporaryDirectory() as name:
        rows.map(forward, batched=True, batch_size=ROWS).save_to_disk(name)
        size = sum(file.stat().st_size for file in Path(name).rglob("*.arrow"))
    form = (
        f"FuseLLM's step 2, samples of {tokens} tokens in {LENGTH} slots; 289 and 457 B a slot after aligning one and two sources"
    )
    return PeerBytes(size / (ROWS * LENGTH), size / (ROWS * tokens), form)
