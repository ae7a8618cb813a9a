"""Micro-batches of turns: which a process sees when, and their tensors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Sampler
from typing_extensions import override

from models.dialogue.generators.trainable import pad_ids
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.schedule import turns_at
from models.dialogue.train.turns import DialogueTurns, PlannedTurn


@dataclass(frozen=True, slots=True)
class DialogueBatch:
    """One micro-batch of B turns.

    Attributes:
        query_ids: Contexts for the retriever, int64[B, T].
        query_mask: int64[B, T].
        contexts: Contexts for the generator, token ids.
        response_ids: int64[B, R], end token last, padded.
        response_mask: True at response tokens, bool[B, R].
        within: KB rows that each turn may retrieve; None = the whole knowledge base.
        turns: Index of each turn.
        places: Place of each turn in the step. Draws are seeded by step and place, so that they do not depend on how the step is
            cut into micro-batches.
        step: Optimiser step, from 0.
        num_tokens: Response tokens.
    """

    query_ids: Tensor
    query_mask: Tensor
    contexts: Sequence[list[int]]
    response_ids: Tensor
    response_mask: Tensor
    within: Sequence[list[int]] | None
    turns: tuple[int, ...]
    places: tuple[int, ...]
    step: int
    num_tokens: int

    def to(self, device: torch.device) -> "DialogueBatch":
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "DialogueBatch":
        """Return the batch in page-locked memory (torch's DataLoader calls this by name)."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, move: Callable[[Tensor], Tensor]) -> "DialogueBatch":
        return replace(
            self,
            query_ids=move(self.query_ids),
            query_mask=move(self.query_mask),
            response_ids=move(self.response_ids),
            response_mask=move(self.response_mask),
        )


class TurnSampler(Sampler[list[PlannedTurn]]):
    """Yields this process's micro-batches of all steps, in order.

    Run `i·world_size + rank` of `micro_batch_size` turns of a step is micro-batch i of a process.
    """

    def __init__(
        self,
        num_turns: int,
        *,
        total_steps: int,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Deal the steps; `micro_batch_size` times `world_size` divides `batch_size`."""
        self._num_turns, self._total, self._batch, self._seed = num_turns, total_steps, batch_size, seed
        self._micro, self._rank, self._world = micro_batch_size, rank, world_size

    @property
    def accumulation(self) -> int:
        """Micro-batches of a process in a step."""
        return self._batch // (self._micro * self._world)

    def __len__(self) -> int:
        return self._total * self.accumulation

    @override
    def __iter__(self) -> Iterator[list[PlannedTurn]]:
        for step in range(self._total):
            turns = turns_at(step, num_turns=self._num_turns, batch_size=self._batch, seed=self._seed)
            for micro in range(self.accumulation):
                start = (micro * self._world + self._rank) * self._micro
                yield [(step, place, int(turns[place])) for place in range(start, start + self._micro)]


class DialogueCollator:
    """Makes the tensors of a micro-batch."""

    def __init__(self, turns: DialogueTurns, *, retriever: Retriever, pad_id: int) -> None:
        """Pad queries as the retriever does, responses with `pad_id`."""
        self._turns, self._tokeniser, self._pad_id = turns, retriever.tokeniser, pad_id

    def __call__(self, planned: Sequence[PlannedTurn]) -> DialogueBatch:
        """Return the batch of planned turns, all of one step."""
        turns = [turn for *_, turn in planned]
        query_ids, query_mask = self._tokeniser.pad([self._turns.queries[t] for t in turns], device="cpu")
        responses = [self._turns.responses[t] for t in turns]
        response_ids, response_mask = pad_ids(responses, pad_id=self._pad_id, device="cpu")
        sessions = [self._turns.session(t) for t in turns]
        return DialogueBatch(
            query_ids=query_ids,
            query_mask=query_mask,
            contexts=[self._turns.contexts[t] for t in turns],
            response_ids=response_ids,
            response_mask=response_mask,
            within=[s for s in sessions if s is not None] if self._turns.condensed else None,
            turns=tuple(turns),
            places=tuple(place for _, place, _ in planned),
            step=planned[0][0],
            num_tokens=sum(map(len, responses)),
        )
