"""Token alignment with the real Llama-2 and GPT-NeoX tokenizers on real answers; needs data/external.

`end to end` is tokenising both sides and aligning; `alone` has ids and offsets given; `with the top-k` is the pipeline's step:
tokenise the target's side, place the stored tokens of the source's, align, rename and merge the distributions.
"""

import statistics
from collections.abc import Sequence

from benchmarks.aligned_samples import PLAIN, align_items, make_items
from benchmarks.memory import peak_megabytes
from benchmarks.peer_alignment import peer_rows
from benchmarks.real_texts import LLAMA2, NEOX, codec, missing, texts_of
from benchmarks.timing import cpu_seconds
from models.fusion.alignment.target_signals import build_vocab_map
from models.params.alignment import AlignmentParams
from models.reporting.results import ResultRow
from models.tokenization.alignment import align_starts
from models.tokenization.codec import EncodedText, TokenCodec

LENGTHS, TOKENS, ROUNDS = (256, 1024, 2048, 8192), 65_536, 4


def measure() -> list[ResultRow]:
    if missing():
        return []
    target, source = codec(LLAMA2), codec(NEOX)
    texts = {length: texts_of(length, target, num_texts=TOKENS // length) for length in LENGTHS}
    for batch in texts.values():
        _check(target.encode_responses(batch), source.encode_responses(batch))
    # The lengths take turns, so that a drifting machine does not look like a slope.
    rounds = [[_speeds(texts[length], target, source) for length in LENGTHS] for _ in range(ROUNDS + 1)][1:]
    by_length = {length: [speeds[i] for speeds in rounds] for i, length in enumerate(LENGTHS)}
    return [*_end_to_end(by_length), *_alone(by_length), _whole_step(texts[256]), *peer_rows(target, source)]


def _check(target: Sequence[EncodedText], source: Sequence[EncodedText]) -> None:
    """Compare with one row after the other: the last source row that starts at the same byte."""
    for ours, theirs in zip(target, source, strict=True):
        at = {start: row for row, start in enumerate(theirs.starts.tolist())}
        if align_starts(ours, theirs).tolist() != [at.get(start, -1) for start in ours.starts.tolist()]:
            raise SystemExit("alignment by bytes differs from the row-by-row search")


def _speeds(texts: list[str], target: TokenCodec, source: TokenCodec) -> tuple[float, float, float]:
    """Return target tokens a second: end to end, alignment alone, and both tokenizers alone (ids only)."""
    sides: list[list[EncodedText]] = []
    encode = cpu_seconds(lambda: sides.extend((target.encode_responses(texts), source.encode_responses(texts))))
    align = cpu_seconds(lambda: [align_starts(ours, theirs) for ours, theirs in zip(*sides, strict=True)])
    bare = cpu_seconds(lambda: (target.encode_ids(texts), source.encode_ids(texts)))
    num = sum(len(text.ids) for text in sides[0])
    return num / (encode + align), num / align, num / bare


def _end_to_end(by_length: dict[int, list[tuple[float, float, float]]]) -> list[ResultRow]:
    rows = []
    for length, speeds in by_length.items():
        whole = [speed[0] for speed in speeds]
        more = {"target": ">= 200,000", "tokenizers_alone": statistics.median(s[2] for s in speeds)}
        name = f"alignment end to end, {length:,} target tokens a text"
        value = statistics.median(whole)
        rows.append(ResultRow(name, value, "tokens/s", low=min(whole), high=max(whole), num=len(whole), more=more))
    slope, bare = (_slope(by_length, column) for column in (0, 2))
    more = {"target": "flat", "tokenizers_alone": bare, "limit": "the tokenizers, which slow down as much by themselves"}
    return [*rows, ResultRow(f"alignment end to end, {LENGTHS[-1]:,} over {LENGTHS[0]} tokens a text", slope, "ratio", more=more)]


def _slope(by_length: dict[int, list[tuple[float, float, float]]], column: int) -> float:
    """Return the speed at the greatest length over that at the least, round by round."""
    return statistics.median(
        last[column] / first[column] for first, last in zip(by_length[LENGTHS[0]], by_length[LENGTHS[-1]], strict=True)
    )


def _alone(by_length: dict[int, list[tuple[float, float, float]]]) -> list[ResultRow]:
    return [
        ResultRow(
            f"alignment alone, {length:,} target tokens a text",
            statistics.median(speed[1] for speed in speeds),
            "tokens/s",
            num=len(speeds),
            more={"target": ">= 4,000,000"},
        )
        for length, speeds in by_length.items()
    ]


def _whole_step(texts: list[str]) -> ResultRow:
    target, source = codec(LLAMA2), codec(NEOX)
    cfg = AlignmentParams()
    items, vocab_map = make_items(texts, source), build_vocab_map(source, target, cfg)
    seconds = [cpu_seconds(lambda: align_items(items, target, source, vocab_map, cfg)) for _ in range(ROUNDS + 1)][1:]
    covered = align_items(items, target, source, vocab_map, cfg).coverage[PLAIN]
    peak = peak_megabytes(lambda: align_items(items[:32], target, source, vocab_map, cfg))
    more = {"aligned": covered.num_aligned / covered.num_positions, "peak_mb": peak, "peak_of": "32 texts"}
    value = covered.num_positions / statistics.median(seconds)
    return ResultRow("alignment with the top-k (K = 10), 256 target tokens a text", value, "tokens/s", num=ROUNDS, more=more)
