"""Evaluating one model: against plain logits, and on real data with real models."""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import DataError
from models.evaluation.fusion import run
from models.evaluation.fusion.comparison import aggregate
from models.evaluation.fusion.run import evaluate_model, with_rewards
from models.evaluation.fusion.scores import System, read_scores, write_scores
from models.lm.prompts import TextItem
from models.params.evaluation import EvaluationParams
from models.schema import Check, Example, Message
from models.tokenization.chat import render_prompt

_CFG = EvaluationParams(max_new_tokens=6, batch_size=4, batch_tokens=256)
_LMS = Path("data/external/lms/trained_here")
_GSM8K = Path("data/external/benchmarks/gsm8k_test/gsm8k_test.jsonl.gz")


def _examples(num: int = 7, *, check: Check = "contains", answer: str | None = "a") -> list[Example]:
    texts = ["The capital of Borland is Quenby.", "17 plus 25 is 42.", "café, naïve, 東京"]
    return [
        Example(f"e{i}", "knowledge" if i % 2 else "reasoning", (Message("user", f"What is {i}?"),), texts[i % 3], answer, check)
        for i in range(num)
    ]


def _length(items: Sequence[TextItem], references: Sequence[str]) -> list[float]:
    return [float(len(item.response) - len(reference)) for item, reference in zip(items, references, strict=True)]


def test_the_likelihood_is_that_of_the_plain_forward_pass(pico: Callable[..., Any]) -> None:
    source = pico("llama")
    examples = _examples()
    rows = list(evaluate_model(source, examples, _CFG, scorers={}))
    for example, row in zip(examples, rows, strict=True):
        codec = source.codec
        prompt = render_prompt(
            source.source.chat_template, example.messages, bos_token=codec.bos_token or "", eos_token=codec.eos_token
        )
        ids = [
            *codec.encode_prompts([prompt])[0].tolist(),
            *codec.encode_responses([example.response])[0].ids.tolist(),
            codec.eos_id,
        ]
        num = row.num_tokens
        with torch.inference_mode():
            logprobs = source.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        wanted = -sum(float(logprobs[at - 1, ids[at]]) for at in range(len(ids) - num, len(ids)))
        assert row.nll == pytest.approx(wanted, abs=1e-3)
        assert (row.id, row.family, row.num_bytes) == (example.id, example.family, len(example.response.encode()))
        assert row.lossless


def test_answers_are_judged_and_scored(pico: Callable[..., Any]) -> None:
    examples = _examples()
    rows = list(evaluate_model(pico("llama"), examples, _CFG, scorers={"length": _length}))
    for row, example in zip(rows, examples, strict=True):
        assert row.text is not None and row.finish in ("eos", "length")
        assert row.rewards == {"length": float(len(row.text) - len(example.response))}
        assert row.correct is not None
    anything = [Example(e.id, e.family, e.messages, e.response, rows[0].text, "contains") for e in examples]
    assert next(evaluate_model(pico("llama"), anything, _CFG, scorers={})).correct is True


def test_without_answers_only_the_likelihood_is_there(pico: Callable[..., Any]) -> None:
    cfg = _CFG.model_copy(update={"answers": False})
    rows = list(evaluate_model(pico("llama"), _examples(), cfg, scorers={"length": _length}))
    assert {(r.text, r.correct, r.finish, len(r.rewards)) for r in rows} == {(None, None, None, 0)}


def test_windows_do_not_change_the_rows(pico: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(evaluate_model(pico("mpt"), _examples(), _CFG, scorers={"length": _length}))
    monkeypatch.setattr(run, "_WINDOW", 3)
    progress: list[int] = []
    parts = list(evaluate_model(pico("mpt"), iter(_examples()), _CFG, scorers={"length": _length}, on_progress=progress.append))
    assert progress == [3, 6, 7]
    for a, b in zip(whole, parts, strict=True):
        assert (a.id, a.text, a.correct, a.rewards) == (b.id, b.text, b.correct, b.rewards)
        assert a.nll == pytest.approx(b.nll, rel=1e-5)


def test_the_file_is_the_same_twice(pico: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_scores(tmp_path / name, evaluate_model(pico("llama"), _examples(), _CFG, scorers={"length": _length}))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(list(read_scores(tmp_path / "one"))) == 7


def test_an_example_that_cannot_be_judged_is_named(pico: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="example `e0`"):
        list(evaluate_model(pico("llama"), _examples(2, check="number", answer="none"), _CFG, scorers={}))


@pytest.mark.skipif(not (_LMS.exists() and _GSM8K.exists()), reason="data/external is not here")
def test_the_math_model_is_best_at_math() -> None:
    from models.lm.loading import load_source
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    with gzip.open(_GSM8K, "rt", encoding="utf-8") as file:
        raw = [json.loads(line) for line in file]
    short = [r for r in raw if len(r["question"]) + len(r["answer"]) < 300][:16]
    examples = [Example(r["id"], "math", (Message("user", r["question"]),), r["answer"], r["answer"], "number") for r in short]
    cfg = EvaluationParams(answers=False, batch_tokens=4096)
    scores = {}
    for name in ("math_mpt", "qa_llama", "code_neox"):
        spec = SourceSpec(name=name, model=str((_LMS / name).resolve()), chat_template="alpaca")
        source = load_source(resolve_source(spec, root=Path()), device="cpu")
        scores[System(name, "source")] = list(evaluate_model(source, examples, cfg, scorers={}))
    table = {row.system.name: row.value for row in aggregate(scores) if row.family == "all"}
    # The folder's README measured 1.67, 4.30 and 4.09 bits per character on 200 rows.
    assert table["math_mpt"] == pytest.approx(1.67, abs=0.25)
    assert table["qa_llama"] > 3.5
    assert table["code_neox"] > 3.3


def test_a_prompt_without_a_ground_truth_is_answered_and_has_no_likelihood(pico: Callable[..., Any]) -> None:
    whole = _examples()
    some = [replace(e, response=None, check="none", answer=None) if i % 2 else e for i, e in enumerate(whole)]
    rows = list(evaluate_model(pico("llama"), some, _CFG, scorers={}))
    before = list(evaluate_model(pico("llama"), whole, _CFG, scorers={}))
    for i, (row, old) in enumerate(zip(rows, before, strict=True)):
        assert (row.id, row.text) == (old.id, old.text)
        assert (row.nll is None, row.num_bytes == 0, row.correct is None) == (i % 2 == 1,) * 3
        assert i % 2 or row.nll == pytest.approx(old.nll, rel=1e-5)
    graded = with_rewards(rows, some, {"length": _length, "blind": lambda items, _: [1.0] * len(items)}, see_truth={"length"})
    assert [sorted(row.rewards) for row in graded] == [["blind"] if i % 2 else ["blind", "length"] for i in range(len(rows))]
