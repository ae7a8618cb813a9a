"""Bad input, outages and a full disk: one clear error each, nothing half-written served, nothing finished lost."""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from sandbox import Done, Record, Sandbox

SHARD = ("signals", "solver", "shard-00000", "ground_truth", "shard-00000.safetensors")
FILES = ("-S", "corpus.kind=files", "-S", "corpus.sets=[{name: mine, path: data/mine.jsonl}]")
SHORT_CONTEXT = ("-S", "sources.models[0].context_length=60", "-S", "teach.responses.max_new_tokens=36")
OTHER_TOKENIZER = ("-S", "sources.models[2].pico.vocab_size=310")
CLOSED_PORT = "http://127.0.0.1:9"

# Runs the command line in a process where things go wrong; its own arguments follow.
MAIN = "\nfrom flows.cli import main\nmain()\n"
FULL_DISK = """
import errno, os
fsync, left = os.fsync, [4]
def refuse(handle):
    left[0] -= ".safetensors" in os.readlink(f"/proc/self/fd/{handle}")
    if left[0] < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync(handle)
os.fsync = refuse
"""
NO_WAITING = """
import time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.05))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A finished project, what is done to it, the command that must refuse, and a command that must work afterwards.

    `says` are regular expressions: where, what, the value, what to do. `around` is Python run before the command line's main.
    """

    says: tuple[str, ...]
    words: tuple[str, ...]
    edit: Callable[[Sandbox], object] = lambda _: None
    before: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    around: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the command said, which steps were finished then, which files were not; and the command after it."""

    project: Sandbox
    done: Done
    finished: Mapping[str, Record]
    torn: tuple[str, ...]
    after: Done | None
    ran_after: Counter[str]


def bad_records(project: Sandbox) -> None:
    """Line 2 is torn, the response of line 3 is empty, line 4 has the id of line 1."""
    good = '{"id": 1, "instruction": "Say it.", "output": "It."}'
    torn = '{"instruction": "a", "output'
    empty = '{"instruction": "a", "output": "  "}'
    (project.root / "data").mkdir()
    (project.root / "data" / "mine.jsonl").write_text(
        "\n".join([good, torn, empty, good.replace("It.", "That.")]) + "\n", encoding="utf-8"
    )


def model_without_template(project: Sandbox) -> None:
    folder = project.root / "data" / "bare"
    shutil.copytree(project.out("sources", "models", "solver"), folder)
    for name in ("chat_template.jinja", "manifest.json", "source.json"):
        (folder / name).unlink()


def truncate_shard(project: Sandbox) -> None:
    path = project.out("teach", *SHARD)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:1000])


def forget_teach(project: Sandbox) -> None:
    project.forget("teach", "fuse", "evaluate_fusion", "report")


CASES = {
    "bad records": Case(
        (
            r"3 records are malformed; correct them, or set `corpus.on_bad_record` to `skip`",
            r"data/mine.jsonl:2 must be one JSON object a line, but is malformed at column 22 \(",
            r"data/mine.jsonl:3 must have text in `output`, but is '  '",
            r"data/mine.jsonl:4 must have a unique id, but is the same as data/mine.jsonl:1\. Rename",
        ),
        ("run", "prepare", *FILES),
        edit=bad_records,
    ),
    "unknown param": Case(
        (r"`fusion.betta` is not a known key \(-S\)\. Did you mean `fusion.beta`\?",),
        ("run", "pipeline", "-S", "fusion.betta=0.2"),
    ),
    "wrong type": Case(
        (r"`fusion.beta` must be a number, but is \"high\" \(-S\)",),
        ("run", "pipeline", "-S", "fusion.beta=high"),
    ),
    "missing source folder": Case(
        (r"`sources.models\[scholar\].model` must be an existing folder, .* but is ./data/none\. .*data/README.md says where",),
        ("run", "sources", "-S", "sources.models[0]={model: ./data/none, pico: null}"),
    ),
    "missing data of a profile": Case(
        (
            r"profile `real-skills` cannot find its data",
            r"`corpus.sets\[0\].path` must be an existing file or folder, but is data/external/\S+\. .*data/README.md says where",
        ),
        ("run", "prepare", "--profile", "real-skills"),
    ),
    "no chat template": Case(
        (r"tokenizer of source `scholar` has no chat template", r"Set `chat_template` of this source to one of vicuna, "),
        ("run", "sources", "-S", "sources.models[0]={model: data/bare, pico: null, chat_template: null}"),
        edit=model_without_template,
    ),
    "prompt too long": Case(
        (
            r"Prompts that `scholar` cannot read \(\d+\)",
            r"`\w+-train-\d+` must have a prompt of at most 24 tokens of `scholar`, but is \d+\. Shorten it, or set",
        ),
        ("run", "pipeline", *SHORT_CONTEXT, "-S", "teach.prompt_overflow=error", "-S", "runtime.workers=2"),
        then=("run", "teach", *SHORT_CONTEXT),
    ),
    "truncated shard": Case(
        (rf"teach/{'/'.join(SHARD)} must have \d+ bytes, but has 1000", r"Run `python -m flows run teach[^`]*` again"),
        ("run", "fuse", "--method", "sft"),
        edit=truncate_shard,
        then=("run", "teach"),
    ),
    "changed tokenizer": Case(
        (
            r"`tokenizer_digest` of the signal store `\S+` must be '\w{64}', but is '\w{64}' \(source `warden`\)",
            r"run `teach` again",
        ),
        ("run", "fuse", "--method", "sft", *OTHER_TOKENIZER),
        before=("run", "sources", *OTHER_TOKENIZER),
    ),
    "endpoint away": Case(
        (
            rf"{CLOSED_PORT}/v1/completions \(model `scholar`\) must be reachable, but is not",
            r"Check that the server runs and that `runtime.endpoints` names its address",
        ),
        ("run", "teach", "-S", "teach.responses.backend=http", "-S", f"runtime.endpoints.scholar={CLOSED_PORT}"),
        around=NO_WAITING,
    ),
    "loss not finite": Case(
        (
            r"Training step \d of 3 .* must be finite, but the loss is nan",
            r"Samples with a loss that is not finite: `\w+-train-\d+`",
            r"lower `fusion.lr`",
        ),
        ("run", "fuse", "--method", "sft", "-S", "fusion.lr=1e38", "-S", "fusion.warmup_ratio=0"),
    ),
    "full disk": Case(
        (r"`\S+/shard-00000.safetensors` cannot be written \(\d+ bytes wanted\): No space left on device\. Free space",),
        ("run", "teach"),
        edit=forget_teach,
        then=("run", "teach"),
        around=FULL_DISK,
    ),
}


def answer(case: Case, project: Sandbox) -> Answer:
    """Apply the case to a project and run its commands."""
    case.edit(project)
    if case.before:
        project.must(*case.before)
    done = project.run(sys.executable, "-c", case.around + MAIN, *case.words)
    finished = project.records()
    torn = tuple(p.name for p in (project.root / ".cache" / "work").glob("*/out/**/*") if p.is_file())
    after = project.flows(*case.then) if case.then else None
    return Answer(project, done, finished, torn, after, project.ran_since(finished))


SCENARIOS = {name: partial(answer, case) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name: str, outcome: Callable[[str], Any]) -> None:
    said: Answer = outcome(name)
    done, after = said.done, said.after
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    problem = [line for line in done.err.splitlines() if not line.startswith("WARNING models.lm.http: ")]
    assert [line.startswith("error ") for line in problem] == [True] + [False] * (len(problem) - 1), done.err
    assert all(line.startswith(("  - ", "  … ")) for line in problem[1:]), done.err
    for says in CASES[name].says:
        assert re.search(says, done.err), f"{says}\nis not in\n{done.err}"
    assert after is None or after.code == 0, after.err


def test_truncated_prompts_are_counted(outcome: Callable[[str], Any]) -> None:
    said: Answer = outcome("prompt too long")
    cut: Counter[str] = Counter()
    for manifest in said.project.manifests("teach", "responses").values():
        meta = json.loads(manifest)["meta"]
        cut[meta["source"]] += meta["truncated_prompts"]
    refused = re.search(r"cannot read \((\d+)\)", said.done.err)
    assert refused and cut["scholar"] >= int(refused[1]) > 0 == cut["solver"]


def test_a_truncated_shard_comes_back_from_the_store(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    said: Answer = outcome("truncated shard")
    assert said.ran_after == {}, "its bytes are still in the store"
    assert said.project.out("teach", *SHARD).read_bytes() == smoke.out("teach", *SHARD).read_bytes()


def test_an_outage_is_reported_once_per_attempt(outcome: Callable[[str], Any]) -> None:
    """Eight requests are in flight, each tried six times, in three attempts of the step."""
    said: Answer = outcome("endpoint away")
    waits = [line for line in said.done.err.splitlines() if "Trying again in" in line]
    assert 5 <= len(waits) <= 3 * 5


def test_after_a_full_disk_the_work_goes_on(outcome: Callable[[str], Any], smoke: Sandbox) -> None:
    said: Answer = outcome("full disk")
    assert said.torn == (), "nothing half-written is left"
    assert 0 < len(said.finished)
    now = said.project.records()
    assert {key: now[key] for key in said.finished} == said.finished, "a finished shard must not be computed again"
    assert said.project.manifests("teach") == smoke.manifests("teach")
