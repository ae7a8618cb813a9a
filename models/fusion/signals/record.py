"""Records of the signal store: one sample's signals, a batch of samples, and the specification of a store."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from models.errors import SignalError

SignalKind = Literal["ground_truth", "response", "aligned"]

TAIL_FLOOR = float(np.log(1e-8))
"""Minimum log-mass of the tail: below it rounding leaves nothing to renormalise."""

PAD_LOGPROB = -100.0
"""Log-probability of an unused top-k slot: finite in float16, and exp of it is 0 in float32 sums with any real entry."""


@dataclass(frozen=True, slots=True, eq=False)
class SampleSignals:
    """One source's token-level signals on one response: T response tokens, the end token last unless truncated; K top-k.

    Attributes:
        id: Sample id, unique in a store.
        token_ids: uint32[T], the response in the tokens of the store's tokenizer.
        topk_ids: uint32[T, K], the most probable tokens of each row; row t predicts `token_ids[t]`.
        topk_logprobs: float16[T, K], nats, normalised over the full vocabulary, descending; unused slots `PAD_LOGPROB`.
        tail: float16[T], log of the mass outside the top-k (from float32, before rounding), at least `TAIL_FLOOR`.
        ce: float32[T], −log p of `token_ids[t]`, nats; of the end token the sum over all tokens that end a turn.
        prompt_ids: uint32[P], the rendered prompt; only in aligned stores.
        has_teacher: bool[T], whether the row carries a distribution; only in aligned stores.
    """

    id: str
    token_ids: npt.NDArray[np.uint32]
    topk_ids: npt.NDArray[np.uint32]
    topk_logprobs: npt.NDArray[np.float16]
    tail: npt.NDArray[np.float16]
    ce: npt.NDArray[np.float32]
    prompt_ids: npt.NDArray[np.uint32] | None = None
    has_teacher: npt.NDArray[np.bool_] | None = None

    @property
    def num_tokens(self) -> int:
        """Number of rows T, including the end token if there is one."""
        return int(self.token_ids.shape[0])

    @property
    def nll(self) -> float:
        """Σ ce over the response, nats, summed in float64."""
        return float(self.ce.sum(dtype=np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class SignalBatch:
    """Several samples end to end: S samples, N = Σ T rows; sample s owns rows `offsets[s]:offsets[s + 1]`.

    The arrays are as in `SampleSignals`, concatenated; `prompt_offsets` int64[S + 1] cuts `prompt_ids`.
    """

    ids: tuple[str, ...]
    offsets: npt.NDArray[np.int64]
    token_ids: npt.NDArray[np.uint32]
    topk_ids: npt.NDArray[np.uint32]
    topk_logprobs: npt.NDArray[np.float16]
    tail: npt.NDArray[np.float16]
    ce: npt.NDArray[np.float32]
    prompt_offsets: npt.NDArray[np.int64] | None = None
    prompt_ids: npt.NDArray[np.uint32] | None = None
    has_teacher: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """Identity of a store's inputs; only stores with equal specs may be mixed.

    Attributes:
        source: Name of the source (an aligned store may name several, as its writer decides).
        model_digest: `ResolvedSource.digest`.
        tokenizer_digest: Digest of the tokenizer whose tokens the store holds.
        template_digest: sha256 of the chat template.
        corpus_digest: sha256 of the corpus (or of the responses) that was scored.
        top_k: K; 0 keeps cross-entropies only.
        vocab_size: Ids are below it; up to 65,536 they are stored in 2 bytes, above in 4.
        kind: Text that was scored, or `aligned` for rows in the target's tokens.
    """

    source: str
    model_digest: str
    tokenizer_digest: str
    template_digest: str
    corpus_digest: str
    top_k: int
    vocab_size: int
    kind: SignalKind

    def __post_init__(self) -> None:
        if self.kind not in get_args(SignalKind):
            raise SignalError(f"`kind` of a signal store must be one of {list(get_args(SignalKind))}, but is {self.kind!r}.")
        if self.top_k < 0 or self.vocab_size < 1:
            raise SignalError(
                f"`top_k` must be at least 0 and `vocab_size` at least 1, but they are {self.top_k} and {self.vocab_size}."
            )

    @property
    def id_dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """How ids are stored."""
        return np.dtype("<u2") if self.vocab_size <= 65_536 else np.dtype("<u4")

    def to_json(self) -> str:
        """Return canonical JSON: the same spec gives the same text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "SignalSpec":
        """Parse `to_json` output.

        Raises:
            SignalError: It is not a JSON object, or its fields are not the ones of this version.
        """
        try:
            row = json.loads(text)
        except ValueError as err:
            raise SignalError(f"The spec of a signal store must be JSON, but cannot be parsed ({err}).") from err
        names = {f.name for f in fields(cls)}
        if not isinstance(row, dict) or set(row) != names:
            seen = sorted(row) if isinstance(row, dict) else row
            raise SignalError(f"The spec of a signal store must have the fields {sorted(names)}, but has {seen}.")
        return cls(**row)

    def require(self, expect: Mapping[str, object], *, where: str) -> None:
        """Compare fields with expected values.

        Raises:
            SignalError: Names the field, the stored and the expected value.
        """
        known = asdict(self)
        for name, value in expect.items():
            if name not in known:
                raise SignalError(f"`{name}` is not a field of a signal store ({sorted(known)}); asked for at `{where}`.")
            if known[name] != value:
                raise SignalError(
                    f"`{name}` of the signal store `{where}` must be {value!r}, but is {known[name]!r} (source `{self.source}`). "
                    "The signals belong to other inputs: run `teach` again for these."
                )
