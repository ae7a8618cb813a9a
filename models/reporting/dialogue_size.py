"""Models, dialogues and knowledge base of the dialogue half in numbers, for the estimates."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.params.dialogue import DialogueParams, Variant
from models.params.retriever import RetrieverParams
from models.reporting.dialogue_footprint import Reading
from models.reporting.footprint import ModelSize

# Tokens before an entity, for each kind of meta knowledge (Tables 10 and 11 of MK-TOD).
_META_TOKENS: dict[Variant, int] = {"none": 0, "prefix": 1, "prompt": 5, "contrastive": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueModels:
    """Sizes of the models of the dialogue half.

    Attributes:
        encoder: The retriever's encoder.
        generator: The T5; `num_layers` are those of its encoder, its decoder has as many.
        num_encoders: 2 where contexts and entities have encoders of their own.
        in_context: Further generators by name; those behind an endpoint are absent.
    """

    encoder: ModelSize
    generator: ModelSize
    num_encoders: int = 1
    in_context: Mapping[str, ModelSize] = field(default_factory=dict)

    @property
    def retriever_parameters(self) -> int:
        """Parameters of all encoders."""
        return self.num_encoders * self.encoder.num_parameters

    @property
    def retriever_bytes(self) -> int:
        """Its weights in float32."""
        return 4 * self.retriever_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueSize:
    """Turns, entities, and mean lengths before anything is cut, in tokens.

    Attributes:
        num_train: System turns to train on.
        num_valid: System turns to validate on.
        num_test: Held-out system turns.
        num_entities: N, entities of the knowledge base (of all dialogues together, in the condensed setting).
        context_tokens: Of a context.
        entity_tokens: Of an entity with its attributes.
        response_tokens: Of a response.
    """

    num_train: int
    num_valid: int
    num_test: int
    num_entities: int
    context_tokens: float
    entity_tokens: float
    response_tokens: float

    @property
    def num_turns(self) -> int:
        """Turns of all splits."""
        return self.num_train + self.num_valid + self.num_test

    def query_tokens(self, cfg: RetrieverParams) -> float:
        """Tokens of a context for the retriever, with its two special tokens."""
        return min(self.context_tokens + 2, cfg.max_context_tokens)

    def entry_tokens(self, cfg: RetrieverParams) -> float:
        """Tokens of an entity for the retriever."""
        return min(self.entity_tokens + 2, cfg.max_entity_tokens)

    def reading(self, cfg: DialogueParams, *, variant: Variant, negative: bool) -> Reading:
        """Return what the generator reads and writes for a mean turn.

        Args:
            cfg: K, budgets, meta knowledge.
            variant: How meta knowledge is told.
            negative: With the negative entity, as in training.
        """
        context = min(self.context_tokens, cfg.generator.max_context_tokens)
        told = self.entity_tokens + _META_TOKENS[variant] * len(cfg.meta_knowledge.kinds)
        entity = min(told, cfg.generator.max_entity_tokens)
        response = min(self.response_tokens + 1, cfg.generator.max_response_tokens)
        return _reading(cfg, self.width(cfg, negative=negative), context, entity, response)

    def longest(self, cfg: DialogueParams) -> Reading:
        """Return what the generator reads and writes at most in training: memory must suffice for that."""
        budgets = cfg.generator
        sizes = budgets.max_context_tokens, budgets.max_entity_tokens, budgets.max_response_tokens
        return _reading(cfg, self.width(cfg, negative=True), *sizes)

    def width(self, cfg: DialogueParams, *, negative: bool) -> int:
        """Return K, or K + 1 with the negative entity; less where the knowledge base is smaller."""
        extra = negative and cfg.joint.negative_entity != "none"
        return min(cfg.num_retrieved + extra, self.num_entities)


def _reading(cfg: DialogueParams, width: int, context: float, entity: float, response: float) -> Reading:
    if cfg.generator.fusion == "concat":
        return Reading(1, context + width * entity + 1, context + 1, response)
    return Reading(width, context + entity + 1, context + 1, response)
