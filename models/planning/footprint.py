"""Formulas behind the estimates: sizes of models and corpora, and computation per token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.params.teach import ScorerSpec

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

Recipe = Literal["float32", "bfloat16_autocast", "bfloat16"]

SCATTERED = 1.5
"""Factor on a CPU, where the C library gives out tensors: what lies between them is lost until the step ends.

Measured next to an allocation page by page, which took a third longer: 1.2 to 1.4 GPT-NeoX, 1.4 to 1.5 Llama, 1.3 to 2.1 MPT.
"""

# Vectors of width D that a layer keeps of a token.
_STATES, _GATED_STATES = 17, 21
# How much longer than the mean the longest answer of a batch is, which the others wait for.
_LONGEST = 2

# Bytes per trained parameter: weight + gradient + Adam's two moments. Autocast keeps a bfloat16 copy of the float32 weights.
STATE_BYTES: dict[Recipe, int] = {"float32": 4 + 4 + 8, "bfloat16_autocast": 4 + 4 + 8 + 2, "bfloat16": 2 + 2 + 4}


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Model dimensions used by the formulas.

    Attributes:
        num_parameters: P.
        vocab_size: V, rows of the output head.
        hidden_size: D.
        num_layers: L.
        dtype: Dtype of the weights at inference.
        kv_width: W, key heads × head width; None = D (no grouped-query attention).
        gated: The MLP multiplies two projections (Llama and its kin), and keeps both.
        eager_heads: Attention heads whose T² probabilities are kept, as the architecture has no fused attention (MPT); else 0.
    """

    num_parameters: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kv_width: int | None = None
    gated: bool = False
    eager_heads: int = 0


def weights_bytes(model: ModelSize, dtype: str | None = None) -> int:
    """Return P·b; `dtype` None = the model's own."""
    return model.num_parameters * DTYPE_BYTES[dtype or model.dtype]


def unpacking_bytes(model: ModelSize) -> int:
    """Return 4·(P + 2·V·D) + 2,000·V: weights in float32, the embedding twice more while unpacked, the vocabulary as objects."""
    return 4 * (model.num_parameters + 2 * model.vocab_size * model.hidden_size) + 2_000 * model.vocab_size


def kv_cache_bytes(model: ModelSize, *, tokens: int) -> int:
    """Return 2·L·W·T·b: keys and values of `tokens` = sequences × their length."""
    width = model.hidden_size if model.kv_width is None else model.kv_width
    return 2 * model.num_layers * width * tokens * DTYPE_BYTES[model.dtype]


def training_state_bytes(num_parameters: int, *, recipe: Recipe) -> int:
    """Return weights, gradients and Adam's moments of the trained parameters: 16, 18 or 8 bytes each."""
    return num_parameters * STATE_BYTES[recipe]


def gathered_bytes(model: ModelSize, *, dtype: str, trained: bool) -> int:
    """Return what FSDP 2 holds whole on every process: embedding and head throughout, and of the layers two at a time.

    Weights are gathered in `dtype`: of a layer and, ahead of it, the next. Trained ones have a gradient in `dtype` until it is
    added up over the processes, for which a float32 copy is made. Gradients do not wait for other micro-batches.

    Args:
        model: Its size.
        dtype: Of the gathered weights.
        trained: Whether they are trained; else adapters alone are, whose gradients are small.
    """
    ends = min(2 * model.vocab_size * model.hidden_size, model.num_parameters)
    layer = (model.num_parameters - ends) // max(model.num_layers, 1)
    gradients = (ends + layer) * (DTYPE_BYTES[dtype] + 4) if trained else 0
    return (ends + 2 * layer) * DTYPE_BYTES[dtype] + gradients


def lora_parameters(model: ModelSize, *, rank: int) -> int:
    """Return 19·D·rank·L: adapters on the seven matrices of a Llama layer, whose MLP is 2.7·D wide."""
    return 19 * model.hidden_size * rank * model.num_layers


def activation_bytes(model: ModelSize, *, tokens: int, dtype: str, checkpointing: bool, length: int = 0) -> int:
    """Return what backward needs of `tokens` in one forward: 17·T·D·b a layer, 21·T·D·b with a gated MLP.

    (34·T·D at 2 bytes: Korthikanti et al. 2022, eq. 2 without the T² of attention, which fused kernels do not keep. Counted in
    models with D = 160: 18.3 GPT-NeoX, 17 MPT without the T², 21.4 Llama.) With checkpointing only the input of each layer stays,
    and one layer is whole at a time.

    Args:
        model: Its size.
        tokens: Of all rows, padding included.
        dtype: Of the activations.
        checkpointing: Whether activations are recomputed.
        length: Tokens of a row, for the T² of eager attention.
    """
    states = _GATED_STATES if model.gated else _STATES
    per_layer = (states * model.hidden_size + model.eager_heads * length) * tokens * DTYPE_BYTES[dtype]
    if checkpointing:
        return per_layer + model.num_layers * tokens * model.hidden_size * DTYPE_BYTES[dtype]
    return model.num_layers * per_layer


def loss_chunk_bytes(model: ModelSize, *, chunk: int) -> int:
    """Return 8·chunk·V: float32 logits of one chunk of tokens and their gradient; never [T, V] of the whole batch."""
    return 2 * 4 * chunk * model.vocab_size


def signal_bytes_per_token(vocab_size: int, *, top_k: int) -> int:
    """Return the bytes of one row of the signal store: id, K ids, K log-probabilities, tail, cross-entropy.

    Ids take 2 bytes up to V = 65,536, else 4: 48 bytes at K = 10, or 70. (An offset of 4 bytes per sample comes on top.)
    """
    id_bytes = 2 if vocab_size <= 65_536 else 4
    return id_bytes + top_k * (id_bytes + 2) + 2 + 4


def store_bytes(vocab_size: int, *, top_k: int, num_samples: int, num_tokens: int) -> int:
    """Return the size of a signal store: its rows, and 4 bytes of offset and 16 of id per sample."""
    return num_tokens * signal_bytes_per_token(vocab_size, top_k=top_k) + 20 * num_samples


def forward_flops(model: ModelSize, *, tokens: float, context: float) -> float:
    """Return T·(2·P + 2·L·D·context): matrices, and causal attention over a context of that many tokens (half on average)."""
    return tokens * (2 * model.num_parameters + 2 * model.num_layers * model.hidden_size * context)


def training_flops(model: ModelSize, *, tokens: float, context: float, checkpointing: bool) -> float:
    """Return three forwards' worth (backward costs two), four with activation checkpointing."""
    return (4 if checkpointing else 3) * forward_flops(model, tokens=tokens, context=context)


def generation_calls(model: ModelSize, *, texts: int, batch: int, tokens: float, limit: int) -> float:
    """Return L × decoding steps of all batches; a batch takes as many as its longest answer has tokens (at most `limit`)."""
    return -(-texts // batch) * min(_LONGEST * tokens, limit) * model.num_layers


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """The corpus in numbers; lengths are means.

    Attributes:
        num_train: Training prompts.
        num_test: Held-out prompts.
        prompt_bytes: UTF-8 bytes of a prompt.
        response_bytes: UTF-8 bytes of a ground-truth response.
        bytes_per_token: Of the tokenizers; about 4 for English with 32k entries, 1 to 3 for small vocabularies.
        num_valid: Validation prompts, which the sources are scored on.
        longest_bytes: UTF-8 bytes of the longest prompt with its response; None = unknown.
        longest_row: The same in tokens, where it has been counted.
        longest_prompt: Tokens of the longest prompt, where they have been counted.
        extra_bytes: Further output of `prepare`: rows that embedded sources are trained on.
        num_prompts_only: Training prompts without a ground truth.
    """

    num_train: int
    num_test: int
    prompt_bytes: float
    response_bytes: float
    bytes_per_token: float = 4.0
    num_valid: int = 0
    longest_bytes: float | None = None
    longest_row: int | None = None
    longest_prompt: int | None = None
    extra_bytes: int = 0
    num_prompts_only: int = 0

    @property
    def num_truths(self) -> int:
        """Training prompts with a ground truth."""
        return self.num_train - self.num_prompts_only

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt, rounded up."""
        return -int(-self.prompt_bytes // self.bytes_per_token)

    @property
    def response_tokens(self) -> int:
        """Tokens of a response, rounded up, with the end token."""
        return -int(-self.response_bytes // self.bytes_per_token) + 1

    def answer_tokens(self, max_new_tokens: int) -> int:
        """Tokens of a model's answer: as long as the ground truth, unless cut."""
        return min(self.response_tokens, max_new_tokens)

    def longest_tokens(self, max_length: int) -> int:
        """Tokens of the longest row, at most `max_length`."""
        if self.longest_row is not None:
            return min(max_length, self.longest_row + 1)
        if self.longest_bytes is None:
            return max_length
        return min(max_length, -int(-self.longest_bytes // self.bytes_per_token) + 1)


# Of a judge, whose tokenizer is not known: a large vocabulary on English.
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class JudgingCost:
    """Requests to judges, where each answer is graded at the first reply.

    Attributes:
        calls: Requests: answers × judges.
        sent_tokens: Tokens of the requests: grading prompt, conversation, answer.
        reply_tokens: Tokens of the replies at most.
    """

    calls: int
    sent_tokens: int
    reply_tokens: int


def judging_cost(scorers: Sequence[ScorerSpec], corpus: CorpusSize, *, answers: int, answer: int) -> JudgingCost | None:
    """Return what the judges among the scorers are asked; None without judges or answers.

    Args:
        scorers: The voters.
        corpus: How long prompts are.
        answers: Number of answers that every judge grades.
        answer: Tokens of one, of the model that gave it.
    """
    from models.fusion.scorers import JUDGE_SYSTEM

    judges = [scorer for scorer in scorers if scorer.kind == "judge"]
    if not judges or not answers:
        return None
    sent = -int(-(len(JUDGE_SYSTEM) + corpus.prompt_bytes + answer * corpus.bytes_per_token) // _BYTES_PER_TOKEN)
    calls = answers * len(judges)
    return JudgingCost(calls, calls * sent, answers * sum(judge.max_tokens for judge in judges))
