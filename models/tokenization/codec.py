"""Byte-exact encoding: the tokens of a response, each with the byte offset at which it ends."""

import codecs
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date as Date
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from models.errors import AlignmentError, SourceError
from models.params.sources import DEFAULT_DATE
from models.tokenization.chat import template_turn_end, tokenizer_template
from models.tokenization.loading import Spec, backend_spec, prompt_backend, response_backend, tokenizer_digest
from models.tokenization.token_bytes import piece_bytes, read_alphabet, token_ends
from models.tokenization.turn_end import TurnEnd, Vocabulary, find_turn_end

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """The tokens of a response.

    Attributes:
        ids: int32[T], end token not included.
        ends: int32[T], byte of the text's UTF-8 form where each token ends; never decreasing.
        lossy: bool[T], tokens that do not spell the bytes they stand for.
        num_bytes: UTF-8 bytes of the text.
        lead: Bytes of the template's lead that the first tokens contain before the response (see `encode_responses`).
    """

    ids: Ids
    ends: Ids
    lossy: npt.NDArray[np.bool_]
    num_bytes: int
    lead: int = 0

    @property
    def lossless(self) -> bool:
        """Whether the tokens spell the text byte for byte."""
        return self.reaches_end and not self.lossy.any()

    @property
    def starts(self) -> Ids:
        """int32[T+1]: byte from which each row predicts, the row of the end token last."""
        starts = np.empty(len(self.ends) + 1, np.int32)
        starts[0] = -self.lead
        starts[1:] = self.ends
        return starts

    @property
    def reaches_end(self) -> bool:
        """Whether the last token ends where the text ends (a tokenizer may drop the end of a text)."""
        return (int(self.ends[-1]) if len(self.ends) else -self.lead) == self.num_bytes


def _unfinished(data: bytes) -> int:
    """Return the number of trailing bytes that form an incomplete UTF-8 character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(data[-4:])
    return len(decoder.getstate()[0])


class TokenCodec:
    """A fast tokenizer as a mapping between texts and tokens, with the bytes of each token.

    Attributes:
        tokenizer: The Hugging Face tokenizer.
        vocab_size: V = len(tokenizer); a model's head may be wider.
        end: How a turn ends (`turn_end.find_turn_end`).
        eos_id: `end.label`, the label of the end of an answer; not always the tokenizer's own `eos_token`.
        bos_id, pad_id: Special tokens; `pad_id` is the tokenizer's end token if it has no padding token.
        bos_token, eos_token: The tokenizer's own as text, "" if there is none.
        template_variables: Variables of chat templates: special tokens by name, `date`, and `source` for messages.
        digest: `tokenizer_digest` of the tokenizer.
        pieces: The V entries as the vocabulary writes them ("" for holes).
        token_bytes: Their bytes, None for special tokens.
        byte_lengths: int32[V], 0 for special tokens.
        first_bytes: uint8[V], the first of their bytes, 0 for special tokens.
        word_start: `▁`, `Ġ` or "", the character in front of a word's first piece.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: str,
        chat_template: str | None = None,
        stop_ids: Iterable[int] = (),
        date: Date = DEFAULT_DATE,
    ) -> None:
        """Read the vocabulary.

        Args:
            tokenizer: A fast tokenizer.
            source: Name of the source model, for messages.
            chat_template: The model's chat template; None is the tokenizer's own, if it has one.
            stop_ids: Ids at which the checkpoint's generation config ends an answer.
            date: Today's date as templates see it.

        Raises:
            SourceError: The tokenizer is not a fast one, or has no end token.
        """
        if not tokenizer.is_fast:
            raise SourceError(f"The tokenizer of source `{source}` must be a fast one, but is {type(tokenizer).__name__}.")
        if tokenizer.eos_token_id is None:
            raise SourceError(
                f"The tokenizer of source `{source}` has no end token. Set `eos_token` in its tokenizer_config.json."
            )
        self.source = source
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer)
        self.bos_id: int | None = tokenizer.bos_token_id
        self.pad_id: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.bos_token: str = tokenizer.bos_token or ""
        self.eos_token: str = tokenizer.eos_token
        self.template_variables: dict[str, Any] = {**tokenizer.special_tokens_map, "date": date, "source": source}
        spec = backend_spec(tokenizer)  # seconds where the vocabulary is large
        self.digest = tokenizer_digest(tokenizer, spec=spec)
        self._read_vocabulary(spec)
        self._stop_ids = tuple(stop_ids)
        self._template = chat_template if chat_template is not None else tokenizer_template(tokenizer)
        self.end = self._find_end()

    @property
    def eos_id(self) -> int:
        """Label of the end of an answer."""
        return self.end.label

    def with_template(self, template: str) -> "TokenCodec":
        """Return this codec with the turn end of another chat template."""
        if template == self._template:
            return self
        other = copy.copy(self)
        other._template = template
        other.end = other._find_end()
        return other

    def is_control(self, index: int) -> bool:
        """Whether an id is a control token: a special one, or an added one that is not whitespace."""
        return self.token_bytes[index] is None or (index in self._added and bool(self.pieces[index].strip()))

    def encode_prompts(self, texts: Sequence[str]) -> list[Ids]:
        """Encode rendered prompts to int32[T] each: special tokens in the text are parsed, none are added."""
        encodings = self._prompts.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(e.ids, np.int32) for e in encodings]

    def encode_responses(self, texts: Sequence[str], *, lead: str = "") -> list[EncodedText]:
        """Encode responses as continuations of a prompt; the end token is not included.

        No dummy prefix is added, and text that looks like a special token becomes ordinary tokens.

        Args:
            texts: Responses.
            lead: What the chat template writes between prompt and response (`chat.response_lead`). It is encoded together
                with the response, as in the models' training, but does not count as part of the response.
        """
        encodings = self._responses.encode_batch_fast([lead + t for t in texts], add_special_tokens=False)
        return [self._place(np.array(e.ids, np.int32), t, lead) for e, t in zip(encodings, texts, strict=True)]

    def encode_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts as `encode_responses` does, but return the ids alone."""
        return [e.ids for e in self._responses.encode_batch_fast(list(texts), add_special_tokens=False)]

    def place(self, tokens: npt.NDArray[np.integer], text: str, *, lead: str = "") -> EncodedText:
        """Locate the given tokens of a response in its text, without encoding it again if they spell it exactly.

        Tokens that spell lead and text may differ from this tokenizer's own segmentation.

        Raises:
            AlignmentError: The tokens do not belong to the text.
        """
        ids: Ids = np.asarray(tokens).astype(np.int32)
        known = bool(((ids >= 0) & (ids < self.vocab_size)).all())
        if known and self._spells(ids, lead + text):
            return self._exact(ids, text, lead)
        again = self._trace(text, lead)
        if np.array_equal(again.ids, ids):
            return again
        raise AlignmentError(self._mismatch(ids, again.ids, text))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of a response's tokens, byte for byte; special tokens and rows beyond V are skipped.

        Trailing tokens of an incomplete character, as in a truncated answer, are dropped.
        """
        table, size = self.token_bytes, self.vocab_size
        parts = [table[i] or b"" for i in ids if 0 <= i < size]
        while missing := _unfinished(b"".join(parts)):
            while missing > 0:
                missing -= len(parts.pop())
        return b"".join(parts).decode("utf-8", "replace")

    def _find_end(self) -> TurnEnd:
        written = () if self._template is None else template_turn_end(self._template, **self.template_variables)
        vocabulary = Vocabulary(self.pieces, self.is_control, self._prompts, lambda text: self.encode_ids([text])[0])
        eos_id = self.tokenizer.eos_token_id
        return find_turn_end(written, vocabulary, eos_id=eos_id, stop_ids=self._stop_ids, source=self.source)

    def _read_vocabulary(self, spec: Spec) -> None:
        self._prompts: Tokenizer = prompt_backend(spec)
        self._responses: Tokenizer = response_backend(spec)
        pieces: list[str | None] = [None] * self.vocab_size
        for piece, index in self._prompts.get_vocab(with_added_tokens=True).items():
            if index < self.vocab_size:
                pieces[index] = piece
        self.pieces: list[str] = [p or "" for p in pieces]
        self._added = frozenset(self.tokenizer.added_tokens_decoder)
        self.word_start: str = read_alphabet(spec).word_start
        self.token_bytes: list[bytes | None] = piece_bytes(spec, pieces)
        self.byte_lengths: Ids = np.array([len(b or b"") for b in self.token_bytes], np.int32)
        self._spelling = [b or b"" for b in self.token_bytes]
        self.first_bytes: npt.NDArray[np.uint8] = np.array([b[0] if b else 0 for b in self._spelling], np.uint8)

    def _spell(self, ids: Ids) -> bytes:
        if len(ids) == 0:
            return b""
        parts = itemgetter(*ids.tolist())(self._spelling)
        return parts if isinstance(parts, bytes) else b"".join(parts)

    def _spells(self, ids: Ids, text: str) -> bool:
        # A special token has no bytes, so that only tokens with bytes can be placed without tracing.
        return self._spell(ids) == text.encode() and bool(self.byte_lengths[ids].all())

    def _exact(self, ids: Ids, text: str, lead: str) -> EncodedText:
        first = len(lead.encode())
        ends = self.byte_lengths[ids].cumsum(dtype=np.int32) - np.int32(first)
        return EncodedText(ids, ends, np.zeros(len(ids), np.bool_), len(text.encode()), first)

    def _place(self, ids: Ids, text: str, lead: str) -> EncodedText:
        return self._exact(ids, text, lead) if self._spells(ids, lead + text) else self._trace(text, lead)

    def _trace(self, text: str, lead: str) -> EncodedText:
        whole = lead + text
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for first, encoding in self._encode_as_text(whole):
            ids += encoding.ids
            spans += [(first + s, first + e) for s, e in encoding.offsets]
        ends, lossy = token_ends([self.token_bytes[i] for i in ids], spans, whole)
        first = len(lead.encode())
        return EncodedText(np.array(ids, np.int32), ends - np.int32(first), lossy, len(text.encode()), first)

    def _encode_as_text(self, text: str) -> list[tuple[int, Encoding]]:
        """Encode, splitting the text inside any special token it still yields (Unigram vocabularies contain them)."""
        done: list[tuple[int, Encoding]] = []
        todo = [(0, text)]
        while todo:
            first, part = todo.pop()
            encoding = self._responses.encode(part, add_special_tokens=False)
            cuts = [s + 1 for i, (s, e) in zip(encoding.ids, encoding.offsets, strict=True) if self._is_markup(i, part[s:e])]
            bounds = [0, *cuts, len(part)]
            if cuts:
                todo += [(first + a, part[a:b]) for a, b in pairwise(bounds)][::-1]
            else:
                done.append((first, encoding))
        return done

    def _is_markup(self, index: int, text: str) -> bool:
        return self.token_bytes[index] is None and len(text) > 1 and text == self.pieces[index]

    def _mismatch(self, given: Ids, expected: Ids, text: str) -> str:
        size = min(len(given), len(expected))
        at = int(np.argmax(np.append(given[:size] != expected[:size], True)))
        seen = [str(x[at]) if at < len(x) else "the end" for x in (given, expected)]
        return (
            f"The tokens stored for a response of source `{self.source}` must be those of its tokenizer, but token {at} is "
            f"{seen[0]} and not {seen[1]} (text {text[:40]!r}). Recompute the signals."
        )
