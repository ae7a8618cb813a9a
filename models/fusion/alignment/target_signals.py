"""The winner's signals in the target's tokens: what the target is trained on (P_S of ProFuser's eq. 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from models.errors import AlignmentError
from models.fusion.alignment.distribution import (
    MappedRows,
    covering_slots,
    find_label_paths,
    map_rows,
    merge_duplicates,
    move_to_labels,
)
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.alignment import NO_ROW, Coverage, align_min_edit, align_starts, first_byte_rows, lossy_rows
from models.tokenization.chat import render_prompt, response_lead
from models.tokenization.codec import EncodedText, TokenCodec
from models.tokenization.vocab_map import UNMAPPED, FirstTokens, VocabMap, byte_vocab_map, map_ends, min_edit_distance_map


@dataclass(frozen=True, slots=True, eq=False)
class ChatTokenizer:
    """Chat template and tokenizer of a source or the target, with the turn end of the template."""

    codec: TokenCodec
    template: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "codec", self.codec.with_template(self.template))

    @property
    def lead(self) -> str:
        """Text of the template between prompt and response."""
        return response_lead(self.template, **self.codec.template_variables)


@dataclass(frozen=True, slots=True, eq=False)
class AlignItem:
    """One text with the signals of the source that won on it.

    Attributes:
        messages: The prompt.
        text: The response that the signals belong to.
        source: Name of the winner.
        signals: Its signals in its own tokens.
        ended: Whether the text is complete. A truncated one has no end token, neither in the signals nor in the result.
    """

    messages: Sequence[Message]
    text: str
    source: str
    signals: SampleSignals
    ended: bool = True


@dataclass(frozen=True, slots=True)
class AlignedShard:
    """Aligned samples in input order, and the coverage of the target's positions by source."""

    samples: list[SampleSignals]
    coverage: dict[str, Coverage]


def build_vocab_map(source: TokenCodec, target: TokenCodec, cfg: AlignmentParams) -> VocabMap | None:
    """Build the vocabulary map that `cfg` asks for; where both tokenizers are the same, None, or a map of the ends alone."""
    if source.digest == target.digest:
        return map_ends(None, source, target)
    return byte_vocab_map(source, target) if cfg.vocab_map == "bytes" else min_edit_distance_map(source, target)


def align_shard(
    items: Sequence[AlignItem],
    *,
    target: ChatTokenizer,
    sources: Mapping[str, ChatTokenizer],
    maps: Mapping[str, VocabMap | None],
    cfg: AlignmentParams,
) -> AlignedShard:
    """Align the winners' signals to the target's tokens.

    Args:
        items: Texts with their winners' signals.
        target: The model to be trained; prompts are rendered with its template.
        sources: Winner's name → its tokenizer and template.
        maps: Winner's name → vocabulary map to the target (`build_vocab_map`).
        cfg: Mode, fallback.

    Raises:
        AlignmentError: Signals do not belong to their text, or a vocabulary map is missing or of another tokenizer.
    """
    codec, lead = target.codec, target.lead
    rendered = [render_prompt(target.template, item.messages, **codec.template_variables) for item in items]
    prompts = codec.encode_prompts(rendered)
    texts = codec.encode_responses([item.text for item in items], lead=lead)
    teachers = {
        name: SourceAlignment(sources[name], target, maps.get(name), name) for name in dict.fromkeys(i.source for i in items)
    }
    samples: list[SampleSignals] = []
    coverage: dict[str, Coverage] = {}
    for item, prompt, text in zip(items, prompts, texts, strict=True):
        sample, one = teachers[item.source].align(item, text, cfg)
        samples.append(replace(sample, prompt_ids=prompt.astype(np.uint32)))
        coverage[item.source] = coverage.get(item.source, Coverage()) + one
    return AlignedShard(samples, coverage)


class SourceAlignment:
    """Alignment of one source to the target."""

    def __init__(self, source: ChatTokenizer, target: ChatTokenizer, vocab_map: VocabMap | None, name: str) -> None:
        self._codec, self._lead = source.codec, source.lead
        self._target, self._target_lead = target.codec, target.lead
        size = self._target.vocab_size if vocab_map is None else len(vocab_map.ids)
        self._same = source.codec.digest == self._target.digest
        if size != source.codec.vocab_size or (vocab_map is None and not self._same):
            found = "none is given" if vocab_map is None else f"it has {size}"
            raise AlignmentError(
                f"The vocabulary map of source `{name}` must have its tokenizer's {source.codec.vocab_size} tokens, but {found}. "
                "Build it again with `build_vocab_map`."
            )
        # The map may be of the tokenizers alone, made without their templates.
        self._map = map_ends(vocab_map, self._codec, self._target)
        self._openings: dict[tuple[bytes, bytes, bytes], int] = {}

    @cached_property
    def _first_tokens(self) -> FirstTokens:
        return FirstTokens(self._target)

    def align(self, item: AlignItem, text: EncodedText, cfg: AlignmentParams) -> tuple[SampleSignals, Coverage]:
        """Align the signals of an item to its `text` in the target's tokens; counts are of this item."""
        end = [self._target.eos_id] if item.ended else []
        labels = np.append(text.ids, end).astype(np.uint32)
        cut = int(not item.ended)
        if self._map is None and np.array_equal(item.signals.token_ids, labels):
            taught = np.ones(len(labels), np.bool_)
            return replace(item.signals, has_teacher=taught), Coverage(len(labels), len(labels), num_cut=cut)
        source = self.place(item)
        rows = self._rows(text, source, cfg)[: len(labels)]
        pair = _Pair(text, source, rows, labels, item)
        sample, taught = self._carry(pair, exact=cfg.mode == "byte_exact", label_path=cfg.label_path)
        lossy = lossy_rows(text, source)[: len(labels)]
        counts = Coverage(len(labels), int(taught.sum()), int((lossy & ~taught).sum()), num_cut=cut)
        if cfg.fallback == "mask":
            return replace(sample, has_teacher=taught), counts
        return teach_next_token(sample, ~taught), replace(counts, num_fallback=int((~taught).sum()))

    def place(self, item: AlignItem) -> EncodedText:
        """Locate the source's own tokens of an item in its text, the end token left out.

        Raises:
            AlignmentError: The signals are of another text, or lack the end token of a whole one.
        """
        ids = item.signals.token_ids
        if item.ended and (len(ids) == 0 or int(ids[-1]) not in self._codec.end.ids):
            raise AlignmentError(
                f"The signals of `{item.signals.id}` must end with the end token {self._codec.eos_id} of source `{item.source}`, "
                f"but end with {int(ids[-1]) if len(ids) else 'nothing'}. Recompute the signals."
            )
        try:
            return self._codec.place(ids[:-1] if item.ended else ids, item.text, lead=self._lead)
        except AlignmentError as error:
            raise AlignmentError(f"Sample `{item.signals.id}`: {error}") from error

    def _rows(self, text: EncodedText, source: EncodedText, cfg: AlignmentParams) -> npt.NDArray[np.int32]:
        if cfg.mode == "byte_exact":
            rows = align_starts(text, source)
            opening = first_byte_rows(text, source)
            if opening is not None and rows[opening[0]] == NO_ROW:
                rows[opening[0]] = opening[1]
            return rows
        return align_min_edit(text, source, target_codec=self._target, source_codec=self._codec, vocab_map=self._map)

    def _carry(self, pair: "_Pair", *, exact: bool, label_path: bool) -> tuple[SampleSignals, npt.NDArray[np.bool_]]:
        signals = pair.item.signals
        at = np.flatnonzero(pair.rows != NO_ROW)
        picked = pair.rows[at]
        renamed = map_rows(signals.topk_ids[picked], signals.topk_logprobs[picked], signals.tail[picked], self._map)
        self._name_ends(renamed, pair, at)
        if exact:
            self._name_opening(renamed, pair, at)
            renamed = self._follow_labels(renamed, pair, at) if label_path else renamed
        top_k = signals.topk_ids.shape[1]
        sample = _blank(signals.id, pair.labels, top_k)
        sample.topk_ids[at], sample.topk_logprobs[at], sample.tail[at] = merge_duplicates(renamed, top_k=top_k)
        sample.ce[at] = signals.ce[picked]
        # A row of which no token has a counterpart says nothing about the target's tokens.
        taught = (pair.rows != NO_ROW) & (sample.topk_logprobs[:, :1] > PAD_LOGPROB).any(axis=1)
        return sample, taught

    def _name_ends(self, renamed: MappedRows, pair: "_Pair", at: npt.NDArray[np.intp]) -> None:
        """Map ordinary tokens that end a turn to the target's end, at the end of the text (control tokens are in the map)."""
        if pair.item.ended and len(at) and at[-1] == len(pair.labels) - 1:
            ends = np.isin(pair.item.signals.topk_ids[pair.rows[at[-1]]], self._codec.end.ids)
            renamed.ids[-1][ends & (renamed.probs[-1] > 0)] = self._target.eos_id

    def _name_opening(self, renamed: MappedRows, pair: "_Pair", at: npt.NDArray[np.intp]) -> None:
        """Exchange the templates' leads in the first row of the response: `▁Hello` of one side is `Hello` of the other."""
        opening = first_byte_rows(pair.target, pair.source)
        if opening is None or opening[0] >= len(pair.rows) or pair.rows[opening[0]] != opening[1]:
            return
        row, column = opening
        place = int(np.searchsorted(at, row))
        theirs = (
            self._lead.encode()[int(pair.source.starts[column]) + pair.source.lead :] if column < len(pair.source.ids) else b""
        )
        ours = self._target_lead.encode()[int(pair.target.starts[row]) + pair.target.lead :]
        if theirs == ours or row >= len(pair.target.ids):
            return
        for slot, index in enumerate(pair.item.signals.topk_ids[column].tolist()):
            piece = self._codec.token_bytes[index] if index < self._codec.vocab_size else None
            if piece and renamed.probs[place, slot] > 0:
                renamed.ids[place, slot] = self._opening_token(piece, theirs, ours)

    def _opening_token(self, piece: bytes, theirs: bytes, ours: bytes) -> int:
        """Return the target's token for a source token at the response's first byte; -1 if it covers only the lead."""
        key = (piece, theirs, ours)
        if key not in self._openings:
            bare = piece[len(theirs) :] if piece.startswith(theirs) else b""
            self._openings[key] = int(self._first_tokens.find([ours + bare])[0]) if bare else UNMAPPED
        return self._openings[key]

    def _follow_labels(self, renamed: MappedRows, pair: "_Pair", at: npt.NDArray[np.intp]) -> MappedRows:
        """Give each label the probability that the source gives to its bytes; see `models.fusion.alignment.distribution`."""
        signals = pair.item.signals
        paths = find_label_paths(pair.target, pair.source, pair.rows, signals.ce)
        where = np.searchsorted(at, paths.positions)
        labels = pair.target.ids[paths.positions]
        slots = signals.topk_ids[paths.rows]
        covering = covering_slots(
            slots,
            paths,
            pair.target,
            pair.source,
            text=(self._lead + pair.item.text).encode(),
            codec=self._codec,
        )
        ids = renamed.ids.copy()
        ids[where] = np.where(covering & (renamed.probs[where] > 0), labels[:, None], ids[where])
        renamed = replace(renamed, ids=ids)
        own = signals.token_ids[paths.rows]
        own_slot = slots == own[:, None]
        # A token that covers its label is renamed already, or lies in the tail; in the tail it stays if the map says the same.
        mapped = own.astype(np.int32) if self._map is None else self._map.ids[own]
        same = (mapped == labels) & (pair.source.ends[paths.rows] == pair.target.ends[paths.positions])
        done = (own_slot & covering).any(axis=1) | same
        return move_to_labels(
            renamed,
            paths.only(~done),
            at=where[~done],
            own_slot=own_slot[~done],
            own_prob=np.exp(-signals.ce[paths.rows[~done]]),
            labels=labels[~done],
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A text in both tokenizations, the source row of each target position, and the target's labels."""

    target: EncodedText
    source: EncodedText
    rows: npt.NDArray[np.int32]
    labels: npt.NDArray[np.uint32]
    item: AlignItem


def _blank(sample_id: str, labels: npt.NDArray[np.uint32], top_k: int) -> SampleSignals:
    shape = (len(labels), top_k)
    return SampleSignals(
        id=sample_id,
        token_ids=labels,
        topk_ids=np.zeros(shape, np.uint32),
        topk_logprobs=np.full(shape, PAD_LOGPROB, np.float16),
        tail=np.zeros(len(labels), np.float16),
        ce=np.zeros(len(labels), np.float32),
    )


def teach_next_token(sample: SampleSignals, where: npt.NDArray[np.bool_]) -> SampleSignals:
    """Write one-hots: row t predicts token t, so the one-hot of row t is on token t (FuseLLM's was one row late)."""
    sample.topk_ids[where], sample.topk_logprobs[where] = 0, PAD_LOGPROB
    sample.topk_ids[where, 0], sample.topk_logprobs[where, 0] = sample.token_ids[where], 0.0
    sample.tail[where] = TAIL_FLOOR
    return replace(sample, has_teacher=np.ones(len(where), np.bool_))
