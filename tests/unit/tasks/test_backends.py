"""`tasks.backends`: the same source by both backends gives the same scores and signals."""

from dataclasses import dataclass

import numpy as np
import pytest
from support import http_source as _shared

from models.errors import BackendError, DataError
from models.lm.prompts import TextItem
from models.lm.source_file import write_source
from models.params.runtime import Runtime
from models.params.teach import SignalParams
from models.schema import Message
from tasks import workspace
from tasks.backends import endpoint, open_teacher
from tasks.caching import _endpoint_failed

ITEMS = [TextItem(f"t{i}", [Message("user", f"question {i}")], text) for i, text in enumerate(["It is 42.", "", "東京"])]


@pytest.fixture
def folder(pico, tmp_path, monkeypatch):
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path))
    workspace.project_root.cache_clear()
    write_source(tmp_path, pico("llama").source)
    yield tmp_path
    workspace.project_root.cache_clear()


def forced(folder, cfg, runtime):
    with open_teacher(cfg, folder, overflow="truncate_left", runtime=runtime) as teacher:
        spec = teacher.spec(corpus_digest="c", top_k=3, kind="ground_truth")
        return spec, list(teacher.force(ITEMS, 3, lambda _: None))


def test_both_backends_agree(folder, pico, endpoint):
    source = pico("llama")
    endpoint.answer = _shared.vllm(source)
    spec, here = forced(folder, SignalParams(top_k=3), Runtime(device="cpu"))
    runtime = Runtime(device="cpu", endpoints={source.source.name: endpoint.url}, timeout_s=20)
    other, there = forced(folder, SignalParams(top_k=3, backend="http"), runtime)
    assert spec == other
    for (signals, score), (far, far_score) in zip(here, there, strict=True):
        assert score.nll == pytest.approx(far_score.nll, abs=1e-3)
        assert (score.num_tokens, score.num_bytes, score.lossless) == (
            far_score.num_tokens,
            far_score.num_bytes,
            far_score.lossless,
        )
        assert np.array_equal(signals.token_ids, far.token_ids)
        assert np.allclose(signals.topk_logprobs.astype(float), far.topk_logprobs.astype(float), atol=5e-3)


def test_an_endpoint_that_is_not_named(folder):
    with pytest.raises(BackendError, match=r"`runtime\.endpoints` must name the server of"):
        forced(folder, SignalParams(backend="http"), Runtime(device="cpu"))


@dataclass
class Failed:
    """Stands for Prefect's state of a failed task run."""

    error: Exception

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BackendError("is away", transient=True), True),
        (BackendError("refuses the key"), False),
        (DataError("Bad rows", []), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_only_transient_errors_are_retried(error: Exception, again: bool) -> None:
    assert _endpoint_failed(None, None, Failed(error)) is again  # type: ignore[arg-type]


def test_an_endpoint_without_address_fails_at_once_with_the_setting() -> None:
    with pytest.raises(BackendError, match=r"must name the server of `b`, but has a\. Add `-S runtime.endpoints.b=") as caught:
        endpoint("b", runtime=Runtime(endpoints={"a": "http://127.0.0.1:1"}))
    assert not caught.value.transient


def test_the_key_comes_from_the_environment_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-general")
    monkeypatch.setenv("FUSEDIAL_KEY_MY_JUDGE_1", "sk-special")
    runtime = Runtime(endpoints={"my-judge.1": "http://127.0.0.1:1", "other": "http://127.0.0.1:1"})
    for name, key in (("my-judge.1", "sk-special"), ("other", "sk-general")):
        with endpoint(name, runtime=runtime) as client:
            assert client._http._headers["Authorization"] == f"Bearer {key}"
            assert key not in repr(client) and client.model == name
