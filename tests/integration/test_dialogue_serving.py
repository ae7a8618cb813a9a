"""The dialogue agent in a real MLflow database: as a model that is served, and its exchanges as traces."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from models.dialogue.agent.loading import load_agent
from models.dialogue.data.records import Entity, write_kb
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.retrieval import embedding, kb_index
from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.params.dialogue import GeneratorParams, MetaKnowledgeParams
from models.params.retriever import RetrieverParams
from models.params.runtime import Tracking
from tasks import model_logging, workspace
from tasks.dialogue_traces import record_exchange
from tasks.model_logging import log_agent
from tasks.tracking import parent_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
NAMES = ("amber", "birch", "cedar", "dahlia", "ember")
KB = [Entity(f"e{i}", "food", {"name": f"house {n}", "phone": f"0122 {i}", "post_code": "cb1"}) for i, n in enumerate(NAMES)]
CONTEXT = ["a cheap house", "house amber ?", "its phone please"]
SIZES = {"vocab_size": 320, "hidden_size": 32, "num_layers": 1, "num_heads": 2}

FRESH = """
import json, sys, mlflow, logging
logging.disable(logging.WARNING)
loaded = mlflow.pyfunc.load_model(sys.argv[1])
answers = loaded.predict([{"context": json.loads(sys.argv[2])}])
import models
print(json.dumps([models.__file__, answers]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    patch = pytest.MonkeyPatch()
    patch.setenv(workspace.ROOT_VARIABLE, str(folder))
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.setenv("FUSEDIAL_DEVICE", "cpu")
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace.project_root.cache_clear()
    yield folder
    patch.undo()
    workspace.project_root.cache_clear()


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train_dialogue` writes, as far as an agent reads it, and the knowledge base."""
    import torch

    folder = tmp_path_factory.mktemp("variant")
    meta = MetaKnowledge(MetaKnowledgeParams(), style="prefix")
    texts = [" ".join(e.attributes.values()) for e in KB] + CONTEXT
    build_retriever(RetrieverParams(pico=SIZES), texts=texts, root=folder).save(folder / "best_generator" / "retriever")
    cfg = GeneratorParams(pico=SIZES, max_response_tokens=6)
    generator = Seq2SeqGenerator.build(cfg, texts=lambda: texts, special_tokens=meta.special_tokens(), root=folder, seed=1)
    torch.manual_seed(3)
    for weight in generator.parameters():  # untrained weights answer nothing at all
        torch.nn.init.normal_(weight, std=0.5)
    generator.save(folder / "best_generator" / "generator")
    record = {"kinds": list(meta.kinds), "style": "prefix", "edges": [0.25, 0.75], "num_retrieved": 3, "setting": "large_scale"}
    (folder / "meta.json").write_text(json.dumps(record))
    write_kb(folder / "kb.jsonl", KB)
    return folder


@pytest.fixture(scope="module")
def run_id(project: Path) -> str:
    return parent_run(Tracking(), experiment="dialogue", name="d", key="k", params={}, tags={}, note="")


@pytest.fixture(scope="module")
def logged(project: Path, variant: Path, run_id: str) -> str:
    """The agent as the pipeline logs it; returns the model's URI."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="agent",
            python_model=str(ROOT / "tasks" / "dialogue_serving.py"),
            artifacts={"variant": str(variant), "kb": str(variant / "kb.jsonl")},
            code_paths=[str(ROOT / "models")],
            pip_requirements=["mlflow", "torch", "transformers"],
        )
    return str(info.model_uri)


@pytest.fixture(scope="module")
def shipped(project: Path, variant: Path) -> str:
    """The agent as `log_agent` logs it, with its index and settings."""
    import mlflow

    from models.dialogue.data.knowledge_base import KnowledgeBase
    from models.dialogue.retrieval.encoder import Retriever
    from models.dialogue.retrieval.kb_index import build_kb_index
    from models.params.index import IndexParams

    run = parent_run(Tracking(), experiment="dialogue", name="s", key="s", params={}, tags={}, note="")
    encoder = Retriever.load(variant / "best_generator" / "retriever")
    cfg = IndexParams(kind="ivf", nlist=2, nprobe=2)
    build_kb_index(encoder, KnowledgeBase.load(variant / "kb.jsonl"), cfg=cfg).save(variant / "index")
    settings = {"num_beams": 2, "max_new_tokens": 4, "batch_size": 3, "num_retrieved": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_logging, "project_root", lambda: ROOT)
        log_agent(run, variant, variant / "kb.jsonl", variant / "index", settings=settings, tracking=Tracking(), name="shipped")
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlflow.db'}")
    return str(mlflow.get_run(run).data.tags["fusedial.model"])


def spans_of(trace_id: str) -> dict[str, Any]:
    import mlflow

    mlflow.flush_trace_async_logging()
    return {s.name: s for s in mlflow.get_trace(trace_id).data.spans}


def test_the_served_agent_answers_as_the_loaded_one_and_traces(logged: str, variant: Path) -> None:
    import mlflow

    served = mlflow.pyfunc.load_model(logged)
    [one, two] = served.predict([{"context": CONTEXT}, {"context": ["hello"], "kb": ["e4", "e2"], "dynamic": {"choice": ["3"]}}])
    agent = load_agent(variant, variant / "kb.jsonl", device="cpu")
    reply = agent.reply(CONTEXT)
    assert one["response"] == reply.text and reply.text
    assert [e["id"] for e in one["entities"]] == [e.entity.id for e in reply.entities]
    first = one["entities"][0]
    assert set(first) == {"id", "domain", "attributes", "rank", "score", "confidence", "seen"} and first["rank"] == 1
    assert {e["id"] for e in two["entities"]} == {"e2", "e4"}
    assert [e["seen"] for e in one["entities"]] == [e["id"] == "e0" for e in one["entities"]]
    spans = spans_of(mlflow.get_last_active_trace_id())
    assert {n: s.span_type for n, s in spans.items()} == {"dialogue": "AGENT", "retrieve": "RETRIEVER", "generate": "LLM"}
    assert [d["id"] for d in spans["retrieve"].outputs] == [e["id"] for e in two["entities"]]
    assert spans["retrieve"].parent_id == spans["generate"].parent_id == spans["dialogue"].span_id
    assert spans["dialogue"].outputs["response"] == two["response"]


def test_messages_and_numbers_are_served_as_the_texts_they_stand_for(logged: str) -> None:
    import mlflow

    served = mlflow.pyfunc.load_model(logged)
    said = [("user", "a cheap"), ("user", "place ?"), ("assistant", "where ?"), ("user", "north")]
    messages = [{"role": role, "content": text} for role, text in said]
    texts = {"context": ["a cheap place ?", "where ?", "north"], "dynamic": {"choice": ["3"]}}
    [one, two] = served.predict([{"context": messages, "dynamic": {"choice": 3}}, texts])
    assert one == two
    with pytest.raises(Exception, match="must end with an utterance of the user"):
        served.predict([{"context": messages[:3]}])


@pytest.mark.parametrize("request_", [{}, {"context": []}, {"context": "hello"}, {"context": CONTEXT, "kb": ["e9"]}])
def test_a_bad_request_is_refused(logged: str, request_: dict[str, Any]) -> None:
    import mlflow

    with pytest.raises(Exception, match=r"context|e9"):
        mlflow.pyfunc.load_model(logged).predict([request_])


def test_the_logged_model_brings_its_code_and_no_pickle(logged: str, project: Path, tmp_path: Path) -> None:
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(logged, dst_path=str(tmp_path / "copy")))
    # Python may have compiled the code where the store keeps it, when other tests loaded it from there.
    suffixes = {p.suffix for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"}
    assert {".safetensors", ".json", ".py"} <= suffixes and not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc"}
    command = [sys.executable, "-c", FRESH, str(folder), json.dumps(CONTEXT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=True)
    place, answers = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(folder) and answers == mlflow.pyfunc.load_model(logged).predict([{"context": CONTEXT}])


def only_required(folder: Path, site: Path) -> Path:
    """Fill `site` with links to what `requirements.txt` names, and what that needs in turn: the environment of a server."""
    waiting = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()]
    seen: set[str] = set()
    while waiting:
        name = Requirement(waiting.pop()).name.lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        for top in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
            link = site / top
            if not link.exists():
                link.symlink_to(found.locate_file(top))
        needs = (Requirement(text) for text in found.requires or ())
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return site


def test_the_shipped_agent_answers_from_its_own_requirements(shipped: str, tmp_path: Path) -> None:
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(shipped, dst_path=str(tmp_path / "copy")))
    site = tmp_path / "site"
    site.mkdir()
    environment = os.environ | {"PYTHONPATH": str(only_required(folder, site))}
    command = [sys.executable, "-S", "-c", FRESH, str(folder), json.dumps(CONTEXT)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    place, answers = json.loads(done.stdout.splitlines()[-1])
    assert Path(place).is_relative_to(folder) and answers == mlflow.pyfunc.load_model(shipped).predict([{"context": CONTEXT}])


def test_the_shipped_agent_has_its_index_and_settings(shipped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setattr(embedding, "embed_entities", lambda *_, **__: pytest.fail("the index is there"))
    monkeypatch.setattr(kb_index, "embed_entities", lambda *_, **__: pytest.fail("the index is there"))
    agent = mlflow.pyfunc.load_model(shipped).unwrap_python_model().live.current()
    assert agent.index.kind == "ivf" and len(agent.index) == len(KB)
    responder = agent.responder
    assert (responder._num_beams, responder._max_new_tokens, responder._batch_size, agent.num_retrieved) == (2, 4, 3, 3)
    changed = mlflow.pyfunc.load_model(shipped, model_config={"num_beams": 1}).unwrap_python_model().live.current()
    assert (changed.responder._num_beams, changed.responder._max_new_tokens) == (1, 4)


def test_a_served_agent_takes_changes(shipped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    new = {"id": "e9", "domain": "food", "attributes": {"name": "house iris", "phone": "0199"}}
    fixed = {"id": "e0", "attributes": {"name": "house amber", "phone": "0999"}}
    request = {"change": {"add": [new], "update": [fixed], "remove": ["e1", "e2"]}, "context": CONTEXT}
    with pytest.raises(Exception, match="FUSEDIAL_STATE is not set"):
        mlflow.pyfunc.load_model(shipped).predict([request])
    monkeypatch.setenv("FUSEDIAL_STATE", str(tmp_path / "state"))
    served, other = mlflow.pyfunc.load_model(shipped), mlflow.pyfunc.load_model(shipped)
    [answer] = served.predict([request])
    assert answer["num_entities"] == len(KB) - 1
    everyone = {"context": CONTEXT, "kb": ["e0", "e3", "e9"]}
    for model in (served, other, mlflow.pyfunc.load_model(shipped)):
        [one] = model.predict([everyone])
        assert {e["id"]: e["attributes"]["phone"] for e in one["entities"]} == {"e0": "0999", "e3": "0122 3", "e9": "0199"}
    for bad in ({"add": [new]}, {"update": [{**new, "id": "e1"}]}, {"remove": ["e1"]}, {"remove": ["e0", "e0"]}):
        with pytest.raises(Exception, match="The knowledge base cannot be changed so"):
            served.predict([{"change": bad}])
    table = {"id": 7.0, "domain": None, "attributes": {"Name": "House_Fern", "seats": 40.0, "phone": float("nan"), "area": "N/A"}}
    assert served.predict([{"change": {"add": [table]}}])[0]["num_entities"] == len(KB)
    [one] = served.predict([{"context": CONTEXT, "kb": [7]}])
    assert one["entities"][0]["attributes"] == {"name": "house fern", "seats": "40"}
    with pytest.raises(Exception, match="first attribute, which is the name"):
        served.predict([{"change": {"update": [{"id": "7", "attributes": {"name": None, "area": "north"}}]}}])
    assert served.predict([{"change": {"remove": ["e9", 7.0]}}]) == [
        {"response": "", "entities": [], "num_entities": len(KB) - 2}
    ]


def test_an_exchange_becomes_a_trace_with_its_times(variant: Path, project: Path, run_id: str) -> None:
    import mlflow

    agent = load_agent(variant, variant / "kb.jsonl", device="cpu")
    reply = agent.reply(CONTEXT)
    trace_id = record_exchange(reply, CONTEXT, tracking=Tracking(), session="s1", run_id=run_id, tags={"variant": "prompt"})
    spans = spans_of(trace_id)
    assert {n: s.span_type for n, s in spans.items()} == {"dialogue": "AGENT", "retrieve": "RETRIEVER", "generate": "LLM"}
    for part in ("retrieve", "generate"):
        assert (spans[part].end_time_ns - spans[part].start_time_ns) / 1e9 == pytest.approx(reply.seconds[part], abs=1e-4)
        assert spans[part].parent_id == spans["dialogue"].span_id
    assert spans["retrieve"].end_time_ns == spans["generate"].start_time_ns
    document = spans["retrieve"].outputs[0]
    best = reply.entities[0]
    assert document["id"] == best.entity.id and document["metadata"]["score"] == pytest.approx(best.meta.score)
    assert (
        document["page_content"].startswith(f"name: {best.entity.name}; phone: 0122")
        and "post code: cb1" in document["page_content"]
    )
    assert spans["generate"].outputs == reply.text and spans["dialogue"].inputs == {"context": CONTEXT}
    info = mlflow.get_trace(trace_id).info
    assert info.tags["variant"] == "prompt" and info.trace_metadata["mlflow.trace.session"] == "s1"
    assert info.token_usage["input_tokens"] == reply.answer.num_prompt_tokens
    found = mlflow.search_traces(locations=[info.experiment_id], run_id=run_id, return_type="list")
    assert trace_id in [t.info.trace_id for t in found]


def test_an_exchange_without_a_run_goes_to_the_dialogue_experiment(variant: Path, project: Path, run_id: str) -> None:
    import mlflow

    reply = load_agent(variant, variant / "kb.jsonl", device="cpu").reply(CONTEXT)
    trace_id = record_exchange(reply, CONTEXT, tracking=Tracking())
    mlflow.flush_trace_async_logging()
    assert mlflow.get_experiment(mlflow.get_trace(trace_id).info.experiment_id).name == "dialogue"
