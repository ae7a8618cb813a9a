"""Task definitions for local files: lm-evaluation-harness's own, included by path, with nothing but the data replaced."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.corpus.fields import BadRecord
from models.corpus.file_kind import READ_ERRORS, UnsupportedFileError
from models.corpus.rows import read_rows
from models.errors import DataError, ParamsError, Problem
from models.evaluation.benchmarks.table import KNOWN, Benchmark, Row

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def find_file(folder: Path, stem: str) -> Path | None:
    """Return the file of JSON lines called `stem` in `folder`, also compressed; None where there is none."""
    return next((path for path in (folder / f"{stem}{suffix}" for suffix in SUFFIXES) if path.is_file()), None)


def require_file(name: str, folder: Path, *, place: str) -> Path:
    """Return the file of a benchmark's documents.

    Args:
        name: Benchmark.
        folder: Folder with its local files.
        place: What messages call `folder`.

    Raises:
        ParamsError: There are no local files for a benchmark of this name.
        DataError: The file is missing.
    """
    if name not in KNOWN:
        hint = "Leave `benchmark.data` empty to take it from the hub."
        rule = f"must be one of {', '.join(KNOWN)} where `benchmark.data` is given"
        raise ParamsError("Invalid parameters", [Problem("`benchmark.tasks[].name`", rule, f"`{name}`", hint)])
    stem = KNOWN[name].file.rpartition("/")[2]
    path = find_file(folder, stem)
    if path is None:
        hint = "Put it there, or set `benchmark.data` to the folder above (empty: from the hub)."
        problem = Problem(f"{place}/{stem}.jsonl", "must exist (or with .gz, .zst), but does not", hint=hint)
        raise DataError(f"The file of the benchmark `{name}` is missing", [problem])
    return path


def require_solved(name: str, folder: Path, *, num_fewshot: int, place: str) -> None:
    """Require the file of solved examples of a known benchmark, where some are asked for and none stand in its prompt.

    Raises:
        ParamsError: It is missing.
    """
    stem = KNOWN[name].fewshot_file
    if num_fewshot and stem and find_file(folder, stem) is None:
        rule = f"must be 0 where {place} has no `{stem}.jsonl` (or .gz) to take solved examples from"
        where = f"`benchmark.tasks[].num_fewshot` of {name}"
        raise ParamsError("Invalid parameters", [Problem(where, rule, str(num_fewshot), "Set it to 0, or put the file there.")])


def write_definitions(
    name: str, folder: Path, *, harness: Path, num_fewshot: int | None, out: Path, place: str = ""
) -> list[Path]:
    """Write data and definitions of a benchmark into `out`; one definition, for mmlu one a subject.

    Prompts, choices, metrics and filters are those of the installed lm-evaluation-harness, as its definition is included.

    Args:
        name: A name of `table.KNOWN`.
        folder: Folder with its local files.
        harness: Folder `lm_eval/tasks`.
        num_fewshot: Solved examples asked for; None is the definition's own number.
        out: Empty folder.
        place: What messages call `folder`; empty = its path.

    Returns:
        The definitions, in the order of their names.

    Raises:
        ParamsError: There are no local files for this benchmark, or none to take solved examples from.
        DataError: A file is missing, or a row is malformed.
    """
    place = place or str(folder)
    path = require_file(name, folder, place=place)
    benchmark = KNOWN[name]
    parts = {benchmark.split: _grouped(benchmark, _rows(benchmark, path, place))}
    solved = find_file(folder, benchmark.fewshot_file) if benchmark.fewshot_file else None
    if solved is not None:
        parts[benchmark.fewshot_split] = _grouped(benchmark, _rows(benchmark, solved, place))
    asked = num_fewshot if num_fewshot is not None else _own_fewshot(benchmark, harness)
    require_solved(name, folder, num_fewshot=asked, place=place)
    return [_write(benchmark, group, parts, harness=harness, out=out) for group in sorted(parts[benchmark.split])]


def _own_fewshot(benchmark: Benchmark, harness: Path) -> int:
    if "{subject}" in benchmark.definition:
        return 0
    from lm_eval.tasks._yaml_loader import load_yaml

    return int(load_yaml(harness / benchmark.definition, resolve_func=False).get("num_fewshot") or 0)


def _rows(benchmark: Benchmark, path: Path, place: str) -> list[Row]:
    title = f"The benchmark file `{path.name}` cannot be read"
    try:
        found = list(read_rows(path))
    except (UnsupportedFileError, *READ_ERRORS) as error:
        rule = f"must be JSON lines, plain or compressed ({' '.join(str(error).split())[:160]})"
        raise DataError(title, [Problem(f"{place}/{path.name}", rule, hint="Copy it again.")]) from error
    rows, problems = [], []
    for number, row in found:
        try:
            if isinstance(row, BadRecord):
                raise ValueError(row.rule)
            rows.append(benchmark.as_upstream(row))  # type: ignore[arg-type] # a row of another type fails there
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            rule = f"must have the field {error}" if isinstance(error, KeyError) else str(error)
            problems.append(Problem(f"{place}/{path.name}:{number}:", rule))
    if problems or not rows:
        raise DataError(title, problems or [Problem(f"{place}/{path.name}", "must have at least one row")])
    return rows


def _grouped(benchmark: Benchmark, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return subject → rows; one group called "" where the definition has no subjects."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row["subject"]) if "{subject}" in benchmark.definition else "", []).append(row)
    return groups


def _write(
    benchmark: Benchmark, group: str, parts: Mapping[str, Mapping[str, Sequence[Row]]], *, harness: Path, out: Path
) -> Path:
    definition = harness / benchmark.definition.format(subject=group)
    if not definition.is_file():
        raise DataError(
            "The benchmark's rows cannot be used",
            [Problem("`subject`", "must be one that lm-evaluation-harness defines", f"`{group}`", "Correct or drop the rows.")],
        )
    files = {}
    for split, groups in parts.items():
        if group in groups:
            files[split] = out / f"{group or 'all'}-{split}.jsonl"
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in groups[group])
            files[split].write_text("".join(lines), encoding="utf-8")
    other = {f"{split}_split": None for split in ("training", "validation", "test")}
    solved = benchmark.fewshot_split if benchmark.fewshot_split in files else None
    changed: dict[str, Any] = {
        "include": str(definition),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in files.items()}, "cache_dir": str(out / "cache")},
        **other,
        f"{benchmark.split}_split": benchmark.split,
        "fewshot_split": solved,
        **benchmark.changes,
    }
    path = out / f"{group or 'all'}.yaml"
    path.write_text(json.dumps(changed, indent=1), encoding="utf-8")  # JSON is YAML
    return path
