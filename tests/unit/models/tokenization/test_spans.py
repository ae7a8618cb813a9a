"""Following tokens through a text that the tokenizer changed."""

import pytest

from models.tokenization.spans import byte_offsets, trace


def test_byte_offsets() -> None:
    assert byte_offsets("aé東👩").tolist() == [0, 1, 3, 6, 10]
    assert byte_offsets("").tolist() == [0]


@pytest.mark.parametrize(
    ("text", "pieces", "spans", "ends", "lossy"),
    [
        ("ab", [b"a", b"b"], [(0, 1), (1, 2)], [1, 2], [0, 0]),
        ("", [], [], [], []),
        # bytes of one character: all report the character's span
        ("é", [b"\xc3", b"\xa9"], [(0, 1), (0, 1)], [1, 2], [0, 0]),
        # a token of a blank and half a character, the next one with the other half
        (" éx", [b" \xc3", b"\xa9x"], [(0, 2), (1, 3)], [2, 4], [0, 0]),
        # an unknown character, and a special token's missing bytes
        ("a\nb", [b"a", None, b"b"], [(0, 1), (1, 2), (2, 3)], [1, 2, 3], [0, 1, 0]),
        # dropped blanks belong to the token behind them …
        ("a  b", [b"a", b" b"], [(0, 1), (2, 4)], [1, 4], [0, 1]),
        # … or to a lossy one in front of them
        ("\n b", [None, b"b"], [(0, 1), (2, 3)], [2, 3], [1, 0]),
        # same bytes at the wrong place: the first of two equal characters was dropped
        ("aa", [b"a"], [(1, 2)], [2], [1]),
        # lower-casing keeps the length and changes the bytes
        ("Ab", [b"a", b"b"], [(0, 1), (1, 2)], [1, 2], [1, 0]),
        # half a character, and then something else
        ("éx", [b"\xc3", b"x"], [(0, 1), (1, 2)], [2, 3], [1, 0]),
    ],
)
def test_trace(text: str, pieces: list, spans: list, ends: list, lossy: list) -> None:
    got_ends, got_lossy = trace(pieces, spans, text)
    assert (got_ends.tolist(), got_lossy.tolist()) == (ends, [bool(x) for x in lossy])
