"""The OpenAI responder against a server that others wrote: `transformers serve`.

Both serve the same tiny causal model, so that their answers must be those of the model in process.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.dialogue.data.records import Entity, Turn
from models.dialogue.generators.base import Answer, DialogueItem, RetrievedEntity
from models.dialogue.generators.causal import CausalResponder
from models.dialogue.generators.demonstrations import DemonstrationPool
from models.dialogue.generators.in_context import ChatPrompt, InContext
from models.dialogue.generators.openai import AnswerCache, OpenAiResponder
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.errors import BackendError
from models.lm.http import OpenAiClient, RetryPolicy
from models.lm.loading import LoadedSource, load_source
from models.lm.resolve import resolve_source
from models.params.dialogue import MetaKnowledgeParams
from models.params.sources import SourceSpec
from models.tokenization.chat import PRESETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]
SERVING = ("fastapi", "uvicorn", "pydantic", "openai")  # what transformers' extra `serving` brings
ENTITIES = tuple(
    RetrievedEntity(r, Entity(f"e{r}", "food", {"name": f"house {r}", "area": "north"}), EntityMeta(r + 1, 0.9, False))
    for r in range(2)
)
ITEMS = [DialogueItem(f"z{i}#0", "food", (f"some food in town {i} ?",), ENTITIES[: i + 1]) for i in range(2)]
POOL = DemonstrationPool([Turn("a#0", "a", 0, "food", ("a little town",), "the town had a bell .")])
CONTEXT = InContext(
    ChatPrompt(MetaKnowledge(MetaKnowledgeParams(), style="chat_prompt")), pool=POOL, demonstrations=1, max_new_tokens=10
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, pico_tokenizer: Any) -> Path:
    """A folder with a random Llama of 1,500 positions and a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("served") / "tiny"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": len(pico_tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        made = LlamaForCausalLM(LlamaConfig(**sizes, **ids, max_position_embeddings=1500, initializer_range=0.2))
    made.save_pretrained(folder)
    pico_tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(PRESETS["plain"])
    return folder


@pytest.fixture(scope="module")
def source(model: Path) -> LoadedSource:
    return load_source(resolve_source(SourceSpec(name="tiny", model=str(model)), root=model), device="cpu")


@pytest.fixture(scope="module")
def expected(source: LoadedSource) -> list[Answer]:
    answers = CausalResponder(source, CONTEXT).respond(ITEMS)
    assert all(a.text and a.finish == "length" and not a.cuts for a in answers) and answers[0].text != answers[1].text
    return answers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], *, health: str, log: Path, extra: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server until the block ends; it must answer its health page within four minutes."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1", **(extra or {})}
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + 240
            while not _answers(health):
                assert server.poll() is None and time.monotonic() < deadline, f"no server:\n{log.read_text()[-3000:]}"
                time.sleep(0.3)
            yield
        finally:
            os.killpg(server.pid, 15)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, 9)
                server.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def check(base_url: str, name: str, expected: list[Answer], folder: Path, *, missing: str) -> None:
    """The answers are the model's own, counted by the server; a second run asks nothing; an unknown model is refused."""
    for _ in range(2):
        with OpenAiClient(base_url, model=name, api_key="sk-test", timeout_s=60) as client, AnswerCache(folder) as cache:
            answers = OpenAiResponder(client, CONTEXT, cache=cache).respond(ITEMS)
        assert [a.text for a in answers] == [a.text for a in expected]
        assert [a.num_prompt_tokens for a in answers] == [a.num_prompt_tokens for a in expected]
        assert [a.num_tokens for a in answers] == [a.num_tokens for a in expected]
        assert [a.finish for a in answers] == [a.finish for a in expected]
        assert len((folder / "answers.jsonl").read_text().splitlines()) == 2
    with OpenAiClient(base_url, model=missing, timeout_s=60, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(BackendError, match=missing):
            OpenAiResponder(client, CONTEXT).respond(ITEMS[:1])


@pytest.fixture(scope="module")
def transformers_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    lacking = [p for p in SERVING if importlib.util.find_spec(p) is None]
    if lacking:
        pytest.skip(f"`transformers serve` needs {', '.join(lacking)}: pip install 'transformers[serving]'")
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with started(command, health=f"http://127.0.0.1:{port}/health", log=log):
        yield f"http://127.0.0.1:{port}/v1"


def test_transformers_serve(transformers_server: str, model: Path, expected: list[Answer], tmp_path: Path) -> None:
    check(transformers_server, str(model), expected, tmp_path, missing="another-model")
