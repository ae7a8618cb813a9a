"""THE table of known benchmarks: where lm-evaluation-harness defines them, which local files hold them, how rows are renamed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Attributes:
        definition: Its file below `lm_eval/tasks`; `{subject}` stands for each subject that the rows name.
        file: Local file without suffix, `<folder>/<name>`.
        split: Split that is scored, in the definition's words.
        as_upstream: Local row → row with the fields that the definition reads.
        headline: The metric that tables lead with; `metric,filter` where the task has several filters.
        fewshot_file: Local file of solved examples; empty where the prompt has its examples written in.
        fewshot_split: Their split.
        changes: Keys of the definition that do not apply to local rows.
    """

    definition: str
    file: str
    split: str
    as_upstream: Callable[[Row], Row]
    headline: str = "acc"
    fewshot_file: str = ""
    fewshot_split: str = "train"
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Name of the folder that holds its files."""
        return self.file.partition("/")[0]


def _choice(row: Row) -> tuple[str, list[str], int]:
    """Return question, choices and index of the right one, checked."""
    question, choices, answer = row["question"], row["choices"], row["answer"]
    if not isinstance(question, str) or not isinstance(choices, list) or not all(isinstance(c, str) for c in choices):
        raise ValueError("`question` must be a text and `choices` a list of texts")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise ValueError(f"`answer` must be the index of one of the {len(choices)} choices, but is {answer!r}")
    return question, choices, answer


def _arc(row: Row) -> Row:
    question, choices, answer = _choice(row)
    labels = [chr(ord("A") + i) for i in range(len(choices))]
    return {"question": question, "choices": {"text": choices, "label": labels}, "answerKey": labels[answer]}


def _hellaswag(row: Row) -> Row:
    # The context is cleaned and has its activity label already: lm-evaluation-harness's own preparation is left out.
    question, choices, answer = _choice(row)
    return {"query": question, "choices": choices, "label": answer}


def _mmlu(row: Row) -> Row:
    question, choices, answer = _choice(row)
    if len(choices) != 4:
        raise ValueError(f"`choices` must be four, but are {len(choices)}")
    return {"question": question, "choices": choices, "answer": answer, "subject": row["subject"]}


def _two(row: Row) -> tuple[str, list[str], int]:
    question, choices, answer = _choice(row)
    if len(choices) != 2:
        raise ValueError(f"`choices` must be two, but are {len(choices)}")
    return question, choices, answer


def _piqa(row: Row) -> Row:
    goal, (first, second), answer = _two(row)
    return {"goal": goal, "sol1": first, "sol2": second, "label": answer}


def _winogrande(row: Row) -> Row:
    sentence, (first, second), answer = _two(row)
    if "_" not in sentence:
        raise ValueError("`question` must have a blank, `_`")
    return {"sentence": sentence, "option1": first, "option2": second, "answer": str(answer + 1)}


def _gsm8k(row: Row) -> Row:
    question, answer = row["question"], row["answer"]
    if not isinstance(question, str) or not isinstance(answer, str) or "#### " not in answer:
        raise ValueError("`question` must be a text, and `answer` one that ends in `#### number`")
    return {"question": question, "answer": answer}


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith(".") else f"{text}."


def _truthfulqa(row: Row) -> Row:
    """Build the choices as the authors do: MC1 has the best answer and all false ones, MC2 all true and all false ones."""
    best, right, wrong = row["best_answer"], row["correct_answers"], row["incorrect_answers"]
    if not isinstance(best, str) or not isinstance(right, list) or not isinstance(wrong, list) or not right or not wrong:
        raise ValueError("`best_answer` must be a text, `correct_answers` and `incorrect_answers` lists that are not empty")
    false = [_sentence(answer) for answer in wrong]
    true = [_sentence(answer) for answer in right]
    return {
        "question": row["question"],
        "mc1_targets": {"choices": [_sentence(best), *false], "labels": [1] + [0] * len(false)},
        "mc2_targets": {"choices": true + false, "labels": [1] * len(true) + [0] * len(false)},
    }


KNOWN: Mapping[str, Benchmark] = {
    "arc_challenge": Benchmark(
        "arc/arc_challenge.yaml",
        "arc_challenge/arc_challenge",
        "validation",
        _arc,
        headline="acc_norm",
        fewshot_file="arc_challenge_train",
    ),
    "arc_easy": Benchmark("arc/arc_easy.yaml", "arc_easy/arc_easy", "validation", _arc, fewshot_file="arc_easy_train"),
    "gsm8k": Benchmark(
        "gsm8k/gsm8k.yaml",
        "gsm8k_test/gsm8k_test",
        "test",
        _gsm8k,
        headline="exact_match,flexible-extract",
        fewshot_file="gsm8k_train",
    ),
    "hellaswag": Benchmark(
        "hellaswag/hellaswag.yaml",
        "hellaswag/hellaswag",
        "validation",
        _hellaswag,
        headline="acc_norm",
        fewshot_file="hellaswag_train",
        changes={"process_docs": None},
    ),
    "mmlu": Benchmark(
        "mmlu/default/mmlu_{subject}.yaml",
        "mmlu/mmlu",
        "test",
        _mmlu,
        fewshot_file="mmlu_dev_fewshot",
        fewshot_split="dev",
    ),
    "piqa": Benchmark("piqa/piqa.yaml", "piqa/piqa", "validation", _piqa, headline="acc_norm", fewshot_file="piqa_train"),
    "truthfulqa_mc1": Benchmark("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthfulqa", "validation", _truthfulqa),
    "truthfulqa_mc2": Benchmark("truthfulqa/truthfulqa_mc2.yaml", "truthfulqa/truthfulqa", "validation", _truthfulqa),
    "winogrande": Benchmark(
        "winogrande/default.yaml", "winogrande/winogrande", "validation", _winogrande, fewshot_file="winogrande_train"
    ),
}


def headline_metric(name: str, metrics: Mapping[str, Any]) -> str:
    """Return the metric that tables lead with; of an unknown benchmark the first one."""
    wanted = KNOWN[name].headline if name in KNOWN else ""
    return wanted if wanted in metrics else next(iter(metrics))
