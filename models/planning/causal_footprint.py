"""Computing and memory of a trained causal LM for a turn: all entities in one prompt, and each in a branch of its own."""

from models.planning.dialogue_footprint import Reading, body_parameters
from models.planning.footprint import ModelSize, activation_bytes

# Instructions with the chat template around them, and what stands between an entity and the answer; of SmolLM2's template.
_FRAME, _TAIL = 80, 8


def together_tokens(reading: Reading) -> float:
    """Return the tokens of one prompt with all entities and its response."""
    return _prefix(reading) + reading.passages * _entity(reading) + _TAIL + reading.response_tokens


def branches_tokens(reading: Reading) -> float:
    """Return the tokens of a row with a branch for each entity: the prefix once, then W times an entity and the response."""
    return _prefix(reading) + reading.passages * (_entity(reading) + _TAIL + reading.response_tokens)


def together_flops(model: ModelSize, reading: Reading) -> float:
    """Return one likelihood (or greedy response) given all entities: causal attention, the head at the response alone."""
    return _flops(model, together_tokens(reading), responses=1, reading=reading, masked=False)


def branches_flops(model: ModelSize, reading: Reading) -> float:
    """Return the W likelihoods given one entity each; under a mask, attention is computed for all pairs of a row's tokens."""
    return _flops(model, branches_tokens(reading), responses=reading.passages, reading=reading, masked=True)


def bare_flops(model: ModelSize, reading: Reading) -> float:
    """Return the likelihood given no entity."""
    tokens = _prefix(reading) + _TAIL + reading.response_tokens
    return _flops(model, tokens, responses=1, reading=reading, masked=False)


def kept_bytes(model: ModelSize, tokens: float, *, dtype: str, checkpointing: bool) -> int:
    """Return what backward keeps of a row, its attention mask (one byte for each pair of tokens) included."""
    kept = activation_bytes(model, tokens=int(tokens), dtype=dtype, checkpointing=checkpointing, length=int(tokens))
    return kept + int(tokens) ** 2


def _prefix(reading: Reading) -> float:
    return _FRAME + reading.context_tokens


def _entity(reading: Reading) -> float:
    return max(reading.passage_tokens - reading.context_tokens, 0.0)


def _flops(model: ModelSize, tokens: float, *, responses: float, reading: Reading, masked: bool) -> float:
    """Return T·(2·body + 4·n·D·T) (half of the attention without a mask) + 2·V·D for each response token."""
    attention = (4 if masked else 2) * model.num_layers * model.hidden_size * tokens
    head = 2 * model.vocab_size * model.hidden_size * responses * reading.response_tokens
    return tokens * (2 * body_parameters(model) + attention) + head
