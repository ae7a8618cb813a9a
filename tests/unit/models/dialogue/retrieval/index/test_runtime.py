"""Threads, and what happens with and without a GPU."""

import logging
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from models.dialogue.retrieval.index import runtime
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.index.runtime import faiss_threads, gpu_mirror
from models.params.index import IndexParams


@pytest.fixture(autouse=True)
def _said_nothing_yet() -> Iterator[None]:
    runtime._say_once.cache_clear()
    yield
    runtime._say_once.cache_clear()


def test_threads_follow_torch_or_the_argument_and_are_put_back() -> None:
    before = faiss.omp_get_max_threads()
    with faiss_threads(3):
        assert faiss.omp_get_max_threads() == 3
        with faiss_threads(None):
            assert faiss.omp_get_max_threads() == torch.get_num_threads()
        assert faiss.omp_get_max_threads() == 3
    assert faiss.omp_get_max_threads() == before


def test_without_gpu_support_the_reason_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delattr(faiss, "StandardGpuResources", raising=False)
    with caplog.at_level(logging.INFO):
        assert gpu_mirror("cuda", kind="flat") is None
        assert gpu_mirror("cuda:1", kind="flat") is None
        assert gpu_mirror("cpu", kind="flat") is None
    assert [record.message for record in caplog.records] == [
        "The index is searched on the CPU: this FAISS has no GPU (install the extra `gpu` in place of `cpu`)."
    ]


class _Resources:
    """Stands for the GPU's memory."""


def _pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    copies: list[Any] = []

    def to_gpu(resources: _Resources, device: int, index: Any) -> Any:
        copies.append((device, type(index).__name__))
        return faiss.clone_index(index)

    monkeypatch.setattr(faiss, "StandardGpuResources", _Resources, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    return copies


@pytest.mark.parametrize(("kind", "name"), [("flat", "IndexFlatIP"), ("ivf", "IndexIVFFlat")])
def test_a_gpu_copy_is_searched_and_made_anew_after_a_change(kind: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = _pretend_gpu(monkeypatch)
    eye = np.eye(40, dtype=np.float32)
    ids = np.arange(40)[::-1] * 10
    cfg = IndexParams(kind=kind, nlist=2, nprobe=2)
    index = EntityIndex.build(cfg, eye, ids=ids, encoder_digest="e", kb_digest="k", device="cuda:1")
    assert index.search(eye[:2], 1).rows.tolist() == [[390], [380]]
    assert index.search(eye[2:3], 1).rows.tolist() == [[370]]
    assert copies == [(1, name)]
    index.update(np.array([390, 380]), eye[[1, 0]])
    assert index.search(eye[:2], 1).rows.tolist() == [[380], [390]]
    index.remove(np.array([380]))
    assert 380 not in index.search(eye[:1], 1).rows
    assert copies == [(1, name)] * 3


def test_kinds_without_a_gpu_form_say_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    _pretend_gpu(monkeypatch)
    with caplog.at_level(logging.INFO):
        assert gpu_mirror("cuda", kind="hnsw") is None
    assert "kind `hnsw` has no GPU form" in caplog.text
