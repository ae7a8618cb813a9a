"""How vocabularies spell bytes."""

import pytest

from models.tokenization.token_bytes import Alphabet, byte_offsets, piece_bytes, read_alphabet, token_ends


def test_byte_level_alphabet_is_a_bijection() -> None:
    alphabet = Alphabet(byte_level=True, byte_pieces=False, blank=None, continuation="")
    assert alphabet.word_start == "Ġ"
    assert alphabet.spell("ĠcafÃ©Ċ") == " café\n".encode()
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelled = sorted(alphabet.spell(chr(c))[0] for c in [*printable, *range(0x100, 0x144)])
    assert spelled == list(range(256))


def test_sentencepiece_spelling() -> None:
    alphabet = Alphabet(byte_level=False, byte_pieces=True, blank="▁", continuation="")
    assert alphabet.word_start == "▁"
    assert [alphabet.spell(p) for p in ("▁a", "▁▁", "<0x0A>", "<0xe6>", "<0x0A>x", "é")] == [
        b" a",
        b"  ",
        b"\n",
        b"\xe6",
        b"<0x0A>x",
        b"\xc3\xa9",
    ]


def test_special_unknown_and_added_tokens() -> None:
    spec = {
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True},
        "normalizer": None,
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]},
        "added_tokens": [
            {"id": 1, "special": True},
            {"id": 2, "special": True},
            {"id": 4, "special": False},
        ],
    }
    pieces = ["<unk>", "<s>", "<0x0A>", "▁x", "▁y", None]
    # A byte piece is bytes even if called special; an added token is matched as it is written; a hole is nothing.
    assert piece_bytes(spec, pieces) == [None, None, b"\n", b" x", "▁y".encode(), None]


def test_alphabets_of_real_tokenizers(real) -> None:
    assert real("llama2").word_start == real("t5").word_start == "▁"
    assert real("gpt2").word_start == "Ġ"
    llama, neox = real("llama2"), real("mpt_neox20b")
    assert llama.token_bytes[llama.pieces.index("<0x0A>")] == b"\n"
    assert neox.token_bytes[50254] == b" " * 24  # an added token that is not special
    assert sum(b is None for b in llama.token_bytes) == 3


def test_wordpiece_prefix() -> None:
    spec = {
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "added_tokens": [],
    }
    assert read_alphabet(spec).word_start == ""
    assert piece_bytes(spec, ["[UNK]", "play", "##ing"]) == [None, b"play", b"ing"]


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
    got_ends, got_lossy = token_ends(pieces, spans, text)
    assert (got_ends.tolist(), got_lossy.tolist()) == (ends, [bool(x) for x in lossy])
