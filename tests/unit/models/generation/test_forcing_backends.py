"""`tasks.forcing`: the same source by both backends gives the same scores and signals."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from models.errors import BackendError
from models.fusion.scoring import TextItem
from models.generation.source_file import write_source
from models.params.runtime import Runtime
from models.params.teach import SignalParams
from models.schema import Message
from tasks import workspace
from tasks.forcing import open_teacher

_spec = importlib.util.spec_from_file_location("http_teacher_tests", Path(__file__).with_name("test_http_teacher.py"))
assert _spec and _spec.loader
_shared = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_shared)

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


def test_both_backends_say_the_same(folder, pico, endpoint):
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
