"""How much computing and memory a retriever's encoder and a T5 need: the formulas behind `estimate_dialogue_stages`.

Letters as in `footprint`: P parameters, n layers (of a T5: of encoder and decoder each), D width, V vocabulary. A T5 reads W
passages of L tokens and writes T tokens. Multiplications and additions of matrices are counted, two operations each;
embeddings are looked up and cost nothing. All results are estimates within tens of per cent.
"""

from dataclasses import dataclass

from models.reporting.footprint import ModelSize

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
    """What a T5 reads and writes for one turn.

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
