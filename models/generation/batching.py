"""Batches of rows with similar lengths, and their padding."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def plan_batches(lengths: Sequence[int], *, max_rows: int | None = None, max_tokens: int | None = None) -> list[list[int]]:
    """Group rows so that little is padded: sorted by length, cut by rows or padded tokens.

    The longest rows come first, so that a batch that does not fit into memory fails at once. The plan depends on the lengths
    alone (ties keep the input order), so that the same rows always meet the same neighbours.

    Args:
        lengths: Tokens of each row.
        max_rows: Most rows of a batch.
        max_tokens: Most padded tokens (rows × longest row) of a batch; a longer single row is a batch of its own.

    Returns:
        Batches of indices into `lengths`; each index stands in exactly one.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    widest = 0
    for index in order:
        rows = len(batches[-1]) + 1 if batches else 0
        full = (max_rows is not None and rows > max_rows) or (max_tokens is not None and rows * widest > max_tokens)
        if not batches or full:
            batches.append([])
            widest = lengths[index]
        batches[-1].append(index)
    return batches


def pad_rows(
    rows: Sequence[npt.NDArray[np.int32]], *, pad_id: int, side: Literal["left", "right"], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Stack rows of token ids into `input_ids` and `attention_mask`, both int64[B, T] on `device`."""
    width = max(len(row) for row in rows)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        place = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        ids[i, place] = row
        mask[i, place] = 1
    return to_device(torch.from_numpy(ids), device), to_device(torch.from_numpy(mask), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to a device; through pinned memory, without waiting, when that is CUDA."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
