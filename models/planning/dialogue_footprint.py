"""Models, dialogues and knowledge base of the dialogue half in numbers, and how much computing and memory they need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.params.dialogue import DialogueParams, Variant
from models.params.retriever import RetrieverParams
from models.planning.footprint import ModelSize

# Matrices of D² in a layer of a T5: attention 4, feed-forward 8; the decoder has a second attention.
_ENCODER, _DECODER, _CROSS = 12, 16, 2
# Width of an attention head in every published BERT and T5.
_HEAD = 64
# Bytes that backward keeps of a token, layer and unit of width, measured on a T5 of width 256 in float32. Autocast saves little
# of them, as norms and dropout stay in float32.
_ENCODER_BYTES, _DECODER_BYTES = 100, 150
# Three float32 copies of each attention probability: T5's learned bias keeps attention from being fused on most devices.
_PROBABILITY_BYTES = 12


@dataclass(frozen=True, slots=True)
class Reading:
    """Input and output lengths of a T5 for one turn.

    Attributes:
        passages: W.
        passage_tokens: L: context, meta knowledge, entity and end token; with `concat`, all entities in one passage.
        context_tokens: Of a passage without an entity.
        response_tokens: T.
    """

    passages: int
    passage_tokens: float
    context_tokens: float
    response_tokens: float

    @property
    def memory(self) -> float:
        """Tokens that the decoder attends to, W·L."""
        return self.passages * self.passage_tokens


def body_parameters(model: ModelSize) -> int:
    """Return P − V·D: what computes, without the (tied) embedding."""
    return max(model.num_parameters - model.vocab_size * model.hidden_size, 0)


def embed_flops(model: ModelSize, *, texts: float, tokens: float) -> float:
    """Return texts·tokens·(2·(P − V·D) + 4·n·D·tokens): a bidirectional encoder over texts of that length."""
    attention = 4 * model.num_layers * model.hidden_size * tokens
    return texts * tokens * (2 * body_parameters(model) + attention)


def read_flops(model: ModelSize, *, passages: float, tokens: float) -> float:
    """Return the encoder's cost of passages encoded apart: each is an `embed_flops` over 12/28 of the T5's body."""
    attention = 4 * model.num_layers * model.hidden_size * tokens
    return passages * tokens * (2 * _share(model, _ENCODER) + attention)


def project_flops(model: ModelSize, *, tokens: float) -> float:
    """Return tokens·4·n·D²: encoder states to keys and values of every decoder layer, made once for all decodes."""
    return tokens * 2 * _share(model, _CROSS)


def write_flops(model: ModelSize, *, responses: float, tokens: float, memory: float) -> float:
    """Return the decoder's cost of responses of T tokens over a memory of S tokens, with the head.

    responses·T·(2·(decoder − keys and values) + 2·n·D·T + 4·n·D·S + 2·V·D): matrices, causal attention to what was written,
    attention to the memory, the head.
    """
    matrices = 2 * (_share(model, _DECODER) - _share(model, _CROSS))
    attention = model.num_layers * model.hidden_size * (2 * tokens + 4 * memory)
    return responses * tokens * (matrices + attention + 2 * model.vocab_size * model.hidden_size)


def _share(model: ModelSize, matrices: int) -> float:
    return body_parameters(model) * matrices / (_ENCODER + _DECODER)


def fused_flops(model: ModelSize, reading: Reading) -> float:
    """Return one likelihood (or greedy response) given all entities: W passages read, one response over W·L tokens."""
    read = read_flops(model, passages=reading.passages, tokens=reading.passage_tokens)
    written = write_flops(model, responses=1, tokens=reading.response_tokens, memory=reading.memory)
    return read + project_flops(model, tokens=reading.memory) + written


def single_flops(model: ModelSize, reading: Reading) -> float:
    """Return the W likelihoods given one entity each, over encoder states that are there: W responses over L tokens."""
    tokens, memory = reading.response_tokens, reading.passage_tokens
    return write_flops(model, responses=reading.passages, tokens=tokens, memory=memory)


def reading_bytes(model: ModelSize, reading: Reading, *, checkpointing: bool) -> int:
    """Return what backward keeps of the encoder for one turn: W·L·n·(100·D + 12·L·D/64).

    With checkpointing the input of each layer stays, and one layer is whole at a time.
    """
    tokens, width = reading.memory, model.hidden_size
    layer = tokens * (_ENCODER_BYTES * width + _PROBABILITY_BYTES * reading.passage_tokens * width / _HEAD)
    return int(layer + model.num_layers * 8 * tokens * width if checkpointing else model.num_layers * layer)


def writing_bytes(model: ModelSize, *, responses: int, tokens: float, memory: float, read: float, checkpointing: bool) -> int:
    """Return what backward keeps of a decode: n·(150·R·T·D + 12·R·T·S·D/64 + 8·read·D).

    Args:
        model: The T5.
        responses: R, rows.
        tokens: T.
        memory: S, tokens that a row attends to.
        read: Tokens whose keys and values are read, over all rows.
        checkpointing: Layers are recomputed.
    """
    width = model.hidden_size
    rows = responses * tokens
    layer = _DECODER_BYTES * rows * width + _PROBABILITY_BYTES * rows * memory * width / _HEAD + 8 * read * width
    return int(layer + model.num_layers * 8 * rows * width if checkpointing else model.num_layers * layer)


# Tokens before an entity, for each kind of meta knowledge (Tables 10 and 11 of MK-TOD).
_META_TOKENS: dict[Variant, int] = {"none": 0, "prefix": 1, "prompt": 5, "contrastive": 0}
# Of a tag that is written as text.
_TAG_TOKENS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueModels:
    """Sizes of the models of the dialogue half.

    Attributes:
        encoder: The retriever's encoder.
        generator: The causal LM, or the T5; `num_layers` are those of its encoder, its decoder has as many.
        num_encoders: 2 if contexts and entities have separate encoders.
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
            variant: How meta knowledge is given.
            negative: With the negative entity, as in training.
        """
        context = min(self.context_tokens, cfg.generator.max_context_tokens)
        meta = _META_TOKENS[variant] * len(cfg.meta_knowledge.kinds)
        if cfg.generator.kind == "causal":  # tags are text, and come on top of the budget
            meta = _TAG_TOKENS * len(cfg.meta_knowledge.kinds) if variant == "prefix" else meta
            entity = min(self.entity_tokens, cfg.generator.max_entity_tokens) + meta
        else:
            entity = min(self.entity_tokens + meta, cfg.generator.max_entity_tokens)
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
    if cfg.generator.kind == "seq2seq" and cfg.generator.fusion == "concat":
        return Reading(1, context + width * entity + 1, context + 1, response)
    return Reading(width, context + entity + 1, context + 1, response)
