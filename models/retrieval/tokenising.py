"""From text to token ids for the encoders: cut from the side that matters less, padded on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class TextTokeniser:
    """A tokenizer whose special tokens are put by us alone: cutting never drops them, and no text spells one.

    Attributes:
        tokenizer: The tokenizer; made without truncation and padding of its own.
        cls_id: First token of every text.
        sep_id: Last token of every text.
        pad_id: Padding.
    """

    tokenizer: Tokenizer
    cls_id: int
    sep_id: int
    pad_id: int

    def __post_init__(self) -> None:
        """Switch off what many published tokenizer files switch on; `[SEP]` in a text is text."""
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True

    def encode(self, texts: Sequence[str], *, max_tokens: int, drop: Literal["left", "right"]) -> list[list[int]]:
        """Tokenise texts.

        Args:
            texts: Any text, also an empty one.
            max_tokens: Longest result, the two special tokens included.
            drop: The side that loses tokens when a text is too long.
        """
        room = max_tokens - 2
        rows = []
        for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False):
            ids = encoding.ids
            if len(ids) > room:
                ids = ids[len(ids) - room :] if drop == "left" else ids[:room]
            rows.append([self.cls_id, *ids, self.sep_id])
        return rows

    def pad(self, rows: Sequence[Sequence[int]], *, device: torch.device | str) -> tuple[Tensor, Tensor]:
        """Return input_ids and attention_mask, both int64[B, T], padded on the right."""
        width = max((len(row) for row in rows), default=0)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
            mask[i, : len(row)] = 1
        if torch.device(device).type == "cuda":
            ids, mask = ids.pin_memory(), mask.pin_memory()
        return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)

    def special_ids(self) -> dict[str, Any]:
        """Return the ids of the special tokens, JSON-ready."""
        return {"cls_id": self.cls_id, "sep_id": self.sep_id, "pad_id": self.pad_id}

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`."""
        self.tokenizer.save(str(folder / TOKENIZER))
