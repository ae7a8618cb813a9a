"""Interface of generators that are trained jointly with the retriever, and the token work that all of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.dialogue.data.records import Entity
from models.params.dialogue import GeneratorParams

Ids = Sequence[int]
Dynamic = Mapping[str, Sequence[str]]
EntityT = TypeVar("EntityT")
"""An entity with its meta knowledge, in tokens, as a kind of generator reads it."""
EntityT_co = TypeVar("EntityT_co", covariant=True)


class EncodedTurns(Protocol):
    """Turns as a generator has read them; one reading serves several likelihoods."""

    @property
    def entity_mask(self) -> Tensor:
        """True where a turn has an entity, bool[B, K]."""


EncodedT = TypeVar("EncodedT", bound=EncodedTurns)


class TokenBuilder(Protocol[EntityT_co]):
    """Makes the tokens of contexts, entities and responses, within the length budgets of the params."""

    def contexts(self, turns: Sequence[tuple[Sequence[str], Dynamic | None]]) -> Iterator[list[int]]:
        """Yield the ids of (context, values of a real-time query) pairs, at most `max_context_tokens` each."""

    def responses(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Yield the ids of responses, the end token last, at most `max_response_tokens` each."""

    def response_ids(self, text: str) -> list[int]:
        """Return the ids of one response."""

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens."""

    def entity_ids(self, entity: Entity, meta_text: str) -> EntityT_co:
        """Return an entity with what is said of it, at most `max_entity_tokens`."""


class TrainableGenerator(nn.Module, ABC, Generic[EntityT, EncodedT]):
    """A generator with its tokenizer and its way of reading entities.

    Likelihoods are float32 in nats, 0 behind the response and where there is no entity. `response_ids` is int64[B, T], the end
    token last, padded with `pad_id`; `response_mask` is bool[B, T].

    Attributes:
        cfg: Parameters.
        builder: Makes its tokens.
    """

    cfg: GeneratorParams
    builder: TokenBuilder[EntityT]

    @classmethod
    @abstractmethod
    def build(
        cls,
        cfg: GeneratorParams,
        *,
        texts: Callable[[], Iterable[str]],
        special_tokens: Sequence[str],
        root: Path,
        seed: int,
        folder: Path | None = None,
    ) -> Self:
        """Make the generator that training starts from.

        Args:
            cfg: `pico` trains its tokenizer on `texts` and starts from scratch; else a pre-trained model is loaded.
            texts: Gives dialogues and entities (`pico` only).
            special_tokens: Tokens of meta knowledge to add.
            root: What relative folders start at.
            seed: Of what is initialised at random.
            folder: Where the model lies, if `cfg` names it by anything but its place (a package, a fused model).

        Raises:
            SourceError: The pre-trained model cannot be loaded.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, *, device: torch.device | str) -> Self:
        """Read a folder of `save`, in evaluation mode.

        Raises:
            SourceError: A file is missing or broken.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write a Hugging Face folder (safetensors, tokenizer, JSON) with `generator.json`; it appears when complete."""

    @abstractmethod
    def digest(self) -> str:
        """Return the sha256 over what decides the answers: parameters, architecture, tokenizer, weights."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """What responses are padded with."""

    def require_room(self, num_entities: int, meta_texts: Iterable[str]) -> None:
        """Refuse budgets that this model cannot read.

        Args:
            num_entities: Most entities of a turn.
            meta_texts: Everything that may be said of one.

        Raises:
            ParamsError: A turn of the longest kind would not fit.
        """

    def prepare_training(self, device: str) -> None:
        """Choose what trains fastest on a device; nothing that changes more than rounding."""

    @abstractmethod
    def encode(
        self, context_ids: Sequence[Ids], entity_ids: Sequence[Sequence[EntityT]], *, device: torch.device | str
    ) -> EncodedT:
        """Read B turns.

        Args:
            context_ids: Of `builder.contexts`.
            entity_ids: Of `builder.entity_ids`, a list for each turn; lengths may differ, and may be 0.
            device: Device of the model.
        """

    @abstractmethod
    def response_logprobs(
        self, encoded: EncodedT, response_ids: Tensor, response_mask: Tensor, *, keep: Tensor | None = None
    ) -> Tensor:
        """Return log p(r_j | r_<j, c, E) of eq. 1 (MK-TOD): [B, T].

        Args:
            encoded: Of `encode`.
            response_ids: See the class.
            response_mask: See the class.
            keep: Entities that are read, bool[B, K]; None = all. A turn that keeps none reads its context alone.
        """

    @abstractmethod
    def single_logprobs(self, encoded: EncodedT, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return log p(r_j | r_<j, c, e_i) of every entity alone: [B, K, T]."""

    def leave_one_out_logprobs(self, encoded: EncodedT, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return log p(r_j | r_<j, c, E without e_i), [B, K, T] (LOOP of Atlas): K readings, one after the other."""
        left_out = []
        for k in range(encoded.entity_mask.shape[1]):
            keep = encoded.entity_mask.clone()
            keep[:, k] = False
            logprobs = self.response_logprobs(encoded, response_ids, response_mask, keep=keep)
            left_out.append(logprobs * encoded.entity_mask[:, k, None])
        return torch.stack(left_out, 1)

    def context_logprobs(
        self, context_ids: Sequence[Ids], response_ids: Tensor, response_mask: Tensor, *, device: torch.device | str
    ) -> Tensor:
        """Return log p(r_j | r_<j, c), no entity read (d⁻ of eq. 9): [B, T]."""
        encoded = self.encode(context_ids, [[] for _ in context_ids], device=device)
        return self.response_logprobs(encoded, response_ids, response_mask)

    @abstractmethod
    def passage_attention(self, encoded: EncodedT, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return how much writing the response attends to each entity: [B, K] (ADist of Atlas).

        Raises:
            ValueError: The generator does not read entities apart.
        """

    @abstractmethod
    def generate(
        self,
        context_ids: Sequence[Ids],
        entity_ids: Sequence[Sequence[EntityT]],
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        device: torch.device | str,
    ) -> list[str]:
        """Answer B turns; greedy for one beam. The mode (training or evaluation) is left as it was.

        Args:
            context_ids: As `encode`.
            entity_ids: As `encode`.
            num_beams: Beams.
            max_new_tokens: Longest answer; None = `max_response_tokens`.
            device: Device of the model.
        """

    @abstractmethod
    def num_prompt_tokens(self, context: Ids, entities: Sequence[EntityT]) -> int:
        """Return the tokens read to answer a turn."""


AnyGenerator = TrainableGenerator[Any, Any]


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


# Logits made at a time: 64 MiB in float32.
_CHUNK = 1 << 24


def token_logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor | None = None, chunk: int = _CHUNK) -> Tensor:
    """Return log softmax(hidden @ weightᵀ + bias) at the labels, in float32 also under autocast.

    Logits are made a chunk of rows at a time. If there is more than one chunk and gradients are wanted, the backward pass makes
    them again: [N, V] is never materialised.

    Args:
        hidden: Last decoder states, scaled as the head wants them, [N, D].
        weight: Of the head, [V, D].
        labels: int64[N].
        bias: Of the head, [V].
        chunk: Maximum number of logits at a time (at least one row).

    Returns:
        float32[N].
    """
    rows = max(1, chunk // weight.shape[0])
    if len(hidden) <= rows:
        return _logprobs(hidden, weight, labels, bias)
    parts = []
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows], weight, labels[start : start + rows], bias
        parts.append(checkpoint(_logprobs, *part, use_reentrant=False) if torch.is_grad_enabled() else _logprobs(*part))
    return torch.cat(parts)


def _logprobs(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None) -> Tensor:
    return -F.cross_entropy(F.linear(hidden, weight, bias).float(), labels, reduction="none")
