"""Preparation of the instruction corpus: read, validate and split data sets, or generate the embedded world's."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.corpus.examples import ANSWERS, read_examples, write_examples, write_json_lines
from models.corpus.readers import read_set
from models.corpus.split import REASONS, TEST, TRAIN, VALID, ProblemLog, RowStatuses, SetRows, assign_row_statuses, read_set_rows
from models.corpus.statistics import overlap_share, split_stats
from models.errors import DataError, Problem
from models.metrics_sink import MetricsSink
from models.params.corpus import CorpusParams, TruthParams, WorldParams
from models.schema import Example, Split
from models.world.instructions import (
    FAMILIES,
    assign_items,
    known_answers,
    num_wrong,
    preference_pairs,
    pretrain_examples,
    split_examples,
)
from models.world.town import build_world

_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def write_world(cfg: WorldParams, *, out: Path) -> dict[str, Any]:
    """Generate the world of `cfg` and write its files into `out`.

    Returns:
        Counts for the statistics: pre-training rows per family, preferences, entities, and `truths` (see `PrepareRecord`) where
        they are other than usual.

    Raises:
        ParamsError: The world is too small for the rows asked for.
    """
    world = build_world(cfg.seed, num_entities=cfg.num_entities)
    assigned = assign_items(world, cfg)
    for split in _SPLITS:
        write_examples(out / f"{split}.jsonl", split_examples(assigned, split, world=world, truths=cfg.truths))
    pretrain = {
        family: write_examples(out / "pretrain" / f"{family}.jsonl", pretrain_examples(assigned, family, world=world))
        for family in FAMILIES
    }
    preferences = write_json_lines(out / "preferences.jsonl", preference_pairs(assigned, world=world))
    truths = _truths(cfg.truths, num_wrong=num_wrong(assigned, cfg.truths))
    return {
        "pretrain": pretrain,
        "preferences": preferences,
        "entities": len(world.entities),
        **({"truths": truths} if truths else {}),
    }


def _truths(cfg: TruthParams, *, num_wrong: int) -> dict[str, Any]:
    """Describe ground truths that are other than usual."""
    style: dict[str, Any] = {} if cfg.style == "detailed" else {"style": cfg.style}
    return {**style, **({"wrong": num_wrong} if num_wrong else {})}


def write_known_answers(cfg: WorldParams, *, out: Path) -> int:
    """Write the answers of all training prompts of a world into `out`; return their number. Raises as `write_world`."""
    assigned = assign_items(build_world(cfg.seed, num_entities=cfg.num_entities), cfg)
    return write_json_lines(out / ANSWERS, known_answers(assigned))


def write_shown_answers(examples: Path, *, out: Path) -> int:
    """Write the answers that examples show, those with a check, into `out`; return their number."""
    shown = (e for e in read_examples(examples) if e.answer is not None and e.check != "none")
    return write_json_lines(out / ANSWERS, ({"id": e.id, "answer": e.answer, "check": e.check} for e in shown))


SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True, slots=True)
class PrepareRecord:
    """What `prepare` wrote: rows of each split and of each reason for being left out; families in the training data.

    Attributes:
        prompts_only: Split → rows of it without a ground truth; splits without such rows are absent.
        truths: Of the embedded world: `wrong`, the number of training rows whose ground truth is wrong on purpose, and the
            `style` of the ground truths; both only where they are other than usual.
    """

    train: int
    valid: int
    test: int
    malformed: int
    too_short: int
    too_long: int
    duplicate: int
    over_limit: int
    leaked: int
    families: tuple[str, ...]
    prompts_only: Mapping[str, int] = field(default_factory=dict)
    truths: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict; `prompts_only` and `truths` are left out where they are empty."""
        row = {
            **asdict(self),
            "families": list(self.families),
            "prompts_only": dict(self.prompts_only),
            "truths": dict(self.truths),
        }
        return {key: value for key, value in row.items() if key not in ("prompts_only", "truths") or value}


def prepare_corpus(cfg: CorpusParams, *, root: Path, out: Path, sink: MetricsSink) -> PrepareRecord:
    """Write `train.jsonl`, `valid.jsonl`, `test.jsonl` and `stats.json` into `out`.

    The embedded world also gets `pretrain/<family>.jsonl` and `preferences.jsonl` (for the sources and the reward model). Data
    sets are streamed, once to index them and once for each split; memory grows by 29 bytes per row.

    Args:
        cfg: The section `corpus`.
        root: Project root, to which the paths of data sets are relative.
        out: Folder to fill.
        sink: Receives the progress and the row counts.

    Raises:
        DataError: Malformed records (all of them at once), leakage, or nothing left for training.
        ParamsError: The embedded world is too small for the rows asked for.
    """
    out.mkdir(parents=True, exist_ok=True)
    left_out: Mapping[str, Mapping[str, int]] = {}
    extra: Mapping[str, Any] = {}
    if cfg.kind == "embedded":
        extra = write_world(cfg.world, out=out)
    else:
        left_out = _write_files(cfg, root=root, out=out, sink=sink)
    stats = _stats(cfg, left_out, extra, out=out)
    (out / "stats.json").write_text(json.dumps(stats, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    record = _record(stats)
    counts = {f"data/num_{split}": float(stats["splits"][split]["rows"]) for split in SPLITS}
    counts |= {f"data/num_{split}_prompts_only": float(number) for split, number in record.prompts_only.items()}
    if wrong := record.truths.get("wrong"):
        counts["data/num_wrong_truths"] = float(wrong)
    sink.log(counts, step=0)
    return record


def _write_files(cfg: CorpusParams, *, root: Path, out: Path, sink: MetricsSink) -> dict[str, Counter[str]]:
    log = ProblemLog()
    all_rows = []
    for number, data in enumerate(cfg.sets, start=1):
        all_rows.append(read_set_rows(data, root=root, seed=cfg.seed, log=log))
        sink.progress(number, len(cfg.sets), unit="data sets")
    statuses = assign_row_statuses(all_rows, cfg, log=log)
    if log.problems and cfg.on_bad_record == "error":
        records = "1 record is" if log.count == 1 else f"{log.count} records are"
        raise DataError(f"{records} malformed; correct them, or set `corpus.on_bad_record` to `skip`", log.problems)
    _stop_if_empty(all_rows, log)
    left_out = {s.cfg.name: _left_out(s, f) for s, f in zip(all_rows, statuses, strict=True)}
    if not any((f == TRAIN).any() for f in statuses):
        why = {name: dict(counts) for name, counts in left_out.items()}
        problem = Problem("`corpus.sets`", "must leave at least one row for training", f"0 rows (left out: {why})")
        raise DataError("There is nothing to train on", [problem])
    for split, code in SPLITS.items():
        write_examples(out / f"{split}.jsonl", _rows(all_rows, statuses, code, root=root))
    return left_out


def _stop_if_empty(all_rows: Sequence[SetRows], log: ProblemLog) -> None:
    """Refuse a data set without a single well-formed row, which is a wrong file whatever `on_bad_record` says."""
    for set_rows in all_rows:
        if not set_rows.num_rows and not {"too_short", "too_long"} & set_rows.left_out.keys():
            where = f"{set_rows.cfg.path}:"
            seen = [p for p in log.problems if p.where.startswith(where)][:3]
            rule = f"must have at least one row of the format `{set_rows.cfg.format}`"
            problem = Problem(set_rows.cfg.path, rule, f"a file with {set_rows.left_out.get('malformed', 0)} malformed rows")
            raise DataError(f"Data set `{set_rows.cfg.name}` has no readable row", [problem, *seen])


def _rows(all_rows: Sequence[SetRows], statuses: Sequence[RowStatuses], code: int, *, root: Path) -> Iterator[Example]:
    for set_rows, status in zip(all_rows, statuses, strict=True):
        row = 0
        for record in read_set(set_rows.cfg, root=root):
            if isinstance(record.outcome, Example):
                if row >= len(status) or record.number != set_rows.lines[row]:
                    raise _changed(set_rows)
                if status[row] == code:
                    yield record.outcome
                row += 1
        if row != len(status):
            raise _changed(set_rows)


def _changed(set_rows: SetRows) -> DataError:
    return DataError(
        f"Data set `{set_rows.cfg.name}` cannot be read",
        [Problem(set_rows.cfg.path, "must not change while it is read", hint="Run the stage again.")],
    )


def _left_out(set_rows: SetRows, statuses: RowStatuses) -> Counter[str]:
    counts = Counter(set_rows.left_out)
    for code, reason in REASONS.items():
        counts[reason] += int(np.count_nonzero(statuses == code))
    return +counts


def _stats(
    cfg: CorpusParams, left_out: Mapping[str, Mapping[str, int]], extra: Mapping[str, Any], *, out: Path
) -> dict[str, Any]:
    total: Counter[str] = Counter({reason: 0 for reason in ("malformed", "too_short", "too_long", *REASONS.values())})
    for counts in left_out.values():
        total.update(counts)
    return {
        "kind": cfg.kind,
        "splits": {split: split_stats(out / f"{split}.jsonl") for split in SPLITS},
        "left_out": dict(total),
        "left_out_of_set": {name: dict(counts) for name, counts in left_out.items()},
        "overlap_13gram": {split: overlap_share(out / f"{split}.jsonl", out / "train.jsonl") for split in ("valid", "test")},
        **extra,
    }


def _record(stats: Mapping[str, Any]) -> PrepareRecord:
    rows = {split: stats["splits"][split]["rows"] for split in SPLITS}
    alone = {split: number for split in SPLITS if (number := stats["splits"][split].get("prompts_only", 0))}
    families = tuple(stats["splits"]["train"]["families"])
    return PrepareRecord(**rows, **stats["left_out"], families=families, prompts_only=alone, truths=stats.get("truths", {}))
