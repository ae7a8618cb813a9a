"""Encoded passages, and the memory that a decoder reads of them: all together, or each alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Cross-attention keys and values of a decoder layer; D' is heads × head width.
KeysValues = tuple[Tensor, Tensor]
Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decoder attends to, a row for each decoded sequence.

    Attributes:
        states: Encoder states, [R, S, D].
        mask: True where a token is read, bool[R, S].
        keys_values: By decoder layer, [R, S, D']; empty where the decoder makes its own.
    """

    states: Tensor
    mask: Tensor
    keys_values: tuple[KeysValues, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """The encoded passages of B turns.

    Attributes:
        states: Encoder states, [B, K, L, D]; `concat`: [B, 1, L, D].
        mask: True at real tokens, bool[B, K, L] or [B, 1, L].
        entity_mask: True where a turn has an entity, bool[B, K]. A turn without entities has one passage of context alone.
        keys_values: Cross-attention keys and values by decoder layer, [B, K, L, D'], made once for all decodes.
        contexts: Token ids of the contexts.
        entities: Token ids of the entities of each turn.
    """

    states: Tensor
    mask: Tensor
    entity_mask: Tensor
    keys_values: tuple[KeysValues, ...]
    contexts: Sequence[Ids]
    entities: Sequence[Sequence[Ids]]

    def together(self, keep: Tensor | None = None) -> Memory:
        """Return all passages of a turn as one row, [B, K·L]; those not kept (bool[B, K]) are not read."""
        mask = self.mask if keep is None else self.mask & (keep | ~self.entity_mask)[:, :, None]
        return Memory(
            self.states.flatten(1, 2),
            mask.flatten(1, 2),
            tuple((keys.flatten(1, 2), values.flatten(1, 2)) for keys, values in self.keys_values),
        )

    def alone(self, rows: Tensor) -> Memory:
        """Return passages as rows of their own, [R, L]; `rows` int64[R] are places in the flattened [B·K]."""
        whole = len(rows) == self.mask.shape[0] * self.mask.shape[1]

        def take(tensor: Tensor) -> Tensor:
            flat = tensor.flatten(0, 1)
            return flat if whole else flat[rows]

        return Memory(take(self.states), take(self.mask), tuple((take(k), take(v)) for k, v in self.keys_values))


def pad_ids(rows: Sequence[Ids], *, pad_id: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return ids int64[R, L] and mask bool[R, L], padded on the right to the longest row."""
    width = max(map(len, rows), default=0)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[place, : len(row)] = True
    if torch.device(device).type == "cuda":
        ids, mask = ids.pin_memory(), mask.pin_memory()
    return ids.to(device, non_blocking=True), mask.to(device, non_blocking=True)
