"""Lexical evidence for an entity in a dialogue context (its name, its values, BM25), by inverted lists over the knowledge base.

What a context costs is the lists of the terms it holds, however many entities have none of them.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ANSWERS, short_name
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.errors import RetrievalError
from models.params.retriever import LexicalParams

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

FEATURES = ("name", "name_recent", "value", "value_recent", "bm25")
"""Features of an entity, F = 5: whether its name is in the context, how many other values are, both also by recency; BM25."""
PARTS = {"name": (0, 1), "value": (2, 3), "bm25": (4,)}
"""Evidence as it is reported → its features."""
FILE = "lexical.safetensors"


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """The terms of a context that the knowledge base knows.

    Attributes:
        terms: Their numbers, int64[Q].
        factors: What a term adds to each feature of an entity, times its weight in that entity's list, float32[Q, F].
    """

    terms: Rows
    factors: Floats


@dataclass(frozen=True, slots=True)
class _Lists:
    """Term t is held by `rows[starts[t]:starts[t + 1]]`, rising, each with a weight."""

    starts: Rows
    rows: npt.NDArray[np.int32]
    weights: Floats

    def slice(self, term: int) -> slice:
        return slice(int(self.starts[term]), int(self.starts[term + 1]))

    def at(self, term: int, rows: Rows) -> Floats:
        """Return the weight of a term in each of `rows` [R], 0 where an entity lacks it."""
        part = self.slice(term)
        held = self.rows[part]
        places = np.minimum(np.searchsorted(held, rows), len(held) - 1)
        return np.where(held[places] == rows, self.weights[part][places], np.float32(0))


class LexicalIndex:
    """Names, values and words of a knowledge base of N entities as inverted lists, and the finder of each in a text.

    Names are found as a whole, also without a leading "the", and not within longer names. Values are an entity's distinct ones
    but its name, as whole words. Words are those of all its values.

    Attributes:
        cfg: The section `retriever.lexical`.
        kb_digest: The knowledge base.
    """

    def __init__(
        self, cfg: LexicalParams, *, texts: Sequence[Sequence[str]], numbers: Sequence[int], lists: _Lists, num: int, kb: str
    ) -> None:
        """Take the parts; use `build` or `load`.

        Args:
            cfg: Settings.
            texts: Names, values and words.
            numbers: Term number of each name; those of values and words follow, one by one.
            lists: The inverted lists.
            num: N.
            kb: Digest of the knowledge base.
        """
        self.cfg, self.kb_digest = cfg, kb
        self._texts, self._numbers, self._lists, self._num = texts, numbers, lists, num
        self._names, self._values = ValueFinder(), ValueFinder()
        for name, number in zip(texts[0], numbers, strict=True):
            self._names.add(name, number)
        first = max(numbers, default=-1) + 1
        for place, value in enumerate(texts[1]):
            self._values.add(value, first + place)
        first += len(texts[1])
        self._words = {word: first + place for place, word in enumerate(texts[2])}

    def __len__(self) -> int:
        """Return the number of entities N."""
        return self._num

    @classmethod
    def build(cls, kb: KnowledgeBase, cfg: LexicalParams) -> "LexicalIndex":
        """Index a knowledge base: 8 bytes for each name, value and distinct word of an entity, and the distinct texts."""
        names, values, words = _Field(), _Field(), _Field()
        lengths = array("q")
        for row, entity in enumerate(kb.entities):
            attributes = entity.attributes
            chosen = attributes if cfg.attributes is None else [a for a in cfg.attributes if a in attributes]
            texts = [matchable(attributes[a]) for a in chosen]
            name = matchable(entity.name)
            names.add(row, {name: 1.0} if name not in ANSWERS else {})
            values.add(row, dict.fromkeys(sorted({*texts} - {name, *ANSWERS}), 1.0))
            counts = Counter(word for text in texts for word in text.split())
            words.add(row, counts)
            lengths.append(counts.total())
        known = list(names.texts)
        short = {text: i for i, name in enumerate(known) if (text := short_name(name)) and text not in names.texts}
        lists = _joined([names.lists(), values.lists(), _saturated(words.lists(), np.array(lengths), cfg)])
        numbers = [*range(len(known)), *short.values()]
        given = [[*known, *short], list(values.texts), list(words.texts)]
        return cls(cfg, texts=given, numbers=numbers, lists=lists, num=len(kb), kb=kb.digest)

    def query(self, context: Sequence[str]) -> LexicalQuery:
        """Find the terms of a context (utterances, oldest first); what spans two utterances does not count."""
        mentioned: dict[int, list[float]] = {}
        counts: Counter[int] = Counter()
        for age, utterance in zip(reversed(range(len(context))), context, strict=True):
            text, recent = matchable(utterance), self.cfg.recency**age
            for *_, name in self._names.longest_spans(text):
                mentioned[name] = [1.0, recent, 0.0, 0.0, 0.0]
            for *_, value in self._values.spans(text):
                mentioned[value] = [0.0, 0.0, 1.0, recent, 0.0]
            counts.update(self._words[word] for word in text.split() if word in self._words)
        factors = [*mentioned.values(), *([0.0, 0.0, 0.0, 0.0, float(count)] for count in counts.values())]
        terms = np.array([*mentioned, *counts], dtype=np.int64)
        return LexicalQuery(terms, np.array(factors, dtype=np.float32).reshape(-1, len(FEATURES)))

    def features(self, query: LexicalQuery, rows: Rows) -> Floats:
        """Return the features of some entities, float32[R, F]; 0 where the row is −1."""
        found = np.zeros((len(rows), len(FEATURES)), dtype=np.float32)
        for term, factors in zip(query.terms.tolist(), query.factors, strict=True):
            found += self._lists.at(term, rows)[:, None] * factors
        return found

    def best(self, query: LexicalQuery, weights: Floats, num: int) -> Rows:
        """Return the `num` entities with the highest Σ_f w_f x_f above 0, and behind them all that tie with the last of them.

        Args:
            query: The terms.
            weights: float32[F].
            num: How many are wanted.
        """
        parts = [self._lists.slice(term) for term in query.terms.tolist()]
        rows = np.concatenate([self._lists.rows[part] for part in parts] or [np.empty(0, dtype=np.int32)])
        gains = [self._lists.weights[part] * gain for part, gain in zip(parts, query.factors @ weights, strict=True)]
        gain = np.concatenate(gains or [np.empty(0, dtype=np.float32)])
        if len(rows) < self._num // _SPARSE:
            held, rows = np.unique(rows, return_inverse=True)
        else:
            held = np.arange(self._num)
        scores = np.bincount(rows, weights=gain, minlength=len(held)).astype(np.float32)
        held, scores = held[scores > 0].astype(np.int64), scores[scores > 0]
        if len(held) <= num:
            return held
        last = -np.partition(-scores, num - 1)[num - 1]
        return np.concatenate([held[scores > last], held[scores == last]])

    def save(self, folder: Path) -> None:
        """Write `lexical.safetensors` (arrays, texts as UTF-8 lines, and a digest over all of it)."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "starts": self._lists.starts,
            "rows": self._lists.rows,
            "weights": self._lists.weights,
            "numbers": np.array(self._numbers, dtype=np.int64),
            **{f"texts{i}": np.frombuffer("\n".join(texts).encode(), np.uint8) for i, texts in enumerate(self._texts)},
        }
        header = {"kb": self.kb_digest, "cfg": self.cfg.model_dump_json(), "num": str(self._num), "sha256": _digest(tensors)}
        # One entry: safetensors writes several in any order, and equal indexes are to be equal bytes.
        save_file(tensors, str(folder / FILE), metadata={"index": json.dumps(header)})

    @classmethod
    def load(cls, folder: Path, *, expect_kb: str) -> "LexicalIndex":
        """Read what `save` wrote.

        Raises:
            RetrievalError: It is missing, damaged, or of another knowledge base.
        """
        path = folder / FILE
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["index"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            cfg = LexicalParams.model_validate_json(header["cfg"])
            joined = [tensors[f"texts{i}"].tobytes().decode() for i in range(3)]
            texts = [text.split("\n") if text else [] for text in joined]
            num, kb, whole = int(header["num"]), header["kb"], header["sha256"] == _digest(tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as err:
            raise RetrievalError(
                f"`{path}` must hold the inverted lists of an index, but cannot be read ({err!r}). {_AGAIN}"
            ) from err
        if not whole:
            raise RetrievalError(f"`{path}` was altered after it was written. {_AGAIN}")
        if kb != expect_kb:
            raise RetrievalError(f"`{path}` must be of knowledge base `{expect_kb[:16]}…`, but is of `{kb[:16]}…`. {_AGAIN}")
        lists = _Lists(tensors["starts"], tensors["rows"], tensors["weights"])
        return cls(cfg, texts=texts, numbers=tensors["numbers"].tolist(), lists=lists, num=num, kb=kb)


def lexical_features(index: LexicalIndex, contexts: Sequence[Sequence[str]], rows: Rows) -> Floats:
    """Return the features of `rows` [B, W] in each context, float32[B, W, F]; 0 where the row is −1."""
    found = [index.features(index.query(context), line) for context, line in zip(contexts, rows, strict=True)]
    return np.stack(found) if found else np.empty((*rows.shape, len(FEATURES)), dtype=np.float32)


_AGAIN = "Build the index again."
# Up to this share of the entities, sorting the rows found is quicker than a table of all entities.
_SPARSE = 16


class _Field:
    """The terms of one kind, and which rows hold them how often."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self._rows, self._terms, self._counts = array("i"), array("q"), array("f")

    def add(self, row: int, counts: "dict[str, float] | Counter[str]") -> None:
        for text, count in counts.items():
            if text:
                self._rows.append(row)
                self._terms.append(self.texts.setdefault(text, len(self.texts)))
                self._counts.append(count)

    def lists(self) -> _Lists:
        terms = np.array(self._terms, dtype=np.int64)
        order = np.argsort(terms, kind="stable")
        starts = np.searchsorted(terms[order], np.arange(len(self.texts) + 1))
        rows, counts = np.array(self._rows, dtype=np.int32), np.array(self._counts, dtype=np.float32)
        return _Lists(starts, rows[order], counts[order])


def _saturated(lists: _Lists, lengths: Rows, cfg: LexicalParams) -> _Lists:
    """Make BM25 weights of word counts, given the words of each entity: idf · tf / (tf + k1 · (1 − b + b · length / mean))."""
    df = np.diff(lists.starts)
    idf = np.log((len(lengths) - df + 0.5) / (df + 0.5) + 1)
    relative = lengths[lists.rows] / max(float(lengths.mean()) if len(lengths) else 0.0, 1e-9)
    tf = lists.weights.astype(np.float64)
    weights = np.repeat(idf, df) * tf / (tf + cfg.k1 * (1 - cfg.b + cfg.b * relative))
    return _Lists(lists.starts, lists.rows, weights.astype(np.float32))


def _joined(parts: Iterable[_Lists]) -> _Lists:
    """Number the terms of all parts through."""
    parts = list(parts)
    before = np.cumsum([0, *(len(part.rows) for part in parts)])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, before, strict=False)]
    rows, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "weights"))
    return _Lists(np.concatenate([*starts, before[-1:]]).astype(np.int64), rows, weights)


def _digest(tensors: dict[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array_ in sorted(tensors.items()):
        digest.update(json.dumps([name, str(array_.dtype), list(array_.shape)]).encode())
        digest.update(np.ascontiguousarray(array_).tobytes())
    return digest.hexdigest()
