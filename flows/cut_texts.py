"""Texts that end in the middle, for `plan`: how many there are, or will be, and what that means for training."""

import json
from itertools import islice

from flows.context import StageContext
from flows.sizes import corpus_size
from models.data.corpus import read_examples
from models.errors import FusedialError

_SAMPLE = 1000


def cut_warnings(ctx: StageContext) -> list[str]:
    """Return a sentence about ground truths that their reader cut, and one about answers that `max_new_tokens` cuts.

    Both are counted where the stages have run; else answers are judged by the length of the ground truths.
    """
    return [line for line in (_truths(ctx), _answers(ctx)) if line]


def _truths(ctx: StageContext) -> str:
    stats = ctx.out("prepare", "corpus") / "stats.json"
    train = json.loads(stats.read_text(encoding="utf-8"))["splits"]["train"] if stats.is_file() else {}
    cut = train.get("cut", 0)
    if not cut:
        return ""
    return (
        f"{cut:,} of {train['rows']:,} ground truths are cut by their reader (`corpus.sets[].response_chars`): "
        "they are without an end label, and teach nobody when to stop."
    )


def _answers(ctx: StageContext) -> str:
    most = ctx.params.teach.responses.max_new_tokens
    cure = f"Raise `teach.responses.max_new_tokens` ({most}) where answers should be whole."
    try:
        made = list(ctx.inputs("teach", "responses").values())
    except FusedialError:  # not there yet
        made = []
    if made:
        cut, total = (sum(int(artifact.meta[key]) for artifact in made) for key in ("unfinished", "responses"))
        return f"{cut:,} of {total:,} answers were cut: they are without an end label. {cure}" if cut else ""
    size, place = corpus_size(ctx), ctx.out("prepare", "corpus") / "train.jsonl"
    if size is None or not place.is_file():
        return ""
    lengths = [len(e.response.encode()) / size.bytes_per_token for e in islice(read_examples(place), _SAMPLE)]
    longer = sum(length > most for length in lengths)
    if not longer:
        return ""
    return (
        f"{longer:,} of {len(lengths):,} ground truths looked at have more than {most} tokens: answers as long are cut, "
        f"and are without an end label. {cure}"
    )
