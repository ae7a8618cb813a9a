"""The map from GPT-NeoX's vocabulary (50,277) to Llama-2's (32,000), by bytes and as MinED, against brute force on a sample."""

import statistics
from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from benchmarks.memory import peak_megabytes
from benchmarks.real_texts import LLAMA2, NEOX, codec, missing
from benchmarks.timing import cpu_seconds
from models.reporting.results import ResultRow
from models.tokenization.codec import TokenCodec
from models.tokenization.vocab_map import UNMAPPED, VocabMap, byte_vocab_map, min_edit_distance_map

SAMPLE_BYTES, SAMPLE_MINED = 400, 60


def measure() -> list[ResultRow]:
    if missing():
        return []
    source, target = codec(NEOX), codec(LLAMA2)
    by_bytes = _row("by bytes", byte_vocab_map, _best_by_bytes, source, target, sample=SAMPLE_BYTES, rounds=5, goal="<= 3 s")
    mined = _row(
        "as MinED", min_edit_distance_map, _best_by_string, source, target, sample=SAMPLE_MINED, rounds=1, goal="<= 20 s"
    )
    return [by_bytes, mined]


def _row(
    what: str,
    build: Callable[[TokenCodec, TokenCodec], VocabMap],
    best: Callable[[int, TokenCodec, TokenCodec], int],
    source: TokenCodec,
    target: TokenCodec,
    *,
    sample: int,
    rounds: int,
    goal: str,
) -> ResultRow:
    maps: list[VocabMap] = []
    seconds = [cpu_seconds(lambda: maps.append(build(source, target))) for _ in range(rounds)]
    made = maps[-1]
    inexact = np.flatnonzero(~made.exact & (np.array([bool(b) for b in source.token_bytes])))
    exact = np.flatnonzero(made.exact)
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(kind, sample // 2, replace=False) for kind in (inexact, exact)]).tolist()
    found: list[int] = []
    brute = cpu_seconds(lambda: found.extend(best(i, source, target) for i in chosen))
    _compare(what, chosen, made, found, source)
    more = {
        "ours_s": statistics.median(seconds),
        "peer_s": brute / len(chosen) * source.vocab_size,
        "peer": f"brute force, {len(chosen)} tokens scaled up; the ancestors' took 41 core-minutes",
        "peak_mb": peak_megabytes(lambda: build(source, target)),
        "exact": float(made.exact.mean()),
        "target": goal,
    }
    name = f"vocabulary map {source.vocab_size:,} → {target.vocab_size:,} {what}"
    return ResultRow(name, statistics.median(seconds), "s", low=min(seconds), high=max(seconds), num=rounds, more=more)


def _compare(what: str, chosen: Sequence[int], made: VocabMap, found: Sequence[int], source: TokenCodec) -> None:
    for i, expected in zip(chosen, found, strict=True):
        if i != source.eos_id and made.ids[i] != expected:
            raise SystemExit(f"the map {what} sends {source.pieces[i]!r} to {made.ids[i]}, but brute force to {expected}")


def _best_by_string(index: int, source: TokenCodec, target: TokenCodec) -> int:
    """Return the first target token at the least edit distance, comparing with all of them."""
    name = source.pieces[index].replace(source.word_start, target.word_start)
    distances = [Levenshtein.distance(name, piece) if piece else np.inf for piece in target.pieces]
    return int(np.argmin(distances))


def _best_by_bytes(index: int, source: TokenCodec, target: TokenCodec) -> int:
    """Return the target token with the same bytes or, tried on its own, the first piece the target cuts from these bytes."""
    data = source.token_bytes[index]
    same = [i for i, other in enumerate(target.token_bytes) if other == data]
    if same:
        return _prefer(same, source.pieces[index], data, target)
    try:
        first = target.encode_ids([data.decode()])[0][0]
        if data.startswith(target.token_bytes[first] or b"\0"):
            return first
    except UnicodeDecodeError:
        pass
    begins = [i for i, other in enumerate(target.token_bytes) if other and data.startswith(other)]
    longest = max((len(target.token_bytes[i]) for i in begins), default=0)
    begins = [i for i in begins if len(target.token_bytes[i]) == longest]
    return _prefer(begins, "", data[:longest], target) if begins else UNMAPPED


def _prefer(ids: Sequence[int], piece: str, data: bytes, target: TokenCodec) -> int:
    """Of tokens with equal bytes: the one spelled the same, else the tokenizer's own choice, else the lowest."""
    spelled = [i for i in ids if target.pieces[i] == piece]
    if spelled or len(ids) == 1:
        return (spelled or ids)[0]
    try:
        own = target.encode_ids([data.decode()])[0]
    except UnicodeDecodeError:
        return ids[0]
    return own[0] if len(own) == 1 and own[0] in ids else ids[0]
