"""Advantage per token: each position of a ground truth is taught by the source that predicts these very bytes best.

Eq. 1 of ProFuser chooses one source for a whole text; a source that is best on its first half and lost on the second teaches
both. Here the choice is made at every token of the target, by cross-entropy per byte, which is comparable between tokenizers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.errors import AlignmentError
from models.fusion.alignment.target_signals import AlignedShard, AlignItem, ChatTokenizer, SourceAlignment, teach_next_token
from models.fusion.signals.record import SampleSignals
from models.params.alignment import AlignmentParams
from models.tokenization.alignment import Coverage, lossy_rows
from models.tokenization.chat import render_prompt
from models.tokenization.codec import EncodedText
from models.tokenization.vocab_map import VocabMap

Nats = npt.NDArray[np.float64]


def align_by_token(
    contests: Sequence[Sequence[AlignItem]],
    *,
    target: ChatTokenizer,
    sources: Mapping[str, ChatTokenizer],
    maps: Mapping[str, VocabMap | None],
    cfg: AlignmentParams,
) -> AlignedShard:
    """Align several sources' signals on each text to the target's tokens, and keep at every position those of the best.

    Only sources that reproduce the text compete, and at a position only those that have a row there (`cfg.mode`).

    Args:
        contests: For each text its signals by every source, once each; the first of equals wins.
        target: The model to be trained; prompts are rendered with its template.
        sources: Source → its tokenizer and template.
        maps: Source → vocabulary map to the target.
        cfg: Mode, fallback, `advantage_window`.

    Returns:
        One sample a text; coverage counts a position for the source that teaches it, or for the first that competes if none does.

    Raises:
        AlignmentError: No source reproduces a text, signals do not belong to it, or a vocabulary map is missing.
    """
    codec, lead = target.codec, target.lead
    rendered = [render_prompt(target.template, contest[0].messages, **codec.template_variables) for contest in contests]
    prompts = codec.encode_prompts(rendered)
    texts = codec.encode_responses([contest[0].text for contest in contests], lead=lead)
    names = dict.fromkeys(item.source for contest in contests for item in contest)
    teachers = {name: SourceAlignment(sources[name], target, maps.get(name), name) for name in names}
    samples: list[SampleSignals] = []
    coverage: dict[str, Coverage] = {}
    for contest, prompt, text in zip(contests, prompts, texts, strict=True):
        sample, counts = _merge(contest, text, teachers, cfg)
        samples.append(replace(sample, prompt_ids=prompt.astype(np.uint32)))
        for name, one in counts.items():
            coverage[name] = coverage.get(name, Coverage()) + one
    return AlignedShard(samples, coverage)


def stretch_costs(target: EncodedText, source: EncodedText, ce: npt.NDArray[np.float32], *, ended: bool, window: int = 0) -> Nats:
    """Return a source's cross-entropy per byte over the bytes of every token of the target, nats per byte.

    A source's token spreads its nats evenly over its bytes; what it has without bytes of its own counts for the byte that
    follows. The end token counts as one byte behind the text, on both sides.

    Args:
        target: The text in the target's tokens (T_target).
        source: The same in the source's (T_source), which reproduce it.
        ce: float32[T_source], or one more, the end's, if the text is `ended`.
        ended: Whether the text is complete.
        window: Tokens of the target on each side that are averaged as well.

    Returns:
        float64[T_target], or one more for the end.
    """
    total = np.concatenate([[0.0], np.cumsum(_byte_nats(source, ce, ended=ended))])
    edges = np.maximum(target.starts, 0)
    size = len(target.ids) + int(ended)
    begins, ends = edges[:size].copy(), np.append(edges[1:], target.num_bytes + 1)[:size]
    if ended:
        begins[-1] = target.num_bytes  # a tokenizer may drop the end of the text
    ends = np.maximum(ends, begins + 1)
    at = np.arange(size)
    low, high = begins[np.maximum(at - window, 0)], ends[np.minimum(at + window, size - 1)]
    costs: Nats = (total[high] - total[low]) / (high - low)
    return costs


def _byte_nats(source: EncodedText, ce: npt.NDArray[np.float32], *, ended: bool) -> Nats:
    """Return float64[num_bytes + 1]: nats of each byte of the text, and of its end."""
    edges = np.maximum(source.starts, 0)  # bytes of the lead are not part of the response
    lengths = np.diff(edges)
    own = ce[: len(lengths)].astype(np.float64)
    found = np.zeros(source.num_bytes + 1)
    some = lengths > 0
    found[: source.num_bytes] = np.repeat(own[some] / lengths[some], lengths[some])
    np.add.at(found, edges[:-1][~some], own[~some])
    if ended:
        found[-1] += ce[-1]
    return found


def _merge(
    contest: Sequence[AlignItem], text: EncodedText, teachers: Mapping[str, SourceAlignment], cfg: AlignmentParams
) -> tuple[SampleSignals, dict[str, Coverage]]:
    placed = [(item, teachers[item.source].place(item)) for item in contest]
    able = [(item, own) for item, own in placed if own.lossless]
    if not able:
        raise AlignmentError(
            f"At least one source must reproduce the ground truth of `{contest[0].signals.id}` byte for byte, but none of "
            f"{[item.source for item in contest]} does. Add a source with byte fallback, or drop the example."
        )
    first, ended = able[0], able[0][0].ended
    alone = cfg.model_copy(update={"fallback": "mask"})
    aligned = [teachers[item.source].align(item, text, alone)[0] for item, _ in able]
    taught = np.stack([_teacher(sample) for sample in aligned])
    costs = [stretch_costs(text, own, i.signals.ce, ended=ended, window=cfg.advantage_window) for i, own in able]
    best = np.where(taught, np.stack(costs), np.inf).argmin(axis=0)
    any_taught = np.asarray(taught.any(axis=0), np.bool_)
    rows = np.arange(len(any_taught))
    sample = replace(
        aligned[0],
        topk_ids=np.stack([s.topk_ids for s in aligned])[best, rows],
        topk_logprobs=np.stack([s.topk_logprobs for s in aligned])[best, rows],
        tail=np.stack([s.tail for s in aligned])[best, rows],
        ce=np.stack([s.ce for s in aligned])[best, rows],
        has_teacher=any_taught,
    )
    counts = {
        item.source: Coverage(int((best == n).sum()), int((any_taught & (best == n)).sum())) for n, (item, _) in enumerate(able)
    }
    lossy = lossy_rows(text, first[1])[: len(rows)]
    counts[first[0].source] += Coverage(num_lossy=int((lossy & ~any_taught).sum()), num_cut=int(not ended))
    if cfg.fallback == "mask":
        return sample, counts
    counts[first[0].source] += Coverage(num_fallback=int((~any_taught).sum()))
    return teach_next_token(sample, ~any_taught), counts


def _teacher(sample: SampleSignals) -> npt.NDArray[np.bool_]:
    if sample.has_teacher is None:
        raise TypeError("an aligned sample says which rows have a teacher")
    return sample.has_teacher
