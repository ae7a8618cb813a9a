"""The trained decoder-only generator: a causal LM that reads dialogue and entities in its prompt."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import GenerationConfig
from typing_extensions import override

from models.dialogue.generators.decoder_only.branches import Branches, BranchReader
from models.dialogue.generators.decoder_only.loading import CausalParts, load_causal, pico_causal, read_causal
from models.dialogue.generators.decoder_only.prompt import CausalTokens, EntityTokens, frame_of
from models.dialogue.generators.files import generator_digest, read_params, write_generator
from models.dialogue.generators.trainable import Ids, TrainableGenerator
from models.errors import ParamsError, Problem
from models.lm.lora import add_adapters, cast_state, merged_state
from models.params.dialogue import GeneratorParams


@dataclass(frozen=True, slots=True)
class CausalTurns:
    """Turns in tokens; nothing is computed before a likelihood is asked for.

    Attributes:
        entity_mask: True where a turn has an entity, bool[B, K].
        contexts: Token ids of the contexts.
        entities: Of each turn.
    """

    entity_mask: Tensor
    contexts: Sequence[Ids]
    entities: Sequence[Sequence[EntityTokens]]


class CausalGenerator(TrainableGenerator[EntityTokens, CausalTurns]):
    """A causal LM with its tokenizer and chat template.

    A prompt is instructions and dialogue, then all entities with their meta knowledge, best first. Prompts with one entity have
    the same beginning, which is computed once for all of a turn, and no meta knowledge.

    Attributes:
        cfg: Parameters.
        model: The LM, adapters in its layers if `cfg.lora` asks for them and it was made for training.
        builder: Makes the segments of prompts.
    """

    def __init__(self, cfg: GeneratorParams, parts: CausalParts) -> None:
        super().__init__()
        self.cfg = cfg
        self.model: Any = parts.model
        self.builder: CausalTokens = CausalTokens(
            parts.codec, frame_of(parts.codec, parts.template, instructed=parts.instructed), cfg
        )
        self._template, self._context_length = parts.template, parts.context_length
        self.model.generation_config = GenerationConfig(eos_token_id=list(parts.codec.end.stops), pad_token_id=self.pad_id)
        if cfg.gradient_checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

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
        """As the base class; `special_tokens` are not added, as meta knowledge is text to a causal LM."""
        parts = pico_causal(cfg, texts(), seed=seed) if cfg.model == "pico" else load_causal(cfg, root=root, folder=folder)
        made = cls(cfg, parts)
        if cfg.lora is not None:
            adapted: Any = add_adapters(made.model, cfg.lora, key="dialogue.generator.lora")
            made.model = adapted.get_base_model()
            if cfg.gradient_checkpointing:
                made.model.enable_input_require_grads()
        return made

    @classmethod
    @override
    def load(cls, folder: Path, *, device: torch.device | str) -> Self:
        cfg = read_params(folder)
        return cls(cfg, read_causal(cfg, folder)).to(device).eval()

    @override
    def save(self, folder: Path) -> None:
        tokenizer = self.builder.codec.tokenizer
        # A template given as a preset is not in the model's own files; the folder needs it.
        own, tokenizer.chat_template = tokenizer.chat_template, self._template
        write_generator(folder, cfg=self.cfg, model=self.model, tokenizer=tokenizer, state=self._state())
        tokenizer.chat_template = own

    @override
    def digest(self) -> str:
        return generator_digest(self.cfg, self.model, self.builder.codec.tokenizer, self._state())

    @property
    @override
    def pad_id(self) -> int:
        """An id with an embedding: what it stands for is never attended to."""
        codec = self.builder.codec
        rows = len(self.model.get_input_embeddings().weight)
        return codec.pad_id if codec.pad_id < rows else codec.eos_id

    @override
    def require_room(self, num_entities: int, meta_texts: Iterable[str]) -> None:
        ids = self.builder.codec.encode_ids(list(meta_texts))
        longest = self._longest(num_entities, meta=max(map(len, ids), default=0))
        if longest > self._context_length:
            rule = (
                f"must be such that the longest prompt and response ({num_entities} entities in training, {longest} tokens) fit "
                f"into the {self._context_length} tokens that the model reads"
            )
            hint = "Lower `max_entity_tokens`, `max_context_tokens` or `dialogue.num_retrieved`."
            found = f"max_context_tokens {self.cfg.max_context_tokens}, max_entity_tokens {self.cfg.max_entity_tokens}"
            raise ParamsError("The generator cannot read so much", [Problem("`dialogue.generator`", rule, found, hint)])

    @override
    def encode(
        self, context_ids: Sequence[Ids], entity_ids: Sequence[Sequence[EntityTokens]], *, device: torch.device | str
    ) -> CausalTurns:
        counts = [len(entities) for entities in entity_ids]
        places = torch.arange(max(1, *counts, 0), device=device)
        return CausalTurns(places < torch.tensor(counts, device=device).reshape(-1, 1), context_ids, entity_ids)

    @override
    def response_logprobs(
        self, encoded: CausalTurns, response_ids: Tensor, response_mask: Tensor, *, keep: Tensor | None = None
    ) -> Tensor:
        kept = encoded.entity_mask if keep is None else encoded.entity_mask & keep
        chosen = [[e for e, k in zip(es, ks, strict=False) if k] for es, ks in zip(encoded.entities, kept.tolist(), strict=True)]
        suffixes = [[[i for e in entities for i in e.whole]] for entities in chosen]
        values = self._reader.logprobs(self._branches(encoded.contexts, suffixes, response_ids, response_mask))
        result = torch.zeros_like(response_ids, dtype=torch.float32)
        return result.index_put(response_mask.nonzero(as_tuple=True), values)

    @override
    def single_logprobs(self, encoded: CausalTurns, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        """Return log p(r_j | r_<j, c, e_i), where e_i is the entity without its meta knowledge."""
        mask = encoded.entity_mask[:, :, None] & response_mask[:, None]
        result = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        if not bool(mask.any()):
            return result
        suffixes = [[e.pairs for e in entities] for entities in encoded.entities]
        values = self._reader.logprobs(self._branches(encoded.contexts, suffixes, response_ids, response_mask))
        return result.index_put(mask.nonzero(as_tuple=True), values)

    @override
    def passage_attention(self, encoded: CausalTurns, response_ids: Tensor, response_mask: Tensor) -> Tensor:
        raise ValueError("Attention to entities needs `dialogue.generator.kind: seq2seq`, but it is `causal`.")

    @override
    @torch.no_grad()
    def generate(
        self,
        context_ids: Sequence[Ids],
        entity_ids: Sequence[Sequence[EntityTokens]],
        *,
        num_beams: int = 1,
        max_new_tokens: int | None = None,
        device: torch.device | str,
    ) -> list[str]:
        if not context_ids:
            return []
        prompts = [self._prompt(c, es) for c, es in zip(context_ids, entity_ids, strict=True)]
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.pad_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
        # Ids that the head has, but not the tokenizer.
        known, rows = self.builder.codec.vocab_size, len(self.model.get_output_embeddings().weight)
        config = GenerationConfig(
            max_new_tokens=max_new_tokens or self.cfg.max_response_tokens,
            num_beams=num_beams,
            do_sample=False,
            eos_token_id=[i for i in self.builder.codec.end.stops if i < rows],
            pad_token_id=self.pad_id,
            suppress_tokens=list(range(known, rows)) or None,
        )
        was_training = self.training
        self.eval()
        try:
            output = self.model.generate(ids.to(device), attention_mask=mask.to(device), generation_config=config)
        finally:
            self.train(was_training)
        return [self.builder.text(row) for row in output[:, width:].tolist()]

    @override
    def num_prompt_tokens(self, context: Ids, entities: Sequence[EntityTokens]) -> int:
        return len(self._prompt(context, entities))

    @cached_property
    def _reader(self) -> BranchReader:
        return BranchReader(self.model, pad_id=self.pad_id, longest=self._longest(1, meta=0))

    def _prompt(self, context: Ids, entities: Sequence[EntityTokens]) -> list[int]:
        frame = self.builder.frame
        return [*frame.head, *context, *frame.middle, *(i for e in entities for i in e.whole), *frame.tail]

    def _branches(
        self, contexts: Sequence[Ids], suffixes: Sequence[Sequence[Ids]], response_ids: Tensor, response_mask: Tensor
    ) -> list[Branches]:
        frame = self.builder.frame
        responses = [row[: int(n)] for row, n in zip(response_ids.tolist(), response_mask.sum(1).tolist(), strict=True)]
        return [
            Branches([*frame.head, *context, *frame.middle], [[*s, *frame.tail] for s in of_turn], response)
            for context, of_turn, response in zip(contexts, suffixes, responses, strict=True)
        ]

    def _longest(self, num_entities: int, *, meta: int) -> int:
        cfg = self.cfg
        entities = num_entities * (cfg.max_entity_tokens + meta)
        return self.builder.frame.num_tokens + cfg.max_context_tokens + entities + cfg.max_response_tokens

    def _state(self) -> dict[str, Tensor]:
        """Return the weights in float32, adapters merged; tied ones stay one tensor."""
        return cast_state(merged_state(self.model), torch.float32)
