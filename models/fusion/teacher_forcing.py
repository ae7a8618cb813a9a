"""Teacher forcing: a source's token-level distributions on a given response (the signals of ProFuser, eq. 1 and 3)."""

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import NumericsError, SourceError
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR, SampleSignals
from models.lm.head import Head, head_of, head_product
from models.lm.loading import LoadedSource
from models.lm.prompts import FittedText, Overflow, TextItem, fit_texts, pad_rows, plan_batches, to_device
from models.memory import release_memory_after
from models.schema import SourceScore

_WINDOW = 1024  # texts sorted by length together, and held until the last of them is done
_CHUNK_LOGITS = {"cpu": 2**21, "cuda": 2**27, "mps": 2**25}  # float32 logits alive at once: cache-sized on a CPU
_FULL_LOGITS = 2**28  # entries of a batch's logits where the head cannot be taken apart
_log = logging.getLogger(__name__)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, eq=False)
class TeacherForcedText:
    """One teacher-forced response.

    Attributes:
        signals: Its signals (K = 0: cross-entropies only, the whole mass is the tail).
        score: Cross-entropy and size, for Min-CE.
        prompt_truncated: Whether the prompt lost its beginning to fit the context.
    """

    signals: SampleSignals
    score: SourceScore
    prompt_truncated: bool


@dataclass(frozen=True, slots=True)
class _Rows:
    """Host copies for N rows: ce float32[N], top-k ids int32[N, K] and log-probabilities, tail (float16)."""

    ce: Tensor
    ids: Tensor
    logprobs: Tensor
    tail: Tensor


def teacher_force(
    source: LoadedSource,
    items: Sequence[TextItem],
    *,
    top_k: int | None,
    batch_tokens: int,
    overflow: Overflow = "truncate_left",
    on_progress: Progress | None = None,
) -> Iterator[TeacherForcedText]:
    """Teacher-force a source on given responses: one forward pass per batch, the head only where a response is predicted.

    The prompt goes through the source's own template; the response is its continuation, byte for byte, and its end is scored
    with it, unless the response was truncated. Any token that ends a turn of this source counts as the end: its cross-entropy
    is −log of the sum over all such tokens (`TurnEnd.ids`). Probabilities are over the entries that tokenizer and head share (a
    padded head's extra rows are cut off before the softmax), in float32. Texts are sorted by length inside a window of 1024, and
    come back in input order.

    Args:
        source: The source.
        items: Prompts with responses.
        top_k: Log-probabilities per position; None or 0 gives cross-entropies only.
        batch_tokens: Padded tokens of one forward pass.
        overflow: A prompt that does not fit in front of its response loses its beginning, or is an error.
        on_progress: Called with the number of finished texts after each batch.

    Yields:
        Results in input order.

    Raises:
        DataError: A response alone does not fit the context, or a prompt is empty or (overflow `error`) too long.
        NumericsError: A cross-entropy is not finite; the message names the ids.
    """
    head = _separable_head(source)
    budget = batch_tokens if head is not None else max(1, min(batch_tokens, _FULL_LOGITS // source.vocab_rows))
    for start in range(0, len(items), _WINDOW):
        window = items[start : start + _WINDOW]
        texts = fit_texts(source.source, source.codec, window, overflow=overflow)
        done: dict[int, TeacherForcedText] = {}
        for batch in plan_batches([len(t.inputs) for t in texts], max_tokens=budget):
            picked = [texts[i] for i in batch]
            signals = score_batch(source, picked, ids=[window[i].id for i in batch], head=head, top_k=top_k or 0)
            for i, text, one in zip(batch, picked, signals, strict=True):
                done[i] = TeacherForcedText(one, _score(one, text), text.truncated)
            if on_progress is not None:
                on_progress(start + len(done))
        release_memory_after(source.device.type)
        yield from (done[i] for i in range(len(window)))


def capture_signals(
    source: LoadedSource,
    items: Sequence[TextItem],
    *,
    top_k: int | None,
    batch_tokens: int,
    overflow: Overflow = "truncate_left",
    on_progress: Progress | None = None,
) -> Iterator[SampleSignals]:
    """Yield only the signals of `teacher_force`, ready for `write_shard`."""
    for forced in teacher_force(
        source, items, top_k=top_k, batch_tokens=batch_tokens, overflow=overflow, on_progress=on_progress
    ):
        yield forced.signals


def source_score(signals: SampleSignals, *, num_bytes: int, lossless: bool) -> SourceScore:
    """Sum a text's cross-entropies (float64) into the score that Min-CE compares (eq. 1)."""
    return SourceScore(nll=signals.nll, num_tokens=signals.num_tokens, num_bytes=num_bytes, lossless=lossless)


def _score(signals: SampleSignals, text: FittedText) -> SourceScore:
    return source_score(signals, num_bytes=text.response.num_bytes, lossless=text.response.lossless)


@torch.inference_mode()
def score_batch(
    source: LoadedSource, texts: Sequence[FittedText], *, ids: Sequence[str], head: Head | None, top_k: int
) -> list[SampleSignals]:
    """Teacher-force one batch: a single forward pass, padded on the right.

    Args:
        source: The source.
        texts: The batch, B texts with N = Σ T label positions.
        ids: Their ids.
        head: `head_of(source.model)`, or None to use the model's own logits.
        top_k: K; slots beyond the vocabulary are `PAD_LOGPROB`.

    Raises:
        NumericsError: A cross-entropy is not finite.
    """
    input_ids, mask = pad_rows([t.inputs for t in texts], pad_id=source.pad_id, side="right", device=source.device)
    row, column = _label_positions(texts)
    labels = to_device(torch.from_numpy(np.concatenate([t.labels for t in texts]).astype(np.int64)), source.device)
    row, column = to_device(row, source.device), to_device(column, source.device)
    ends = _ends_of(source, texts)
    if head is None:
        first = min(len(t.prompt) for t in texts) - 1
        logits = _own_logits(source, input_ids, mask, first=first)[row, column - first]
        outcome = _reduce(lambda part: logits[part], labels, source.vocab_rows, top_k, ends)
    else:
        hidden = head.backbone(input_ids, mask)[row, column]
        weight = head.weight[: source.vocab_rows]
        bias = None if head.bias is None else head.bias[: source.vocab_rows]
        outcome = _reduce(lambda part: head_product(hidden[part], weight, bias), labels, source.vocab_rows, top_k, ends)
    return _split(outcome, texts, ids, source=source.source.name)


def _separable_head(source: LoadedSource) -> Head | None:
    try:
        return head_of(source.model)
    except SourceError as err:
        _log.warning("`%s` is scored through its full logits, in smaller batches: %s", source.source.name, err)
        return None


def _own_logits(source: LoadedSource, input_ids: Tensor, mask: Tensor, *, first: int) -> Tensor:
    """Return the model's logits from position `first` on, cut to the shared vocabulary."""
    known = inspect.signature(source.model.forward).parameters
    if "logits_to_keep" in known:
        kept = source.model(input_ids=input_ids, attention_mask=mask, use_cache=False, logits_to_keep=input_ids.shape[1] - first)
        last: Tensor = kept.logits[..., : source.vocab_rows]
        return last
    whole: Tensor = source.model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits
    return whole[:, first:, : source.vocab_rows]


def _label_positions(texts: Sequence[FittedText]) -> tuple[Tensor, Tensor]:
    """Return row and column of the hidden states that predict the labels, int64[N] each."""
    rows = [np.full(len(t.labels), i, dtype=np.int64) for i, t in enumerate(texts)]
    columns = [np.arange(len(t.labels), dtype=np.int64) + len(t.prompt) - 1 for t in texts]
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(columns))


@dataclass(frozen=True, slots=True)
class _Ends:
    """Mask of end rows, bool[N], and the tokens that end a turn, int64[E]; E = 1 is the label alone."""

    rows: Tensor
    ids: Tensor


def _ends_of(source: LoadedSource, texts: Sequence[FittedText]) -> _Ends:
    rows = np.concatenate([np.append(np.zeros(len(t.response.ids), np.bool_), np.ones(int(t.ended), np.bool_)) for t in texts])
    codec = source.codec.with_template(source.source.chat_template)
    ids = torch.tensor([i for i in codec.end.ids if i < source.vocab_rows])
    return _Ends(to_device(torch.from_numpy(rows), source.device), to_device(ids, source.device))


def _reduce(logits_of: Callable[[slice], Tensor], labels: Tensor, vocab: int, top_k: int, ends: _Ends) -> _Rows:
    """Turn logits into rows chunk by chunk on their device; only [N, K] ever leaves it."""
    size = max(16, _CHUNK_LOGITS.get(labels.device.type, 2**25) // vocab)
    parts = []
    for start in range(0, max(len(labels), 1), size):
        part = slice(start, start + size)
        logits = logits_of(part).float()
        own = logits.gather(1, labels[part, None]).squeeze(1)
        if len(ends.ids) > 1:
            own = torch.where(ends.rows[part], logits[:, ends.ids].logsumexp(dim=-1), own)
        parts.append(_reduce_chunk(logits, own, min(top_k, vocab)))
    joined = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    rows = _Rows(*joined)
    missing = top_k - rows.ids.shape[1]
    if missing:
        return replace(rows, ids=F.pad(rows.ids, (0, missing)), logprobs=F.pad(rows.logprobs, (0, missing), value=PAD_LOGPROB))
    return rows


def _reduce_chunk(logits: Tensor, own: Tensor, top_k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Map float32 logits [C, V], and those of the labels [C], to cross-entropy, top-k ids, top-k log-probabilities and tail.

    The tail sums what is not in the top-k, instead of log(1 − Σ p): the latter is rounding noise on peaked rows.
    """
    if top_k == 0:
        ce = logits.logsumexp(dim=-1) - own
        return ce, own.new_empty((len(ce), 0)).int(), own.new_empty((len(ce), 0)).half(), torch.zeros_like(ce).half()
    values, ids = logits.topk(top_k, dim=-1)
    best = values[:, :1]
    mass = (logits - best).exp_()  # one pass of exp serves the norm and the tail
    norm = best + mass.sum(dim=-1, keepdim=True).log()
    rest = best + mass.scatter_(1, ids, 0.0).sum(dim=-1, keepdim=True).log()
    tail = (rest - norm).squeeze(1).clamp(min=TAIL_FLOOR, max=0.0)
    return norm.squeeze(1) - own, ids.int(), (values - norm).clamp(min=PAD_LOGPROB).half(), tail.half()


def _split(rows: _Rows, texts: Sequence[FittedText], ids: Sequence[str], *, source: str) -> list[SampleSignals]:
    ce, topk_ids = rows.ce.numpy(), rows.ids.numpy().astype(np.uint32)
    logprobs, tail = rows.logprobs.numpy(), rows.tail.numpy()
    ends = np.cumsum([len(t.labels) for t in texts])
    broken = [i for i, end, t in zip(ids, ends, texts, strict=True) if not np.isfinite(ce[end - len(t.labels) : end]).all()]
    if broken:
        named = ", ".join(sorted(broken)[:10])
        raise NumericsError(
            f"The cross-entropy of `{source}` must be finite, but is not on {len(broken)} texts: {named}. "
            "Load the source in float32 or bfloat16, or leave these rows out."
        )
    return [
        SampleSignals(item, t.labels.astype(np.uint32), topk_ids[s], logprobs[s], tail[s], ce[s])
        for item, t, s in zip(ids, texts, (slice(e - len(t.labels), e) for e, t in zip(ends, texts, strict=True)), strict=True)
    ]
