"""Stage `prepare`: read, validate and split data sets, or generate the embedded world."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.data.corpus import write_examples
from models.data.embedded import write_world
from models.data.fate import REASONS, Fates, decide_fates
from models.data.overlap import overlap_share
from models.data.readers import read_set
from models.data.split import TEST, TRAIN, VALID
from models.data.stats import split_stats
from models.data.survey import ProblemLog, SetSurvey, survey_set
from models.errors import DataError, Problem
from models.metrics_sink import MetricsSink
from models.params.corpus import CorpusParams
from models.schema import Example

SPLITS = {"train": TRAIN, "valid": VALID, "test": TEST}


@dataclass(frozen=True, slots=True)
class PrepareRecord:
    """What `prepare` wrote: rows of each split and of each reason for being left out; families in the training data."""

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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "families": list(self.families)}


def prepare_corpus(cfg: CorpusParams, *, root: Path, out: Path, sink: MetricsSink) -> PrepareRecord:
    """Write `train.jsonl`, `valid.jsonl`, `test.jsonl` and `stats.json` into `out`.

    The embedded world also gets `pretrain/<family>.jsonl` and `preferences.jsonl` (for the sources and the reward model). Data
    sets are streamed, once to survey them and once for each split; memory grows by 28 bytes a row.

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
    sink.log({f"data/num_{split}": float(stats["splits"][split]["rows"]) for split in SPLITS}, step=0)
    return record


def _write_files(cfg: CorpusParams, *, root: Path, out: Path, sink: MetricsSink) -> dict[str, Counter[str]]:
    log = ProblemLog()
    surveys = []
    for number, data in enumerate(cfg.sets, start=1):
        surveys.append(survey_set(data, root=root, seed=cfg.seed, log=log))
        sink.progress(number, len(cfg.sets), unit="data sets")
    fates = decide_fates(surveys, cfg, log=log)
    if log.problems and cfg.on_bad_record == "error":
        records = "1 record is" if log.count == 1 else f"{log.count} records are"
        raise DataError(f"{records} malformed; mend them, or set `corpus.on_bad_record` to `skip`", log.problems)
    _stop_if_empty(surveys, log)
    left_out = {s.cfg.name: _left_out(s, f) for s, f in zip(surveys, fates, strict=True)}
    if not any((f == TRAIN).any() for f in fates):
        why = {name: dict(counts) for name, counts in left_out.items()}
        problem = Problem("`corpus.sets`", "must leave at least one row for training", f"0 rows (left out: {why})")
        raise DataError("There is nothing to train on", [problem])
    for split, code in SPLITS.items():
        write_examples(out / f"{split}.jsonl", _rows(surveys, fates, code, root=root))
    return left_out


def _stop_if_empty(surveys: Sequence[SetSurvey], log: ProblemLog) -> None:
    """A set without one well-formed row is a file of another kind, whatever `on_bad_record` says."""
    for survey in surveys:
        if not survey.num_rows and not {"too_short", "too_long"} & survey.left_out.keys():
            where = f"{survey.cfg.path}:"
            seen = [p for p in log.problems if p.where.startswith(where)][:3]
            rule = f"must have at least one row of the format `{survey.cfg.format}`"
            problem = Problem(survey.cfg.path, rule, f"a file with {survey.left_out.get('malformed', 0)} malformed rows")
            raise DataError(f"Data set `{survey.cfg.name}` has nothing to read", [problem, *seen])


def _rows(surveys: Sequence[SetSurvey], fates: Sequence[Fates], code: int, *, root: Path) -> Iterator[Example]:
    for survey, fate in zip(surveys, fates, strict=True):
        row = 0
        for record in read_set(survey.cfg, root=root):
            if isinstance(record.outcome, Example):
                if row >= len(fate) or record.number != survey.lines[row]:
                    raise _changed(survey)
                if fate[row] == code:
                    yield record.outcome
                row += 1
        if row != len(fate):
            raise _changed(survey)


def _changed(survey: SetSurvey) -> DataError:
    return DataError(
        f"Data set `{survey.cfg.name}` cannot be read",
        [Problem(survey.cfg.path, "must not change while it is read", hint="Run the stage again.")],
    )


def _left_out(survey: SetSurvey, fates: Fates) -> Counter[str]:
    counts = Counter(survey.left_out)
    for code, reason in REASONS.items():
        counts[reason] += int(np.count_nonzero(fates == code))
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
    return PrepareRecord(**rows, **stats["left_out"], families=tuple(stats["splits"]["train"]["families"]))
