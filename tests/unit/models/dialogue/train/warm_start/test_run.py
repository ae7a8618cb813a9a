import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.dialogue.data.records import Entity, Turn, write_kb, write_turns
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.warm_start import run as module
from models.dialogue.train.warm_start.run import warm_start
from models.dialogue.train.warm_start.state import WarmRecord
from models.errors import DataError, NumericsError
from models.params.retriever import PicoEncoder, RetrieverParams, WarmStartParams
from models.params.runtime import Runtime
from models.records import from_row

FOODS = ("thai", "indian", "french", "greek", "polish", "cuban")
AREAS = ("north", "south")
RUNTIME = Runtime(device="cpu", threads=1)
CFG = RetrieverParams(
    pico=PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2),
    max_context_tokens=32,
    max_entity_tokens=32,
    warm_start=WarmStartParams(steps=60, batch_size=8, negatives=4, lr=3e-3, every_evaluation=20),
)


class _Sink:
    """Keeps what is logged; may stop the training at a step, as a kill would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.stop_at = stop_at

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.rows.setdefault(step, {}).update(metrics)

    def progress(self, done: int, total: int, *, unit: str) -> None:
        if self.stop_at is not None and done >= self.stop_at:
            raise KeyboardInterrupt


def _turn(i: int, entity: Entity, *, response: str | None = None) -> Turn:
    food, area, name = entity.attributes["food"], entity.attributes["area"], entity.name
    return Turn(
        id=f"d{i}#0",
        dialogue=f"d{i}",
        turn=0,
        domain="restaurant",
        context=(f"i want {food} food in the {area}",),
        response=response or f"{name} serves {food} food",
        gold_values=(name, food),
        gold_entities=(entity.id,),
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve restaurants; food and area of the user's wish name exactly one."""
    folder = tmp_path / "data"
    folder.mkdir()
    pairs = [(food, area) for food in FOODS for area in AREAS]
    kb = [Entity(str(i), "restaurant", {"name": f"house {i}", "food": f, "area": a}) for i, (f, a) in enumerate(pairs)]
    write_kb(folder / "kb.jsonl", kb)
    write_turns(folder / "train.jsonl", [_turn(i, kb[i % 12]) for i in range(48)])
    write_turns(folder / "valid.jsonl", [_turn(i, kb[i]) for i in range(12)])
    return folder


def _run(cfg: RetrieverParams, data: Path, place: Path, sink: _Sink | None = None) -> WarmRecord:
    out, resume = place / "out", place / "resume"
    return warm_start(cfg, data, root=place, runtime=RUNTIME, out=out, resume_dir=resume, sink=sink or _Sink())


def _warm(**changes: object) -> RetrieverParams:
    return CFG.model_copy(update={"warm_start": CFG.warm_start.model_copy(update=changes)})


@pytest.mark.parametrize("changes", [{}, {"look_alikes": 2}, {"hard_negatives": 2, "any_positive": 0.5, "dtype": "bfloat16"}])
def test_learns_to_find_what_the_user_wants(changes: dict[str, object], data: Path, tmp_path: Path) -> None:
    sink = _Sink()
    record = _run(_warm(**changes), data, tmp_path, sink)
    assert record.recall["retriever/recall_id@1"] >= 0.9
    assert sink.rows[0]["retriever/recall_id@1"] < 0.5
    assert sink.rows[60]["train/warm_loss"] < 0.5 * sink.rows[5]["train/warm_loss"]
    assert (record.num_turns, record.num_examples, record.num_by_id, record.num_by_value) == (48, 48, 12, 12)
    assert sorted(s for s, row in sink.rows.items() if "retriever/recall@7" in row) == [0, 20, 40, 60]


def test_record_belongs_to_the_encoder_that_was_kept(data: Path, tmp_path: Path) -> None:
    sink = _Sink()
    record = _run(CFG, data, tmp_path, sink)
    assert WarmRecord.read(tmp_path / "out") == record
    assert Retriever.load(tmp_path / "out" / "retriever").digest() == record.digest
    means = {s: sum(row[f"retriever/recall@{k}"] for k in (1, 3, 5, 7)) for s, row in sink.rows.items() if s % 20 == 0}
    assert means[record.best_step] == max(means.values())
    assert record.recall == {k: v for k, v in sink.rows[record.best_step].items() if k.startswith("retriever/")}


@pytest.mark.parametrize("steps", [0, 20])
def test_hybrid_scores_start_from_word_matching_and_lose_nothing(steps: int, data: Path, tmp_path: Path) -> None:
    """Food and area name one restaurant, so that counting them finds it; the untrained encoder does not."""
    hybrid = _warm(steps=steps, hard_negatives=1).model_copy(update={"scoring": "hybrid"})
    record = _run(hybrid, data, tmp_path)
    assert record.recall["retriever/recall_id@1"] == 1.0
    kept = Retriever.load(tmp_path / "out" / "retriever")
    assert kept.scorer is not None and record.weights == kept.scorer.figures() and record.digest == kept.digest()
    assert record.weights["value"] + record.weights["value_recent"] > 0


def test_hybrid_weights_are_trained_with_the_encoder(data: Path, tmp_path: Path) -> None:
    sink = _Sink()
    _run(_warm(steps=20, every_evaluation=10).model_copy(update={"scoring": "hybrid"}), data, tmp_path, sink)
    weights = [{k: v for k, v in sink.rows[step].items() if "weight_" in k} for step in (0, 10, 20)]
    assert len(weights[0]) == 6 and weights[0] != weights[1] != weights[2]
    assert weights[2]["retriever/weight_dense"] > weights[0]["retriever/weight_dense"], "an encoder that learns is listened to"


@pytest.mark.parametrize(("stop_at", "scoring"), [(15, "dense"), (45, "dense"), (45, "hybrid")])
def test_killed_run_ends_with_the_same_bits(stop_at: int, scoring: str, data: Path, tmp_path: Path) -> None:
    cfg = _warm(hard_negatives=1, look_alikes=1).model_copy(update={"scoring": scoring})
    whole, parts = _Sink(), _Sink(stop_at)
    expected = _run(cfg, data, tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        _run(cfg, data, tmp_path / "parts", parts)
    assert not (tmp_path / "parts" / "out").exists()
    parts.stop_at = None
    assert _run(cfg, data, tmp_path / "parts", parts) == expected
    assert parts.rows == whole.rows


def test_other_params_do_not_resume(data: Path, tmp_path: Path) -> None:
    _run(CFG, data, tmp_path)
    sink = _Sink()
    record = _run(_warm(steps=20), data, tmp_path, sink)
    assert record.steps == 20
    assert 0 in sink.rows


def test_no_steps_keeps_the_encoder_as_it_is(data: Path, tmp_path: Path) -> None:
    record = _run(_warm(steps=0), data, tmp_path)
    assert record.best_step == 0
    assert (tmp_path / "out" / "retriever" / "model.safetensors").is_file()


def test_condensed_turns_are_scored_inside_their_own_knowledge_base(data: Path, tmp_path: Path) -> None:
    for split in ("train", "valid"):
        lines = [from_row(Turn, json.loads(line)) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        write_turns(data / f"{split}.jsonl", [replace(t, kb=t.gold_entities) for t in lines])
    out, resume = tmp_path / "out", tmp_path / "resume"
    args = {"root": tmp_path, "runtime": RUNTIME, "out": out, "resume_dir": resume, "sink": _Sink()}
    record = warm_start(_warm(steps=0), data, setting="condensed", **args)
    assert record.recall["retriever/recall_id@1"] == 1.0


def test_one_distinct_entity_is_said(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join([train[0]] * 3) + "\n")
    with caplog.at_level(logging.WARNING):
        _run(_warm(steps=3, negatives=0), data, tmp_path)
    assert [r.message for r in caplog.records if "one distinct entity" in r.message] == [
        "Step 1 of the warm start has one distinct entity, so that it teaches nothing. "
        "Raise `retriever.warm_start.negatives` or `batch_size`."
    ]


def test_not_finite_loss_names_the_turns(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(scores: torch.Tensor, positives: torch.Tensor, **_: object) -> torch.Tensor:
        losses = scores.sum(dim=1)
        losses[1] = torch.nan
        return losses

    monkeypatch.setattr(module, "ranking_loss", broken)
    with pytest.raises(NumericsError, match=r"step 1 must be finite, but is not for the turns d\d+#0\. Lower"):
        _run(CFG, data, tmp_path)
    assert not (tmp_path / "out").exists()


def test_nothing_to_learn_from(data: Path, tmp_path: Path) -> None:
    turns = [from_row(Turn, json.loads(line)) for line in (data / "train.jsonl").read_text().splitlines()]
    write_turns(data / "train.jsonl", [replace(turn, response="goodbye") for turn in turns])
    with pytest.raises(DataError, match="must have a turn whose response holds a value"):
        _run(CFG, data, tmp_path)


def test_torn_checkpoint_is_passed_over(data: Path, tmp_path: Path) -> None:
    short = _warm(steps=20, every_evaluation=10)
    expected = _run(short, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(short, data, tmp_path, _Sink(15))
    kept = {folder.name for folder in (tmp_path / "resume").glob("checkpoint-*")}
    assert "checkpoint-10" in kept
    shutil.rmtree(tmp_path / "resume" / "checkpoint-10" / "best")
    assert _run(short, data, tmp_path) == expected
