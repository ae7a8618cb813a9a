"""`evaluate_dialogue` with a generator behind an endpoint: its figures, and what is left when the endpoint fails half-way."""

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_RESULTS_LOCAL_STORAGE_PATH, temporary_settings
from support.endpoint import Reply, ok, served

from flows.context import StageContext
from flows.evaluate_dialogue import evaluate_dialogue
from flows.known_errors import explain
from flows.prepare import prepare_stage
from flows.train_dialogue import train_dialogue_stage
from models.dialogue.data.records import read_turns
from models.errors import BackendError
from tasks import workspace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret-123"
SMALL = ("variants=[prompt]", "tracking.log_models=false", "runtime.threads=1", "runtime.concurrency=2", "runtime.progress=false")
TURNS, STYLES = 4, ("none", "prompt")
HANG_S = 30.0


@dataclass
class Clerk:
    """A chat server that knows the reference of each held-out dialogue; it may start to fail after some answers.

    Attributes:
        references: Context → what the system said.
        answers_left: Answers until it fails; None = it never does.
        fault: What it does then: `500`, `broken JSON` or `time-out`.
        url: Its address.
        asked: Every request: path, body, headers.
        answered: The bodies of those that got an answer.
    """

    references: dict[tuple[str, ...], str]
    answers_left: int | None = None
    fault: str = ""
    url: str = ""
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def reply(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self.guard:
            self.asked.append((path, body, headers))
            well = self.answers_left is None or self.answers_left > 0
            if well:
                self.answers_left = None if self.answers_left is None else self.answers_left - 1
                self.answered.append(json.dumps(body, sort_keys=True))
        if not well:
            return self._fail()
        choice = {"message": {"role": "assistant", "content": self.references[context_of(body)]}, "finish_reason": "stop"}
        return ok({"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 7}})

    def _fail(self) -> Reply:
        if self.fault == "time-out":
            self.closing.wait(HANG_S)
        return (500, {}, b"the clerk is down") if self.fault == "500" else (200, {}, b'{"choices": [{"mess')

    def fails_with(self, fault: str, *, after: int) -> None:
        self.fault, self.answers_left = fault, after


def context_of(body: dict[str, Any]) -> tuple[str, ...]:
    """Return the dialogue that a prompt ends with."""
    _, _, dialogue = body["messages"][-1]["content"].partition("Dialogue:\n")
    return tuple(line.partition(": ")[2] for line in dialogue.splitlines())


@pytest.fixture(scope="module")
def project(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with the smoke profile whose dialogues are prepared and whose agent is trained; each test adds a generator."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy2(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "profiles", root / "profiles")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workspace.ROOT_VARIABLE, str(root))
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("OPENAI_API_KEY", raising=False)
        workspace.project_root.cache_clear()
        with temporary_settings({PREFECT_RESULTS_LOCAL_STORAGE_PATH: root / ".cache" / "results"}):
            train()
            yield root
    workspace.project_root.cache_clear()


@flow
def train() -> None:
    ctx = StageContext.load(profile="smoke", overrides=SMALL)
    prepare_stage(ctx, halves=("dialogue",))
    train_dialogue_stage(ctx, variant="prompt")


@pytest.fixture
def clerk(project: Path) -> Iterator[Clerk]:
    turns = list(read_turns(project / "artifacts/smoke/prepare/dialogues/test.jsonl"))
    state = Clerk({turn.context: turn.response for turn in turns})

    with served(state.reply) as state.url:
        yield state
        state.closing.set()


def evaluate(clerk: Clerk, name: str, *words: str) -> None:
    """Run the stage with the clerk as generator `name`."""
    generator = f"{{name: {name}, kind: openai, model: town-clerk, retriever: prompt, limit: {TURNS}, max_new_tokens: 8}}"
    asked = f"dialogue_evaluation.in_context=[{generator}]"
    evaluate_dialogue(profile="smoke", overrides=[*SMALL, asked, f"runtime.endpoints.{name}={clerk.url}", *words])


def figures(project: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a generator in the comparison, over all domains: meta knowledge → metric → row."""
    path = project / "artifacts/smoke/evaluate_dialogue/comparison/dialogue_scores.json"
    found: dict[str, dict[str, Any]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["table"]:
        if row["system"] == name and row["domain"] == "all":
            assert (row["kind"], row["retriever"]) == ("in_context", "prompt")
            found.setdefault(row["meta_knowledge"], {})[row["metric"]] = row
    return found


def said(project: Path, name: str, style: str) -> list[tuple[str, str]]:
    """Return (response, reference) of a generator's rows."""
    folder = project / "artifacts/smoke/evaluate_dialogue/rows" / f"in_context-{name}-{style}"
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    turns = {t.id: t.response for t in read_turns(project / "artifacts/smoke/prepare/dialogues/test.jsonl")}
    return [(row["response"], turns[row["id"]]) for row in rows]


def kept(project: Path) -> list[str]:
    """Return the answers in the caches of unfinished steps."""
    lines = [p.read_text(encoding="utf-8") for p in (project / ".cache" / "work").glob("*/resume/answers.jsonl")]
    return [json.loads(line)["text"] for text in lines for line in text.splitlines()]


def test_the_generator_is_compared(project: Path, clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEDIAL_KEY_REMOTE", KEY)
    evaluate(clerk, "remote")
    assert len(clerk.asked) == len(set(clerk.answered)) == TURNS * len(STYLES)
    for path, body, headers in clerk.asked:
        assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}"
        assert (body["model"], body["max_tokens"], body["temperature"]) == ("town-clerk", 8, 0.0)
        assert [m["role"] for m in body["messages"]] == ["system", *["user", "assistant"] * 2, "user"]
        assert "Entities:\n" in body["messages"][-1]["content"]
    # It repeats the reference, so its figures in the table cannot be another system's.
    found = figures(project, "remote")
    assert found.keys() == set(STYLES)
    for style in STYLES:
        assert len(said(project, "remote", style)) == TURNS
        assert all(response == reference for response, reference in said(project, "remote", style))
        assert found[style]["bleu"]["value"] == pytest.approx(100.0) and found[style]["bleu"]["n"] == TURNS
        assert found[style]["entity_f1"]["value"] == pytest.approx(1.0)
    final = json.loads((project / "reports/smoke/dialogue.json").read_text(encoding="utf-8"))
    assert final["remote + prompt"]["bleu"] == 100.0 > final["prompt"]["bleu"]
    with sqlite3.connect(project / "mlflow.db") as database:
        query = "SELECT value FROM metrics JOIN runs USING (run_uuid) WHERE name = ? AND key = 'final/bleu_all'"
        tracked = [row[0] for row in database.execute(query, ("in-context-remote-prompt",))]
    assert tracked == [pytest.approx(100.0)]
    assert [p for p in project.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []

    evaluate(clerk, "remote")
    assert len(clerk.asked) == TURNS * len(STYLES), "a finished answer is never paid twice"


def test_an_endpoint_that_fails_half_way(project: Path, clerk: Clerk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three outages of one evaluation: in its first system, in its second, and at once; then the server works again."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.02)))  # the pauses between attempts
    where = rf"{clerk.url}/v1/chat/completions \(model `town-clerk`\) "
    outages = {
        "500": (3, r"must answer with HTTP 200, but answers HTTP 500: 'the clerk is down'.*\. See the server's log\.", ()),
        "broken JSON": (2, r"must answer with a JSON object, but answers '{\"choices.*\. Check that the base URL is", ()),
        # Too short for any answer: a busy machine may be slower.
        "time-out": (0, r"must answer in time, but timed out .*\. Raise `runtime\.timeout_s`", ("runtime.timeout_s=0.2",)),
    }
    for fault, (after, says, words) in outages.items():
        clerk.fails_with(fault, after=after)
        with pytest.raises(BackendError, match=where + says) as caught:
            evaluate(clerk, "flaky", *words)
        assert clerk.answers_left == 0 and "after 6 attempts" in str(caught.value)
        assert explain(caught.value) == f"BackendError: {caught.value}", "one line, no traceback"
        in_work = len(clerk.answered) % TURNS  # the step of the first system is finished by the second outage
        assert sorted(kept(project)) == sorted(answers_to(clerk, clerk.answered[-in_work:])), "on disk, whatever came after"
    assert len(clerk.answered) == 5

    clerk.fails_with("", after=TURNS * len(STYLES) - 5)
    before = len(clerk.asked)
    evaluate(clerk, "flaky")
    missing = [json.dumps(body, sort_keys=True) for _, body, _ in clerk.asked[before:]]
    assert len(missing) == len(set(missing)) == 3 and not set(missing) & set(clerk.answered[:5])
    assert len(clerk.answered) == len(set(clerk.answered)) == TURNS * len(STYLES), "each answer was paid once"
    assert kept(project) == [], "a finished step clears up"
    found = figures(project, "flaky")
    for style in STYLES:
        assert all(response == reference for response, reference in said(project, "flaky", style))
        assert found[style]["bleu"]["value"] == pytest.approx(100.0) and found[style]["bleu"]["n"] == TURNS


def answers_to(clerk: Clerk, bodies: list[str]) -> list[str]:
    return [clerk.references[context_of(json.loads(body))] for body in bodies]
