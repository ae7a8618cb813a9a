"""The winner's signals in the target's tokens: what the target is trained on (P_S of ProFuser's eq. 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.errors import AlignmentError
from models.fusion.distribution import RenamedRows, merge, rename
from models.fusion.label_path import find_label_paths, move_to_labels
from models.fusion.signal_record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals
from models.params.alignment import AlignmentParams
from models.schema import Message
from models.tokenization.alignment import NO_ROW, Coverage, align_min_edit, align_starts, lossy_rows
from models.tokenization.chat import render_prompt, response_lead
from models.tokenization.codec import EncodedText, TokenCodec
from models.tokenization.vocab_map import VocabMap, byte_vocab_map, min_edit_distance_map


@dataclass(frozen=True, slots=True, eq=False)
class Party:
    """A source or the target: its tokenizer and its chat template."""

    codec: TokenCodec
    template: str

    @property
    def lead(self) -> str:
        """What the template writes between prompt and response."""
        return response_lead(self.template, bos_token=self.codec.bos_token, eos_token=self.codec.eos_token)


@dataclass(frozen=True, slots=True, eq=False)
class AlignItem:
    """One text with the signals of the source that won on it.

    Attributes:
        messages: The prompt.
        text: The response that the signals belong to.
        source: Name of the winner.
        signals: Its signals in its own tokens.
    """

    messages: Sequence[Message]
    text: str
    source: str
    signals: SampleSignals


@dataclass(frozen=True, slots=True)
class AlignedShard:
    """Aligned samples in input order, and per source what became of the target's positions."""

    samples: list[SampleSignals]
    coverage: dict[str, Coverage]


def build_vocab_map(source: TokenCodec, target: TokenCodec, cfg: AlignmentParams) -> VocabMap | None:
    """Build the vocabulary map that `cfg` asks for, or None where both tokenizers are the same."""
    if source.digest == target.digest:
        return None
    return byte_vocab_map(source, target) if cfg.vocab_map == "bytes" else min_edit_distance_map(source, target)


def align_shard(
    items: Sequence[AlignItem],
    *,
    target: Party,
    sources: Mapping[str, Party],
    maps: Mapping[str, VocabMap | None],
    cfg: AlignmentParams,
) -> AlignedShard:
    """Carry the winners' signals over to the target's tokens.

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
    rendered = [
        render_prompt(target.template, item.messages, bos_token=codec.bos_token, eos_token=codec.eos_token) for item in items
    ]
    prompts = codec.encode_prompts(rendered)
    texts = codec.encode_responses([item.text for item in items], lead=lead)
    teachers = {name: _Teacher(sources[name], codec, maps.get(name), name) for name in dict.fromkeys(i.source for i in items)}
    samples: list[SampleSignals] = []
    coverage: dict[str, Coverage] = {}
    for item, prompt, text in zip(items, prompts, texts, strict=True):
        sample, one = teachers[item.source].align(item, text, cfg)
        samples.append(replace(sample, prompt_ids=prompt.astype(np.uint32)))
        coverage[item.source] = coverage.get(item.source, Coverage()) + one
    return AlignedShard(samples, coverage)


def align_sample(
    item: AlignItem, *, target: Party, source: Party, vocab_map: VocabMap | None, cfg: AlignmentParams
) -> tuple[SampleSignals, Coverage]:
    """Align one text; see `align_shard`, which is faster for many."""
    shard = align_shard([item], target=target, sources={item.source: source}, maps={item.source: vocab_map}, cfg=cfg)
    return shard.samples[0], shard.coverage[item.source]


class _Teacher:
    """One source towards one target."""

    def __init__(self, party: Party, target: TokenCodec, vocab_map: VocabMap | None, name: str) -> None:
        self._codec, self._lead, self._target, self._map = party.codec, party.lead, target, vocab_map
        size = target.vocab_size if vocab_map is None else len(vocab_map.ids)
        same = party.codec.digest == target.digest
        if size != party.codec.vocab_size or (vocab_map is None and not same):
            found = "none is given" if vocab_map is None else f"it has {size}"
            raise AlignmentError(
                f"The vocabulary map of source `{name}` must have its tokenizer's {party.codec.vocab_size} tokens, but {found}. "
                "Build it again with `build_vocab_map`."
            )
        self._same = same

    def align(self, item: AlignItem, text: EncodedText, cfg: AlignmentParams) -> tuple[SampleSignals, Coverage]:
        labels = np.append(text.ids, np.int32(self._target.eos_id)).astype(np.uint32)
        if self._same and np.array_equal(item.signals.token_ids, labels):
            taught = np.ones(len(labels), np.bool_)
            return replace(item.signals, has_teacher=taught), Coverage(len(labels), len(labels))
        source = self._place(item)
        pair = _Pair(text, source, self._rows(text, source, cfg), labels)
        sample, taught = self._carry(item.signals, pair, label_path=cfg.label_path and cfg.mode == "byte_exact")
        lossy = lossy_rows(text, source)
        counts = Coverage(len(labels), int(taught.sum()), int((lossy & ~taught).sum()))
        if cfg.fallback == "mask":
            return replace(sample, has_teacher=taught), counts
        return _teach_next_token(sample, ~taught), replace(counts, num_fallback=int((~taught).sum()))

    def _place(self, item: AlignItem) -> EncodedText:
        ids = item.signals.token_ids
        if len(ids) == 0 or int(ids[-1]) != self._codec.eos_id:
            raise AlignmentError(
                f"The signals of `{item.signals.id}` must end with the end token {self._codec.eos_id} of source `{item.source}`, "
                f"but end with {int(ids[-1]) if len(ids) else 'nothing'}. Make the signals again."
            )
        try:
            return self._codec.place(ids[:-1], item.text, lead=self._lead)
        except AlignmentError as error:
            raise AlignmentError(f"Sample `{item.signals.id}`: {error}") from error

    def _rows(self, text: EncodedText, source: EncodedText, cfg: AlignmentParams) -> npt.NDArray[np.int32]:
        if cfg.mode == "byte_exact":
            return align_starts(text, source)
        return align_min_edit(text, source, target_codec=self._target, source_codec=self._codec, vocab_map=self._map)

    def _carry(self, signals: SampleSignals, pair: "_Pair", *, label_path: bool) -> tuple[SampleSignals, npt.NDArray[np.bool_]]:
        at = np.flatnonzero(pair.rows != NO_ROW)
        picked = pair.rows[at]
        renamed = rename(signals.topk_ids[picked], signals.topk_logprobs[picked], signals.tail[picked], self._map)
        if label_path:
            renamed = _follow_labels(renamed, signals, pair, at)
        top_k = signals.topk_ids.shape[1]
        sample = _blank(signals.id, pair.labels, top_k)
        sample.topk_ids[at], sample.topk_logprobs[at], sample.tail[at] = merge(renamed, top_k=top_k)
        sample.ce[at] = signals.ce[picked]
        # A row of which no token has a counterpart says nothing about the target's tokens.
        taught = (pair.rows != NO_ROW) & (sample.topk_logprobs[:, :1] > PAD_LOGPROB).any(axis=1)
        return sample, taught


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A text in both tokenizations, the source row of each target position, and the target's labels (end token last)."""

    target: EncodedText
    source: EncodedText
    rows: npt.NDArray[np.int32]
    labels: npt.NDArray[np.uint32]


def _follow_labels(renamed: RenamedRows, signals: SampleSignals, pair: _Pair, at: npt.NDArray[np.intp]) -> RenamedRows:
    paths = find_label_paths(pair.target, pair.source, pair.rows, signals.ce)
    own = signals.token_ids[paths.rows]
    return move_to_labels(
        renamed,
        paths,
        at=np.searchsorted(at, paths.positions),
        own_slot=signals.topk_ids[paths.rows] == own[:, None],
        own_prob=np.exp(-signals.ce[paths.rows]),
        labels=pair.target.ids[paths.positions],
    )


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


def _teach_next_token(sample: SampleSignals, where: npt.NDArray[np.bool_]) -> SampleSignals:
    """Write one-hots: row t predicts token t, so the one-hot of row t is on token t (the ancestors' was one row late)."""
    sample.topk_ids[where], sample.topk_logprobs[where] = 0, PAD_LOGPROB
    sample.topk_ids[where, 0], sample.topk_logprobs[where, 0] = sample.token_ids[where], 0.0
    sample.tail[where] = TAIL_FLOOR
    return replace(sample, has_teacher=np.ones(len(where), np.bool_))
