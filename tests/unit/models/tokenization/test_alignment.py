"""Which source row teaches which target row: by hand, on lossy texts, and the ancestors' way."""

import numpy as np
import pytest

from models.errors import AlignmentError
from models.tokenization.alignment import Coverage, align_min_edit, align_starts, lossy_rows
from models.tokenization.codec import EncodedText
from models.tokenization.vocab_map import min_edit_distance_map


def text(ends: list[int], *, lossy: tuple[int, ...] = (), num_bytes: int | None = None, lead: int = 0) -> EncodedText:
    marks = np.isin(np.arange(len(ends)), lossy)
    size = (ends[-1] if ends else 0) if num_bytes is None else num_bytes
    return EncodedText(np.arange(len(ends), dtype=np.int32), np.array(ends, np.int32), marks, size, lead)


@pytest.mark.parametrize(
    ("target", "source", "rows"),
    [
        # starts of the target 0 2 5 6 and the end 9; starts of the source 0 5 7 and the end 9
        (text([2, 5, 6, 9]), text([5, 7, 9]), [0, -1, 1, -1, 3]),
        (text([5, 7, 9]), text([2, 5, 6, 9]), [0, 2, -1, 4]),
        (text([1, 2, 3]), text([1, 2, 3]), [0, 1, 2, 3]),
        (text([]), text([]), [0]),
        # a token without bytes predicts nothing: the row behind it is the one
        (text([2, 4]), text([2, 2, 4]), [0, 2, 3]),
        # a lossy source token: its own start and what lies within are not taught, what follows is
        (text([1, 2, 3, 4]), text([1, 3, 4], lossy=(1,)), [0, -1, -1, 2, 3]),
        # a lossy target token
        (text([1, 3, 4], lossy=(1,)), text([1, 2, 3, 4]), [0, -1, 3, 4]),
        # the source drops the end of the text: its end row stands too early
        (text([2, 3, 4]), text([2, 3], num_bytes=4), [0, 1, -1, -1]),
        (text([2, 3], num_bytes=4), text([2, 3, 4]), [0, 1, -1]),
        # a source without any tokens left
        (text([2]), text([], num_bytes=2), [-1, -1]),
        # the template's blank: the first tokens stand for different bytes, unless both have it
        (text([5, 9], lead=1), text([5, 9]), [-1, 1, 2]),
        (text([5, 9], lead=1), text([3, 5, 9], lead=1), [0, 2, 3]),
        # a lead of its own token
        (text([0, 5], lead=1), text([5]), [-1, 0, 1]),
    ],
)
def test_align_starts(target: EncodedText, source: EncodedText, rows: list[int]) -> None:
    got = align_starts(target, source)
    assert got.tolist() == rows and got.dtype == np.int32


def test_different_texts_are_refused() -> None:
    with pytest.raises(AlignmentError, match="one has 3 bytes and the other 4"):
        align_starts(text([3]), text([4]))


def test_lossy_rows_of_lossless_texts() -> None:
    assert lossy_rows(text([1, 2]), text([2])).tolist() == [False, False, False]


def test_real_tokenizers_agree_at_every_aligned_byte(real) -> None:
    texts = ["Hello world, 東京 café 👩‍👩‍👧\n\n\tdef f(x):\r\n    return  x", "1234 </s> end"]
    names = ["llama2", "mpt_neox20b", "gpt2", "qa_llama", "babyllama105", "t5"]
    for a in names:
        for b in names:
            pairs = zip(real(a).encode_responses(texts), real(b).encode_responses(texts), strict=True)
            for target, source in pairs:
                rows = align_starts(target, source)
                at = np.flatnonzero(rows >= 0)
                assert (target.starts[at] == source.starts[rows[at]]).all()
                if target.lossless and source.lossless:
                    both = np.isin(target.starts, source.starts)
                    assert (both == (rows >= 0)).all() and rows[-1] == len(source.ids)
                if a == b and target.lossless:
                    assert rows.tolist() == list(range(len(rows)))


def by_strings(target, source, target_codec, source_codec, table: dict[str, str]) -> list[int]:
    """The ancestors' acceptance, token by token, with their loops; rows shifted to predict the token itself."""
    from rapidfuzz.distance import Levenshtein

    theirs = [source_codec.pieces[i] for i in source.ids]
    ours = [target_codec.pieces[i] for i in target.ids]
    n, m = len(theirs), len(ours)
    cost = [
        [Levenshtein.distance(a.replace(source_codec.word_start, ""), b.replace(target_codec.word_start, "")) for b in ours]
        for a in theirs
    ]
    d = np.full((n + 1, m + 1), np.inf)
    d[0, 0] = 0
    for i in range(n):
        for j in range(m):
            d[i + 1, j + 1] = cost[i][j] + min(d[i, j + 1], d[i + 1, j], d[i, j])
    d, i, j = d[1:, 1:], n - 1, m - 1
    partners: list[list[int]] = [[] for _ in ours]
    while True:
        partners[j].append(i)
        if i == j == 0:
            break
        options = [d[i - 1, j - 1] if i and j else np.inf, d[i - 1, j] if i else np.inf, d[i, j - 1] if j else np.inf]
        move = int(np.argmin(options))
        i, j = i - (move != 2), j - (move != 1)
    rows = [0] + [-1] * m
    for j, found in enumerate(partners):
        if len(found) == 1:
            name = theirs[found[0]].replace(source_codec.word_start, target_codec.word_start)
            if ours[j] in (name, table.get(name)):
                rows[j + 1] = found[0] + 1
    return rows


def test_min_edit_distance_as_the_ancestors_do_it(real) -> None:
    target_codec, source_codec = real("qa_llama"), real("math_mpt")
    vocab_map = min_edit_distance_map(source_codec, target_codec)
    table = {piece.replace("Ġ", "▁"): target_codec.pieces[i] for piece, i in zip(source_codec.pieces, vocab_map.ids, strict=True)}
    texts = [
        "James writes a 3-page letter to 2 different friends twice a week.\n#### 624",
        "def add(a, b):\n    return a + b",
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.",
        "東京 is big",
    ]
    accepted = 0
    for t, s in zip(target_codec.encode_responses(texts), source_codec.encode_responses(texts), strict=True):
        rows = align_min_edit(t, s, target_codec=target_codec, source_codec=source_codec, vocab_map=vocab_map)
        assert rows.tolist() == by_strings(t, s, target_codec, source_codec, table)
        accepted += int((rows >= 0).sum())
    assert accepted > 30


def test_min_edit_distance_of_equal_tokens_is_the_identity(real) -> None:
    codec = real("llama2")
    (one,) = codec.encode_responses(["The cat sat on the mat, and the dog did not."])
    rows = align_min_edit(one, one, target_codec=codec, source_codec=codec)
    assert rows.tolist() == list(range(len(one.ids) + 1))
    (empty,) = codec.encode_responses([""])
    assert align_min_edit(empty, empty, target_codec=codec, source_codec=codec).tolist() == [0]


def test_coverage_adds_up() -> None:
    total = Coverage(10, 7, 1, 0, 1) + Coverage(5, 5, 0, 2, 2)
    assert total.as_dict() == {"num_positions": 15, "num_aligned": 12, "num_lossy": 1, "num_fallback": 2, "num_cut": 3}
    assert Coverage() + total == total
