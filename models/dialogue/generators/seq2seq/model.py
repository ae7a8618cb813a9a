"""The trained generator: a T5 that reads retrieved entities by fusion-in-decoder, or as one sequence."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from typing_extensions import override

from models.dialogue.generators.files import generator_digest, write_generator
from models.dialogue.generators.seq2seq.decoding import (
    Encoded,
    EncoderMemory,
    cross_keys_values,
    decode,
    passage_weights,
)
from models.dialogue.generators.seq2seq.from_scratch import add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.loading import load_t5, pico_t5, read_generator
from models.dialogue.generators.seq2seq.prompt import PassageBuilder
from models.dialogue.generators.trainable import Ids, TrainableGenerator, pad_ids, token_logprobs
from models.params.dialogue import GeneratorParams


class Seq2SeqGenerator(TrainableGenerator[list[int], Encoded]):
    """A T5 with its tokenizer and its way of reading entities.

    With `fid`, each passage [context | entity] is encoded alone and the decoder attends to all of them. Positions are relative
    and cross-attention has none: the order of the entities changes nothing. Encoder states, and the decoder's keys and values
    of them, are made once and serve the fused likelihood and those of single entities.
    With `concat`, one passage holds the context and all entities; likelihoods of single entities or of fewer of them need an
    encoder run of their own.

    Attributes:
        cfg: Parameters.
        model: The T5.
        tokenizer: Its tokenizer, with role marks and meta knowledge tokens.
        builder: Makes token ids of contexts, entities and responses.
    """

    def __init__(self, cfg: GeneratorParams, model: T5ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = model
        self.tokenizer = tokenizer
        self.builder: PassageBuilder = PassageBuilder(tokenizer, cfg)
        if cfg.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    @classmethod
    @override
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
        if cfg.model != "pico":
            model, tokenizer = load_t5(cfg.model, revision=cfg.revision, special_tokens=special_tokens, root=root, seed=seed)
        else:
            tokenizer = train_t5_tokenizer(texts(), vocab_size=cfg.pico.vocab_size)
            add_marks(tokenizer, special_tokens)
            model = pico_t5(cfg.pico, tokenizer, seed=seed)
        return cls(cfg, model, tokenizer)

    @classmethod
    @override
    def load(cls, folder: Path, *, device: torch.device | str) -> Self:
        return cls(*read_generator(folder)).to(device).eval()

    @override
    def save(self, folder: Path) -> None:
        write_generator(folder, cfg=self.cfg, model=self.model, tokenizer=self.tokenizer)

    @override
    def digest(self) -> str:
        return generator_digest(self.cfg, self.model, self.tokenizer, self.model.state_dict())

    @property
    @override
    def pad_id(self) -> int:
        """Padding, and the decoder's first input."""
        pad_id: Any = self.model.config.pad_token_id
        return int(pad_id)

    @override
    def prepare_training(self, device: str) -> None:
        if device == "cpu":
            # The position bias needs a gradient, which torch's CPU attention kernel lacks; its fallback is slower than `eager`.
            self.model.set_attn_implementation("eager")

    @override
    def encode(
        self, context_ids: Sequence[Ids], entity_ids: Sequence[Sequence[list[int]]], *, device: torch.device | str
    ) -> Encoded:
        num_entities = [len(entities) for entities in entity_ids]
        entity_mask = _first(num_entities, width=max(1, *num_entities, 0), device=device)
        if self.cfg.fusion == "concat":
            passages = [[self._passage(c, *es)] for c, es in zip(context_ids, entity_ids, strict=True)]
        else:
            passages = self._single_passages(context_ids, entity_ids)
        return self._encode(passages, entity_mask, context_ids, entity_ids)

    @override
    def response_logprobs(
        self, encoded: Encoded, response_ids: Tensor, response_mask: Tensor, *, keep: Tensor | None = None
    ) -> Tensor:
        if keep is None:
            return self._logprobs(encoded.together(), response_ids, response_mask)
        keep = keep & encoded.entity_mask
        if self.cfg.fusion == "concat":
            encoded, keep = self._encode_kept(encoded, keep.tolist()), None
            return self._logprobs(encoded.together(), response_ids, response_mask)
        result = self._logprobs(encoded.together(keep), response_ids, response_mask)
        bare = (encoded.entity_mask.any(1) & ~keep.any(1)).nonzero().squeeze(1)
        if len(bare):
            contexts = [encoded.contexts[turn] for turn in bare.tolist()]
            alone = self.context_logprobs(contexts, response_ids[bare], response_mask[bare], device=response_ids.device)
            result = result.index_copy(0, bare, alone)
        return result

    @override
    def single_logprobs(self, encoded: Encoded, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return log p(r_j | r_<j, c, e_i). `fid` reuses the encoder's states: only the decoder runs, a row for each entity."""
        if self.cfg.fusion == "concat":
            passages = self._single_passages(encoded.contexts, encoded.entities)
            encoded = self._encode(passages, encoded.entity_mask, encoded.contexts, encoded.entities)
        turns, width = encoded.entity_mask.shape
        places = [turn * width + k for turn, entities in enumerate(encoded.entities) for k in range(len(entities))]
        result = response_ids.new_zeros((turns * width, response_ids.shape[1]), dtype=torch.float32)
        if places:
            rows = torch.tensor(places, device=response_ids.device)
            of_turn = rows // width
            alone = self._logprobs(encoded.alone(rows), response_ids[of_turn], response_mask[of_turn])
            result = result.index_copy(0, rows, alone)
        by_turn: Tensor = result.unflatten(0, (turns, width))
        return by_turn

    @override
    def passage_attention(self, encoded: Encoded, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return how much the decoder attends to each entity: float32[B, K], 0 where there is none (ADist of Atlas).

        Cross-attention probability × norm of the value, summed over heads and over the tokens of the passage, averaged over
        layers and response tokens: of the order of a value's norm whatever the lengths. Args as `response_logprobs`.

        Raises:
            ValueError: With `concat` fusion, where an entity has no passage.
        """
        if self.cfg.fusion == "concat":
            raise ValueError("Attention to passages needs `dialogue.generator.fusion: fid`, but it is `concat`.")
        inputs = self.model._shift_right(response_ids)
        weights = passage_weights(self.model, encoded.together(), inputs, response_mask)
        by_passage: Tensor = weights.unflatten(1, encoded.mask.shape[1:]).sum(2)
        return by_passage * encoded.entity_mask / response_mask.sum(1, keepdim=True).clamp(min=1)

    @override
    @torch.no_grad()
    def generate(
        self,
        context_ids: Sequence[Ids],
        entity_ids: Sequence[Sequence[list[int]]],
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        device: torch.device | str,
    ) -> list[str]:
        if not context_ids:
            return []
        was_training = self.training
        self.eval()
        try:
            memory = self.encode(context_ids, entity_ids, device=device).together()
            model: Any = self.model
            answers = model.generate(
                encoder_outputs=BaseModelOutput(last_hidden_state=memory.states),
                attention_mask=memory.mask,
                num_beams=num_beams,
                do_sample=False,
                max_new_tokens=max_new_tokens or self.cfg.max_response_tokens,
            )
        finally:
            self.train(was_training)
        return [self.builder.text(ids) for ids in answers.tolist()]

    @override
    def num_prompt_tokens(self, context: Ids, entities: Sequence[list[int]]) -> int:
        return len(context) * max(len(entities), 1) + sum(map(len, entities))

    def _logprobs(self, memory: EncoderMemory, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        hidden = decode(self.model, memory, self.model._shift_right(response_ids))
        rows = response_mask.nonzero(as_tuple=True)
        values = token_logprobs(hidden[rows], self.model.lm_head.weight, response_ids[rows])
        return torch.zeros_like(response_ids, dtype=torch.float32).index_put(rows, values)

    def _passage(self, context: Ids, *entities: Ids) -> list[int]:
        end = int(self.tokenizer.eos_token_id)
        return [*context, *(i for entity in entities for i in entity), end]

    def _single_passages(self, context_ids: Sequence[Ids], entity_ids: Sequence[Sequence[Ids]]) -> list[list[list[int]]]:
        pairs = zip(context_ids, entity_ids, strict=True)
        return [[self._passage(c, e) for e in entities] or [self._passage(c)] for c, entities in pairs]

    def _encode_kept(self, encoded: Encoded, keep: Sequence[Sequence[bool]]) -> Encoded:
        kept = [[e for e, k in zip(es, ks, strict=False) if k] for es, ks in zip(encoded.entities, keep, strict=True)]
        return self.encode(encoded.contexts, kept, device=encoded.states.device)

    def _encode(
        self,
        passages: Sequence[Sequence[Ids]],
        entity_mask: Tensor,
        contexts: Sequence[Ids],
        entities: Sequence[Sequence[list[int]]],
    ) -> Encoded:
        """Run the encoder on the passages there are, and spread their states over [B, K, L, D]."""
        device = entity_mask.device
        turns, width = len(passages), max(map(len, passages), default=1)
        ids, mask = pad_ids([p for of_turn in passages for p in of_turn], pad_id=self.pad_id, device=device)
        states = self.model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        if len(ids) < turns * width:
            places = [turn * width + k for turn, of_turn in enumerate(passages) for k in range(len(of_turn))]
            rows = torch.tensor(places, device=device)
            states = states.new_zeros((turns * width, *states.shape[1:])).index_copy(0, rows, states)
            mask = mask.new_zeros((turns * width, mask.shape[1])).index_copy(0, rows, mask)
        states, mask = (t.unflatten(0, (turns, width)) for t in (states, mask))
        # Layers that are recomputed for gradient checkpointing take no cache.
        recomputed = self.model.is_activation_checkpointing and self.model.training
        keys_values = () if recomputed else cross_keys_values(self.model, states)
        return Encoded(states, mask, entity_mask, keys_values, contexts, entities)


def _first(counts: Sequence[int], *, width: int, device: torch.device | str) -> Tensor:
    """Return bool[B, width], True in the first `counts[b]` places of row b."""
    return torch.arange(width, device=device) < torch.tensor(counts, device=device).reshape(-1, 1)
