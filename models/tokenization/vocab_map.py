"""Vocabulary maps: the target token that receives the probability of each source token."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from models.errors import ArtifactError
from models.files import write_atomic
from models.tokenization.codec import TokenCodec
from models.tokenization.edit_distance import nearest_strings

UNMAPPED = -1


@dataclass(frozen=True, slots=True)
class VocabMap:
    """A map from a source's vocabulary to the target's.

    Attributes:
        ids: int32[V_source], id of the target's token, or -1.
        exact: bool[V_source], whether both tokens are the same (bytes or string, by the kind of map).
    """

    ids: npt.NDArray[np.int32]
    exact: npt.NDArray[np.bool_]

    def save(self, path: Path) -> None:
        """Write the map as safetensors, atomically."""
        write_atomic(path, save({"ids": self.ids, "exact": self.exact}))

    @classmethod
    def load(cls, path: Path) -> "VocabMap":
        """Read a map that `save` wrote.

        Raises:
            ArtifactError: The file is missing, truncated, or something else.
        """
        try:
            tensors = load_file(path)
            return cls(tensors["ids"], tensors["exact"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ArtifactError(
                f"`{path}` must be a vocabulary map, but cannot be read: {error}. Delete it and rerun."
            ) from error

    def summary(self) -> dict[str, int]:
        """Return how many source tokens there are, and are mapped exactly, approximately, not at all."""
        mapped = self.ids != UNMAPPED
        return {
            "num_source": len(self.ids),
            "num_exact": int(self.exact.sum()),
            "num_approximate": int((mapped & ~self.exact).sum()),
            "num_unmapped": int((~mapped).sum()),
        }


def byte_vocab_map(source: TokenCodec, target: TokenCodec) -> VocabMap:
    """Map tokens by their bytes.

    A source token maps to the target token with equal bytes; among several, to the one spelled the same in the vocabulary,
    else to the one that the target's tokenizer produces from these bytes, else to the lowest id. If there is none, it maps to
    the first piece into which the target's tokenizer splits its bytes, because the target would have to predict that piece
    first; incomplete UTF-8 maps to the longest token that is a prefix of it. Tokens that end a turn map to the target's end
    of turn (`TurnEnd`); other special tokens are unmapped.
    """
    table = _tokens_by_bytes(target)
    spelled = {piece: i for i, piece in enumerate(target.pieces)}
    ids = np.full(source.vocab_size, UNMAPPED, np.int32)
    pending: dict[int, bytes] = {}
    for i, data in enumerate(source.token_bytes):
        if not data:
            continue
        twin = spelled.get(source.pieces[i], UNMAPPED)
        ids[i] = twin if twin != UNMAPPED and target.token_bytes[twin] == data else table.get(data, UNMAPPED)
        if ids[i] == UNMAPPED:
            pending[i] = data
    exact = ids != UNMAPPED
    ids[list(pending)] = _first_pieces(list(pending.values()), target, table)
    return _with_ends(VocabMap(ids, exact), source, target)


def min_edit_distance_map(source: TokenCodec, target: TokenCodec) -> VocabMap:
    """Map tokens by the strings of the vocabularies, as FuseLLM's MinED does.

    The source's word-start character is replaced by the target's; then the equal string, else the first target token (lowest
    id) at the smallest edit distance. Special tokens are compared as strings, as in the original, except that tokens that end
    a turn map to the target's end of turn.
    """
    start = source.word_start
    names = [p.replace(start, target.word_start) if start else p for p in source.pieces]
    known: dict[str, int] = {}
    for i, piece in enumerate(target.pieces):
        known.setdefault(piece, i)
    known.pop("", None)
    ids = np.array([known.get(name, UNMAPPED) for name in names], np.int32)
    exact = ids != UNMAPPED
    pending = [i for i in np.flatnonzero(~exact).tolist() if names[i]]
    ids[pending] = nearest_strings([names[i] for i in pending], target.pieces)
    return _with_ends(VocabMap(ids, exact), source, target)


def map_ends(found: VocabMap | None, source: TokenCodec, target: TokenCodec) -> VocabMap | None:
    """Map the source's control tokens that end a turn to the target's label; a None (identity) map stays None if unaffected.

    An ordinary token ends a turn only at the end of an answer, which is handled by alignment
    (`models.fusion.alignment.target_signals`).
    """
    ends = [i for i in source.end.ids if source.is_control(i)]
    if found is None:
        found = VocabMap(np.arange(source.vocab_size, dtype=np.int32), np.ones(source.vocab_size, np.bool_))
        if ends == [target.eos_id]:
            return None
    ids, exact = found.ids.copy(), found.exact.copy()
    ids[ends], exact[ends] = target.eos_id, True
    return VocabMap(ids, exact)


class FirstTokens:
    """Lookup of the first target token of a byte string: the token with exactly these bytes, else their first piece."""

    def __init__(self, target: TokenCodec) -> None:
        """Read the target's vocabulary."""
        self._target, self._table = target, _tokens_by_bytes(target)

    def find(self, needles: list[bytes]) -> npt.NDArray[np.int32]:
        """Return int32[len(needles)], -1 if no token is a prefix."""
        found = np.array([self._table.get(data, UNMAPPED) for data in needles], np.int32)
        rest = np.flatnonzero(found == UNMAPPED)
        found[rest] = _first_pieces([needles[i] for i in rest], self._target, self._table)
        return found


def _with_ends(found: VocabMap, source: TokenCodec, target: TokenCodec) -> VocabMap:
    return map_ends(found, source, target) or found


def _tokens_by_bytes(codec: TokenCodec) -> dict[bytes, int]:
    table: dict[bytes, int] = {}
    doubles: dict[str, bytes] = {}
    for i, data in enumerate(codec.token_bytes):
        if data and table.setdefault(data, i) != i and (text := _as_text(data)) is not None:
            doubles[text] = data
    for data, ids in zip(doubles.values(), codec.encode_ids(list(doubles)), strict=True):
        if len(ids) == 1 and codec.token_bytes[ids[0]] == data:
            table[data] = ids[0]
    return table


def _first_pieces(needles: list[bytes], target: TokenCodec, table: dict[bytes, int]) -> npt.NDArray[np.int32]:
    longest = max(map(len, table), default=0)
    found = np.array([_longest_prefix(data, table, longest) for data in needles], np.int32)
    texts = [(n, text) for n, data in enumerate(needles) if (text := _as_text(data)) is not None]
    for (n, _), ids in zip(texts, target.encode_ids([text for _, text in texts]), strict=True):
        first = target.token_bytes[ids[0]] if ids else None
        if first and needles[n].startswith(first):
            found[n] = ids[0]
    return found


def _longest_prefix(data: bytes, table: dict[bytes, int], longest: int) -> int:
    for size in range(min(len(data), longest), 0, -1):
        if data[:size] in table:
            return table[data[:size]]
    return UNMAPPED


def _as_text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
