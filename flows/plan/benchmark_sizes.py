"""Sizes of the benchmarks for the estimates of `plan`: counted in local files, else as published."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.context import StageContext
from models.corpus.file_kind import READ_ERRORS, UnsupportedFileError
from models.corpus.rows import read_rows
from models.evaluation.benchmarks.local import find_file
from models.evaluation.benchmarks.table import KNOWN
from models.params.benchmark import BenchmarkTask
from models.planning.benchmark_estimate import BenchmarkSize

# lm-evaluation-harness's own limit of a written answer.
_GENERATED = {"gsm8k": 256}
_OWN_FEWSHOT = {"gsm8k": 5}
# Bytes that a prompt adds to a row: the solved examples of truthfulqa, the subject and the letters of mmlu.
_ADDED = {"truthfulqa_mc1": 720, "truthfulqa_mc2": 720, "mmlu": 110}
_SUBJECTS = 57
# Documents, sequences of a document, bytes of one on average and at most, of the split that lm-evaluation-harness scores.
# (The four choices of mmlu are letters: they are read off one sequence.)
_PUBLISHED = {
    "arc_challenge": (1172, 4.0, 164, 560),
    "arc_easy": (2376, 4.0, 136, 500),
    "gsm8k": (1319, 1.0, 246, 990),
    "hellaswag": (10042, 4.0, 369, 900),
    "mmlu": (14042, 1.0, 559, 4900),
    "piqa": (1838, 2.0, 133, 1100),
    "truthfulqa_mc1": (817, 5.1, 825, 1100),
    "truthfulqa_mc2": (817, 7.6, 825, 1100),
    "winogrande": (1267, 2.0, 106, 190),
}


def benchmark_sizes(ctx: StageContext) -> tuple[list[BenchmarkSize], list[str]]:
    """Return the sizes of `benchmark.tasks`, and the names of those that are unknown here."""
    cfg = ctx.params.benchmark
    known: list[BenchmarkSize] = []
    unknown: list[str] = []
    for task in cfg.tasks:
        limit = task.limit or cfg.limit
        if not cfg.data:
            found = _published(task, limit)
        elif task.name in KNOWN:
            found = _counted(task, limit, ctx.root / cfg.data / KNOWN[task.name].folder)
        else:
            found = None
        if found is None:
            unknown.append(task.name)
        else:
            known.append(found)
    return known, unknown


def _published(task: BenchmarkTask, limit: int | None) -> BenchmarkSize | None:
    if task.name not in _PUBLISHED:
        return None
    documents, sequences, mean, longest = _PUBLISHED[task.name]
    if limit is not None:
        documents = min(documents, limit * (_SUBJECTS if task.name == "mmlu" else 1))
    return _size(task, documents, int(documents * sequences), mean, longest)


def _counted(task: BenchmarkTask, limit: int | None, folder: Path) -> BenchmarkSize | None:
    """Measure the rows of a local file; None where it is missing or cannot be read, which the stage will say."""
    path = find_file(folder, KNOWN[task.name].file.rpartition("/")[2])
    if path is None:
        return None
    seen: Counter[str] = Counter()
    lengths: list[int] = []
    try:
        for _, row in read_rows(path):
            if not isinstance(row, dict):
                return None
            group = str(row.get("subject", ""))
            seen[group] += 1
            if limit is None or seen[group] <= limit:
                lengths += _lengths(task.name, row)
    except (UnsupportedFileError, KeyError, TypeError, AttributeError, *READ_ERRORS):
        return None
    if not lengths:
        return None
    documents = sum(count if limit is None else min(count, limit) for count in seen.values())
    return _size(task, documents, len(lengths), sum(lengths) / len(lengths), max(lengths))


def _lengths(name: str, row: Mapping[str, Any]) -> Sequence[int]:
    """Return the bytes of every sequence of a row."""
    prompt = len(row["question"].encode()) + _ADDED.get(name, 0)
    if name == "gsm8k":
        return [prompt]
    if name == "mmlu":
        return [prompt + sum(len(choice.encode()) for choice in row["choices"])]
    if name.startswith("truthfulqa"):
        right = row["correct_answers"] if name == "truthfulqa_mc2" else [row["best_answer"]]
        return [prompt + len(answer.encode()) for answer in (*right, *row["incorrect_answers"])]
    return [prompt + len(choice.encode()) for choice in row["choices"]]


def _size(task: BenchmarkTask, documents: int, sequences: int, mean: float, longest: float) -> BenchmarkSize:
    shots = _OWN_FEWSHOT.get(task.name, 0) if task.num_fewshot is None else task.num_fewshot
    # A solved example is about as long as a row, with its answer where that is written (gsm8k: 287 bytes).
    solved = shots * (mean + (287 if task.name in _GENERATED else 0))
    generated = _GENERATED.get(task.name, 0)
    return BenchmarkSize(task.name, documents, 0 if generated else sequences, mean + solved, longest + solved, generated)
