"""Peak memory of every stage as the corpus grows tenfold: each in a process of its own, the optimiser steps fixed.

All of it in a copy of the project with the smallest models. The figure is the kernel's high-water mark of the process
(`ru_maxrss`): it holds Python, NumPy, torch and the orchestration; what the corpus adds is the difference of the two.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.pipeline import copy_project, prefect_server
from models.reporting.results import ResultRow, Scalar

FACTOR = 10
_STEPS, _BATCH = 4, 16
_PROMPTS, _DIALOGUES, _ENTITIES = 240, 60, 30
# Growth below this cannot be distinguished from what the allocator and the order of imports do from run to run.
LIMIT = 1.10


class Step(NamedTuple):
    """One process: its name in the table, and the words behind `python -m flows run`."""

    name: str
    words: tuple[str, ...]


STEPS = (
    Step("prepare", ("prepare",)),
    Step("sources", ("sources",)),
    Step("teach", ("teach",)),
    Step("fuse", ("fuse", "--method", "profuser")),
    Step("evaluate_fusion", ("evaluate_fusion",)),
    Step("train_dialogue", ("train_dialogue", "--variant", "prompt")),
    Step("evaluate_dialogue", ("evaluate_dialogue",)),
    Step("report", ("report",)),
)


def measure() -> list[ResultRow]:
    peaks: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = copy_project(Path(folder) / "project")
        with prefect_server(place) as environment:
            for scale in (1, FACTOR):
                name = f"memory-{scale}x"
                (place / "profiles" / f"{name}.yaml").write_text(profile(place, scale), encoding="utf-8")
                peaks[scale] = {s.name: peak_megabytes(s, name, place, environment) for s in STEPS}
    return [row(s.name, peaks[1][s.name], peaks[FACTOR][s.name]) for s in STEPS]


def row(name: str, small: float, large: float) -> ResultRow:
    added = (FACTOR - 1) * (_DIALOGUES if "dialogue" in name else _PROMPTS)
    more: dict[str, Scalar] = {
        "mb_1x": small,
        f"mb_{FACTOR}x": large,
        "growth_mb": large - small,
        "kb_per_dialogue" if "dialogue" in name else "kb_per_prompt": 1000 * (large - small) / added,
        "target": f"flat: <= {LIMIT}",
    }
    return ResultRow(f"memory of {name}, corpus {FACTOR}x / 1x", large / small, "ratio", more=more)


def profile(place: Path, scale: int) -> str:
    """Return the smallest profile with `scale` times the data and the same number of optimiser steps."""
    from ruamel.yaml import YAML
    from ruamel.yaml.compat import StringIO

    yaml = YAML()
    with (place / "profiles" / "smoke.yaml").open(encoding="utf-8") as file:
        tree = yaml.load(file)
    prompts = _PROMPTS * scale
    tree["corpus"]["world"] = {
        "num_entities": 24 * scale, "num_train": prompts, "num_valid": 12 * scale, "num_test": 60 * scale,
        "num_pretrain": 300 * scale,
    }  # fmt: skip
    for model in tree["sources"]["models"]:
        model["pico"]["steps"] = _STEPS
    tree["sources"]["reward_models"][0]["steps"] = _STEPS
    # Small batches are full at both sizes: a fuller one is no growth.
    tree["teach"] |= {
        "shard_size": 120, "responses": {"max_new_tokens": 4, "batch_size": 16}, "signals": {"batch_tokens": 1024},
    }  # fmt: skip
    tree["fusion"] |= {"epochs": _STEPS * _BATCH / prompts, "batch_size": _BATCH}
    tree["evaluation"] = {"max_new_tokens": 4, "bootstrap_samples": 100, "batch_size": 16, "batch_tokens": 1024}
    tree["dialogues"] = {"town": {"num_entities": _ENTITIES * scale, "num_dialogues": _DIALOGUES * scale}}
    tree["dialogue_evaluation"] = {"recall_at": [1, 3], "bootstrap_samples": 100, "batch_size": 8, "in_context": []}
    text = StringIO()
    yaml.dump(tree, text)
    return text.getvalue()


def peak_megabytes(step: Step, profile_name: str, place: Path, environment: Mapping[str, str]) -> float:
    """Run a step in a process of its own; return the high-water mark of its resident set, 10⁶ bytes."""
    one_each = ("-S", "methods=[profuser]", "-S", "variants=[prompt]")
    command = [sys.executable, "-m", "flows", "run", *step.words, "--profile", profile_name, *one_each]
    log = place / ".cache" / "step.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=output, stderr=output)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"`{' '.join(command[1:])}` failed:\n{log.read_text(encoding='utf-8')[-4000:]}")
    # A child's peak begins with its parent's: it would hide what lies below.
    if used.ru_maxrss <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        raise SystemExit("the measuring process itself takes as much memory as the stage: measure in a smaller one")
    return used.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    for found in measure():
        sys.stdout.write(f"{found.name:56s} {found.value:.3f} {found.more}\n")
