"""lm-evaluation-harness on a pico model and tiny local tasks, without a network."""

import json
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.errors import FusedialError, ParamsError
from models.evaluation.benchmarks import harness
from models.evaluation.benchmarks.comparison import benchmark_rows
from models.evaluation.benchmarks.harness import definitions_folder, run_benchmark
from models.evaluation.benchmarks.local import write_definitions
from models.evaluation.benchmarks.records import BenchmarkRun
from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.scores import System

installed = pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm_eval is not installed (extra `bench`)")
ARC = [{"question": f"What is {i} + 1?", "choices": [f"{i}", f"{i + 1}", "a cat"], "answer": i % 3} for i in range(6)]
SUMS = [{"question": f"{i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(3)]
MMLU = [
    {"question": f"Bone {i}?", "choices": ["a", "b", "c", "d"], "answer": i, "subject": subject}
    for subject in ("virology", "anatomy")
    for i in range(2)
]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def score(source: Any, tmp_path: Path, name: str, stem: str, rows: list[Any], **more: Any) -> BenchmarkRun:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir(exist_ok=True)
    out.mkdir(exist_ok=True)
    (data / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = {"num_fewshot": 0, "limit": None, "batch_size": 4, **more}
    made = write_definitions(name, data, harness=definitions_folder(), num_fewshot=how["num_fewshot"], out=out)
    return run_benchmark(source, name, made, **how)


@installed
def test_choices_are_scored_by_the_likelihood_of_the_model(pico: Callable[..., Any], tmp_path: Path, no_network: None) -> None:
    import torch

    source = pico("llama")
    made = score(source, tmp_path, "arc_easy", "arc_easy", ARC)
    assert (made.headline, made.num_fewshot, made.task_version, len(made.items)) == ("acc", 0, "1.0", 6)

    def likelihood(prompt: str, answer: str) -> float:
        # The harness's own rule: the answer's tokens are those by which the whole text is longer than the prompt.
        encode = source.codec.tokenizer.encode
        start, whole = len(encode(prompt)), encode(prompt + answer)
        with torch.no_grad():
            logits = source.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        return float(sum(logits[i - 1, whole[i]] for i in range(start, len(whole))))

    assert {item.values["acc"] for item in made.items} == {0.0, 1.0}
    for item, row in zip(made.items, ARC, strict=True):
        scores = [likelihood(f"Question: {row['question']}\nAnswer:", f" {choice}") for choice in row["choices"]]
        assert item.values["acc"] == float(scores.index(max(scores)) == row["answer"])


@installed
def test_means_and_standard_errors_are_those_of_the_harness(
    pico: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import evaluator

    own: dict[str, Any] = {}
    evaluate = evaluator.evaluate

    def spy(**given: Any) -> Any:
        found = evaluate(**{**given, "bootstrap_iters": 100})
        own.update(found["results"]["arc_easy"])
        return found

    monkeypatch.setattr(evaluator, "evaluate", spy)
    made = score(pico("llama"), tmp_path, "arc_easy", "arc_easy", ARC)
    rows = benchmark_rows({System("llama", "source"): made}, limited=False, resampling=Resampling(samples=100))
    assert {row.metric for row in rows} == {"acc", "acc_norm"}
    for row in rows:
        assert (row.value, row.stderr) == pytest.approx((own[f"{row.metric},none"], own[f"{row.metric}_stderr,none"]))


@installed
def test_a_limit_takes_the_first_documents_and_batches_change_nothing(pico: Callable[..., Any], tmp_path: Path) -> None:
    source = pico("llama")
    whole = score(source, tmp_path, "arc_easy", "arc_easy", ARC)
    some = score(source, tmp_path, "arc_easy", "arc_easy", ARC, limit=4, batch_size=1)
    assert some.items == whole.items[:4]


@installed
def test_solved_examples_stand_in_the_prompt(pico: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.models.huggingface import HFLM

    prompts: list[str] = []
    likelihood = HFLM.loglikelihood

    def spy(self: Any, requests: Any, **more: Any) -> Any:
        prompts.extend(request.args[0] for request in requests)
        return likelihood(self, requests, **more)

    monkeypatch.setattr(HFLM, "loglikelihood", spy)
    (tmp_path / "data").mkdir()
    solved = {"question": "What is 7 + 1?", "choices": ["8", "9"], "answer": 0}
    (tmp_path / "data" / "arc_easy_train.jsonl").write_text(json.dumps(solved) + "\n")
    made = score(pico("llama"), tmp_path, "arc_easy", "arc_easy", ARC, num_fewshot=1, limit=1)
    assert made.num_fewshot == 1
    assert set(prompts) == {"Question: What is 7 + 1?\nAnswer: 8\n\nQuestion: What is 0 + 1?\nAnswer:"}


@installed
def test_subjects_are_joined_in_their_order(pico: Callable[..., Any], tmp_path: Path, no_network: None) -> None:
    made = score(pico("mpt"), tmp_path, "mmlu", "mmlu", MMLU, num_fewshot=None)
    assert [(item.task, item.number) for item in made.items] == [
        *(("mmlu_anatomy", 0), ("mmlu_anatomy", 1)),
        *(("mmlu_virology", 0), ("mmlu_virology", 1)),
    ]
    assert set(made.items[0].values) == {"acc"}


@installed
def test_nothing_is_said_about_how_the_harness_is_called(
    pico: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    score(pico("llama"), tmp_path, "arc_easy", "arc_easy", ARC, limit=1)
    assert not [record for record in caplog.records if record.name.startswith("lm_eval")]
    assert "Generating validation split" not in capfd.readouterr().err


@installed
def test_the_tokenizer_of_the_source_stays_as_it_was(pico: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = pico("llama").codec.tokenizer
    before = (tokenizer.pad_token, tokenizer.padding_side)
    tokenizer.padding_side = "right"
    score(pico("llama"), tmp_path, "arc_easy", "arc_easy", ARC, limit=1)
    assert (tokenizer.pad_token, tokenizer.padding_side) == (before[0], "right")
    tokenizer.padding_side = before[1]


@installed
def test_a_model_too_short_for_the_answers_is_one_line(pico: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(FusedialError, match=r"benchmark gsm8k, model llama: lm_eval failed: .*256.*128"):
        score(pico("llama"), tmp_path, "gsm8k", "gsm8k_test", SUMS)


@installed
def test_written_prompts_take_no_other_examples(pico: Callable[..., Any], tmp_path: Path) -> None:
    rows = [{"question": "Q?", "best_answer": "Yes", "correct_answers": ["Yes"], "incorrect_answers": ["No"]}]
    with pytest.raises(
        ParamsError, match=r"of truthfulqa_mc1 must be null or 0: its examples are written in the prompt, but is 3"
    ):
        score(pico("llama"), tmp_path, "truthfulqa_mc1", "truthfulqa", rows, num_fewshot=3)


@installed
def test_an_unknown_task_is_refused_with_the_nearest_name(pico: Callable[..., Any]) -> None:
    with pytest.raises(
        ParamsError, match=r"must be a task of lm-evaluation-harness, but is `arc_eazy`\. Did you mean `arc_easy`"
    ):
        run_benchmark(pico("llama"), "arc_eazy", [], num_fewshot=0, limit=1, batch_size=1)


def test_without_the_extra_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise harness.PackageNotFoundError(name)

    monkeypatch.setattr(harness, "version", absent)
    with pytest.raises(
        FusedialError, match=r"not installed; install the extra: pip install .*\[bench\].*or set benchmark\.tasks to \[\]"
    ):
        harness.definitions_folder()
