"""Stage `prepare`, dialogue half: reads task-oriented dialogues and their knowledge base, checks and writes them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.dialogue.data.checks import SplitStats, TurnChecks, checked_kb, kb_stats
from models.dialogue.data.dynamic_values import restrict_dynamic_values, with_counts
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.readers import camrest, embedded, jsonl, maker, multiwoz, smd
from models.dialogue.data.readers.base import SPLITS, DialogueSource
from models.dialogue.data.records import KB, STATS, VALUES, Entity, Turn, read_turns, splits_of, write_kb, write_turns
from models.dialogue.data.requests.learning import learn_requests
from models.dialogue.data.requests.reader import RequestReader
from models.dialogue.data.unseen.data_set import renew
from models.errors import DataError, Problem
from models.metrics_sink import MetricsSink
from models.params.dialogues import DialogueFormat, DialoguesParams
from models.schema import Split

_READERS: Mapping[DialogueFormat, Callable[..., DialogueSource]] = {
    "embedded": embedded.read,
    "smd": smd.read,
    "camrest": camrest.read,
    "multiwoz": multiwoz.read,
    "maker": maker.read,
    "jsonl": jsonl.read,
}


def prepare_dialogues(cfg: DialoguesParams, *, root: Path, out: Path, sink: MetricsSink) -> dict[str, Any]:
    """Write `kb.jsonl`, `train.jsonl`, `valid.jsonl`, `test.jsonl`, `values.json`, `requests.json` and `stats.json` into `out`.

    Turns are streamed; memory holds the knowledge base and about 70 bytes a dialogue.

    Args:
        cfg: The section `dialogues`.
        root: Project root, to which `cfg.path` is relative.
        out: Folder to fill.
        sink: Receives the progress and the counts.

    Returns:
        The content of `stats.json`: the setting, the knowledge base, each split, and excluded records by reason.

    Raises:
        DataError: Malformed records (all of them at once) unless they are to be skipped, a missing or damaged file, or a split
            without a turn.
        ParamsError: The data set does not support the params.
    """
    source = _READERS[cfg.kind](cfg, root=root)
    source = replace(source, stream=_limited(source, cfg.limit)) if cfg.limit else source
    if cfg.renew.values or cfg.renew.distractors:
        source = renew(source, cfg.renew, setting=cfg.setting)
    source = restrict_dynamic_values(source, cfg)
    kb = checked_kb(source.entities)
    checks = TurnChecks(kb, source.log)
    out.mkdir(parents=True, exist_ok=True)
    splits: dict[str, Any] = {}
    named: set[str] = set()
    few = cfg.limit is not None and cfg.setting == "condensed"
    reader: RequestReader | None = None
    for number, split in enumerate(SPLITS, start=1):
        tally = SplitStats()
        turns = _for_setting(checks.sound(source.turns(split), split), cfg)
        turns = _noting(turns, named) if few else turns
        place = splits_of(out)[split]
        write_turns(place, tally.watch(turns if reader is None else with_counts(turns, reader, kb)))
        if split == "train":
            lexicon = learn_requests(read_turns(place), ValueIndex(kb), cfg.requests)
            lexicon.write(out)
            if cfg.requests.count:
                reader, tally = RequestReader(kb, lexicon), SplitStats()
                write_turns(place, tally.watch(with_counts(read_turns(place), reader, kb)))
        splits[split] = tally.to_json()
        sink.progress(number, len(SPLITS), unit="splits")
    _stop_if_bad(source, splits, cfg)
    # Rows of dialogues beyond the limit could never be retrieved, but would have to be embedded.
    entities = [e for e in source.entities if e.id in named] if few else source.entities
    write_kb(out / KB, entities)
    _write_json(out / VALUES, list(source.values))
    stats = _stats(source, entities, splits, cfg)
    _write_json(out / STATS, stats)
    sink.log({f"data/num_turns_{split}": float(splits[split]["turns"]) for split in SPLITS}, step=0)
    sink.log({"data/num_entities": float(len(entities))}, step=0)
    return stats


def _limited(source: DialogueSource, limit: int) -> Callable[[Split], Iterator[Turn]]:
    """Return a stream of the first `limit` dialogues of each split; what comes after them is not read."""

    def stream(split: Split) -> Iterator[Turn]:
        number, last = 0, None
        for turn in source.turns(split):
            if turn.dialogue != last:
                number, last = number + 1, turn.dialogue
            if number > limit:
                return
            yield turn

    return stream


def _for_setting(turns: Iterator[Turn], cfg: DialoguesParams) -> Iterator[Turn]:
    """Drop the knowledge bases of single turns in the large-scale setting."""
    return turns if cfg.setting == "condensed" else (replace(turn, kb=()) for turn in turns)


def _noting(turns: Iterator[Turn], named: set[str]) -> Iterator[Turn]:
    """Yield the turns and note the entities that they name."""
    for turn in turns:
        named.update(turn.kb, turn.gold_entities)
        yield turn


def _stop_if_bad(source: DialogueSource, splits: Mapping[str, Any], cfg: DialoguesParams) -> None:
    count = source.log.left_out["malformed"]
    if count and cfg.on_bad_record == "error":
        records = "1 record is" if count == 1 else f"{count} records are"
        raise DataError(f"{records} malformed; correct them, or set `dialogues.on_bad_record` to `skip`", source.log.problems)
    empty = [split for split in splits if not splits[split]["turns"]]
    if empty:
        seen = f"0 (left out: {dict(source.log.left_out)})"
        rule = "must leave at least one turn by the system"
        raise DataError("A split of the dialogues is empty", [Problem(f"split `{split}`", rule, seen) for split in empty])


def _stats(source: DialogueSource, entities: Sequence[Entity], splits: Mapping[str, Any], cfg: DialoguesParams) -> dict[str, Any]:
    return {
        "kind": cfg.kind,
        "setting": cfg.setting,
        "limit": cfg.limit,
        "kb": kb_stats(entities),
        "values": len(source.values),
        "splits": dict(splits),
        "left_out": dict(sorted((+source.log.left_out).items())),
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
