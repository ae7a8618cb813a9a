"""The OpenAI responder against servers that others wrote: `transformers serve`, and MLflow's AI gateway.

Both stand before the same tiny causal model, so that their answers must be those of the model in process.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.data.dialogue import Entity, Turn
from models.errors import BackendError
from models.generation.answer_cache import AnswerCache
from models.generation.causal_responder import CausalResponder
from models.generation.chat_prompt import ChatPrompt
from models.generation.demonstrations import DemonstrationPool
from models.generation.dialogue_item import Answer, DialogueItem, RetrievedEntity
from models.generation.http import OpenAiClient, RetryPolicy
from models.generation.in_context import InContext
from models.generation.loading import LoadedSource, load_source
from models.generation.openai_responder import OpenAiResponder
from models.generation.prompts import PromptItem
from models.generation.resolve import resolve_source
from models.generation.responses import generate_responses
from models.params.dialogue import MetaKnowledgeParams
from models.params.sources import SourceSpec
from models.params.teach import ResponseParams
from models.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.schema import Message
from models.tokenization.chat import PRESETS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
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
    """Run a server until the block ends; it must answer its health page within two minutes."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1", **(extra or {})}
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
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


@pytest.fixture(scope="module")
def engine(source: LoadedSource) -> Iterator[str]:
    """What the gateway forwards to: the model behind the plainest chat endpoint."""
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = PromptItem("x", [Message(m["role"], m["content"]) for m in body["messages"]])
            with guard:
                [made] = generate_responses(source, [prompt], ResponseParams(max_new_tokens=body["max_tokens"]))
                answer = CausalResponder(source, CONTEXT)._count(prompt.messages)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": made.text},
                "finish_reason": "length" if made.finish == "length" else "stop",
            }
            usage = {"prompt_tokens": answer, "completion_tokens": made.num_tokens, "total_tokens": answer + made.num_tokens}
            reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice], "usage": usage}
            data = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def gateway(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's tracking server with an endpoint `chat` of its AI gateway."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    # The gateway forwards to public https addresses only, unless its operator allows more.
    allowed = {"MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true", "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "http,https"}
    allowed |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    url = f"http://127.0.0.1:{port}"
    with started(command, health=f"{url}/health", log=folder / "server.log", extra=allowed):
        _make_endpoint(url, engine)
        yield f"{url}/gateway/mlflow/v1"


def _make_endpoint(url: str, engine: str) -> None:
    from mlflow.entities import GatewayEndpointModelConfig, GatewayModelLinkageType
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    store = RestStore(lambda: MlflowHostCreds(url))
    secret = store.create_gateway_secret("engine", {"api_key": "none"}, provider="ollama", auth_config={"api_base": engine})
    made = store.create_gateway_model_definition("tiny", secret.secret_id, provider="ollama", model_name="tiny")
    config = GatewayEndpointModelConfig(made.model_definition_id, GatewayModelLinkageType.PRIMARY, 1.0)
    store.create_gateway_endpoint("chat", [config], usage_tracking=False)


def test_mlflow_gateway(gateway: str, expected: list[Answer], tmp_path: Path) -> None:
    check(gateway, "chat", expected, tmp_path, missing="another-model")
