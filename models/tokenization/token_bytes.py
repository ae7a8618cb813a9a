"""Bytes of vocabulary entries, and byte offsets of the tokens of a text."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from models.tokenization.loading import components

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = {"byte_level": "Ġ", "none": ""}


@dataclass(frozen=True, slots=True)
class Alphabet:
    """How a vocabulary spells bytes.

    Attributes:
        byte_level: Each character stands for one byte (GPT-2's alphabet).
        byte_pieces: `<0x0A>` stands for the byte 0x0A (SentencePiece's byte fallback).
        blank: Character that stands for a space (`▁`), or None.
        continuation: Prefix of a piece inside a word (`##` of WordPiece), or empty.
    """

    byte_level: bool
    byte_pieces: bool
    blank: str | None
    continuation: str

    @property
    def word_start(self) -> str:
        """The character at the start of a word's piece: `▁`, `Ġ` or empty."""
        return self.blank or _WORD_START["byte_level" if self.byte_level else "none"]

    def spell(self, piece: str) -> bytes:
        """Return the bytes of an ordinary piece."""
        match = _BYTE_PIECE.fullmatch(piece) if self.byte_pieces else None
        if match:
            return bytes([int(match[1], 16)])
        if self.byte_level:
            table = _byte_alphabet()
            if all(c in table for c in piece):
                return bytes(table[c] for c in piece)
        if self.blank:
            piece = piece.replace(self.blank, " ")
        return piece.removeprefix(self.continuation).encode()


def read_alphabet(spec: Mapping[str, Any]) -> Alphabet:
    """Read from a tokenizer's JSON how its vocabulary spells bytes."""
    decoders = list(components(spec, "decoder"))
    kinds = {c["type"] for c in decoders} | {c["type"] for c in components(spec, "pre_tokenizer")}
    kinds |= {c["type"] for c in components(spec, "normalizer")}
    model = spec["model"]
    return Alphabet(
        byte_level="ByteLevel" in kinds,
        byte_pieces="ByteFallback" in kinds or bool(model.get("byte_fallback")),
        blank=_blank([*decoders, *components(spec, "pre_tokenizer")]),
        continuation=(model.get("continuing_subword_prefix") or "") if model["type"] == "WordPiece" else "",
    )


def piece_bytes(spec: Mapping[str, Any], pieces: list[str | None]) -> list[bytes | None]:
    """Return the bytes of each piece; None for special tokens, the unknown token and unused ids.

    A byte piece counts as bytes even if the tokenizer marks it as special, as some conversions from SentencePiece do.
    """
    alphabet = read_alphabet(spec)
    added: dict[int, dict[str, Any]] = {a["id"]: a for a in spec["added_tokens"]}
    unknown = _unknown_piece(spec["model"])
    return [_bytes_of(i, piece, alphabet, added, unknown) for i, piece in enumerate(pieces)]


def _bytes_of(
    index: int, piece: str | None, alphabet: Alphabet, added: Mapping[int, Mapping[str, Any]], unknown: str | None
) -> bytes | None:
    if piece is None or piece == unknown:
        return None
    entry = added.get(index)
    if entry is None or (alphabet.byte_pieces and _BYTE_PIECE.fullmatch(piece)):
        return alphabet.spell(piece)
    # Added tokens are matched in the raw text: their spelling is the text itself, not the vocabulary's alphabet.
    return None if entry["special"] else piece.encode()


def _blank(parts: list[dict[str, Any]]) -> str | None:
    for part in parts:
        if part["type"] == "Metaspace":
            return str(part["replacement"])
        if part["type"] == "Replace" and part["content"] == " " and "String" in part["pattern"]:
            return str(part["pattern"]["String"])
    return None


def _unknown_piece(model: Mapping[str, Any]) -> str | None:
    if model["type"] == "Unigram":
        index = model.get("unk_id")
        return None if index is None else str(model["vocab"][index][0])
    unknown = model.get("unk_token")
    return None if unknown is None else str(unknown)


@cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other 68 bytes for U+0100 upwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    hidden = (b for b in range(256) if b not in set(printable))
    return table | {chr(0x100 + n): b for n, b in enumerate(hidden)}


Spans = Sequence[tuple[int, int]]


def byte_offsets(text: str) -> npt.NDArray[np.int32]:
    """Return, for each character and the end of the text, the byte of its UTF-8 form where it starts."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)


def token_ends(pieces: Sequence[bytes | None], spans: Spans, text: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Locate the end of each token in the text it came from, and find tokens that do not reproduce it.

    Token t stands for the bytes from the end of token t-1 to its own end. It is lossy when its own bytes differ from those:
    an unknown token, a changed character, or a token after dropped blanks (text dropped after a lossy token belongs to it).

    Args:
        pieces: Bytes of each token, None for special tokens.
        spans: First and last+1 character of each token, as the tokenizer reports them (tokens that share a character share
            its span).
        text: The text.

    Returns:
        ends int32[T] in bytes of the UTF-8 text, never decreasing, and lossy bool[T].
    """
    data, at = text.encode(), byte_offsets(text)
    starts, limits = at[[s for s, _ in spans]].tolist(), at[[e for _, e in spans]].tolist()
    ends: list[int] = []
    lossy: list[bool] = []
    here = 0
    for t, piece in enumerate(pieces):
        limit = limits[t]
        if piece and lossy and lossy[-1] and data[starts[t] : limit] == piece:
            here = ends[-1] = max(here, starts[t])  # what fell out belongs to the token that went wrong already
        stop = here + len(piece) if piece else -1
        shared = stop < limit and t + 1 < len(limits) and starts[t + 1] < limit
        exact = data[here:stop] == piece and (stop == limit or shared) if piece else False
        here = stop if exact else max(here, limit)
        ends.append(here)
        lossy.append(not exact)
    return np.array(ends, np.int32), np.array(lossy, np.bool_)
