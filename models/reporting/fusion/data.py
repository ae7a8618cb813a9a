"""Records that a fusion report is rendered from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.evaluation.benchmarks.records import BenchmarkRow
from models.evaluation.fusion.comparison import Scores
from models.evaluation.fusion.scores import ComparisonRow, ScoreRow, System, TableRow
from models.reporting.formatting import system_names
from models.schema import Example


@dataclass(frozen=True, slots=True)
class Answer:
    """One system's answer; `correct` is None if the example has no check."""

    system: System
    name: str
    text: str
    correct: bool | None
    finish: str | None = None


@dataclass(frozen=True, slots=True)
class ExampleAnswers:
    """One held-out example with its ground truth (None where it has none) and every system's answer."""

    id: str
    family: str
    prompt: str
    ground_truth: str | None
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything a report shows; an empty part is left out of the page.

    Attributes:
        title: Heading.
        table: Results (`comparison.aggregate`).
        comparisons: Paired differences (`comparison.paired`).
        wins: Rows of `win_table.win_table`.
        agreement: `win_table.mode_agreement`.
        winners: `scorer_quality.winner_counts` of the training prompts.
        scorers: `scorer_quality.measure_scorers`.
        histories: Method (with several targets `method → target`) → logged training rows.
        coverage: Source (with several targets `source → target`) → counts of `alignment.Coverage.as_dict`.
        examples: Answers side by side.
        provenance: Name → value: params digest, commit, versions, dates.
        reproduce: Commands that produce this report, in order.
        notes: Further sentences a reader must know (limits, what was left out).
        confidence: Level of the intervals.
        benchmarks: Standard benchmarks.
        benchmark_differences: Paired differences on them, the benchmark in `family`.
    """

    title: str
    table: Sequence[TableRow]
    comparisons: Sequence[ComparisonRow] = ()
    wins: Sequence[Mapping[str, Any]] = ()
    agreement: Mapping[str, Any] = field(default_factory=dict)
    winners: Mapping[str, Any] = field(default_factory=dict)
    scorers: Mapping[str, Any] = field(default_factory=dict)
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    coverage: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    trainings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    examples: Sequence[ExampleAnswers] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    reproduce: Sequence[str] = ()
    notes: Sequence[str] = ()
    confidence: float = 0.95
    benchmarks: Sequence[BenchmarkRow] = ()
    benchmark_differences: Sequence[ComparisonRow] = ()


def select_examples(examples: Iterable[Example], scores: Scores, *, per_family: int) -> tuple[ExampleAnswers, ...]:
    """Return the first `per_family` examples of each family that systems answered, not chosen by how well they did.

    Args:
        examples: Held-out examples, in order.
        scores: System → its rows, with text.
        per_family: Examples per family.
    """
    names = system_names(scores)
    rows = {system: {row.id: row for row in scores[system] if row.text is not None} for system in scores}
    twins = {system.name for system in scores if system.kind == "untrained"}
    shown = [system for system in scores if system.kind != "source" or system.name not in twins]
    taken: dict[str, list[ExampleAnswers]] = {}
    for example in examples:
        family = taken.setdefault(example.family, [])
        answers = tuple(
            _answer(system, names[system], rows[system][example.id]) for system in shown if example.id in rows[system]
        )
        if answers and len(family) < per_family:
            family.append(ExampleAnswers(example.id, example.family, _prompt(example), example.response, answers))
    return tuple(one for family in taken.values() for one in family)


def seen_notes(examples: Iterable[Example]) -> list[str]:
    """Return a sentence per source that was trained on held-out examples: its scores there are not held out."""
    total = 0
    seen: Counter[str] = Counter()
    for example in examples:
        total += 1
        seen.update(set(example.seen_by))
    return [
        f"{name} was itself trained on {num:,} of the {total:,} held-out examples: its scores there, and comparisons with it, "
        "flatter it."
        for name, num in sorted(seen.items())
    ]


def cut_notes(coverage: Mapping[str, Mapping[str, float]], examples: Iterable[Example]) -> list[str]:
    """Return a sentence about texts of the training that were cut, and one about held-out ground truths."""
    notes: list[str] = []
    if taught := round(sum(counts.get("num_cut", 0) for counts in coverage.values())):
        notes.append(
            f"{taught:,} training texts are truncated by `max_new_tokens` or by their reader: "
            "they have no end label, so they teach no end."
        )
    ended = [example.ended for example in examples]
    if cut := len(ended) - sum(ended):
        notes.append(
            f"{cut:,} of the {len(ended):,} held-out ground truths were cut by their reader: they are scored without an end."
        )
    return notes


def prompt_notes(counts: Mapping[str, Any], prompts_only: Mapping[str, int], *, blind: Sequence[str]) -> list[str]:
    """Return sentences about prompts without a ground truth: what trains on them, and which scores they have no part in.

    Args:
        counts: Split → its rows.
        prompts_only: Split → those of them without a ground truth; splits without such rows are absent.
        blind: Methods without a phase in inference mode.
    """
    notes = []
    if alone := prompts_only.get("train", 0):
        unseen = f"; {', '.join(blind)}, without such a phase, never saw them" if blind else ""
        some = f"{alone:,} of {counts['train']:,} training prompts"
        notes.append(f"{some} have no ground truth: they take part in inference mode only{unseen}.")
    if held_out := prompts_only.get("test", 0):
        notes.append(
            f"{held_out:,} of {counts['test']:,} held-out prompts have no ground truth: they count for no bits per byte and no "
            "score against the ground truth, and for accuracy only where their rows hold an answer."
        )
    return notes


def truth_notes(counts: Mapping[str, Any]) -> list[str]:
    """Return sentences about ground truths of the embedded world that are other than usual: wrong ones, explained ones.

    Args:
        counts: The record of stage `prepare`.
    """
    truths, notes = counts.get("truths", {}), []
    if wrong := truths.get("wrong", 0):
        have = counts["train"] - counts.get("prompts_only", {}).get("train", 0)
        notes.append(
            f"{wrong:,} of {have:,} training ground truths have a wrong value on purpose (`corpus.world.truths.wrong_share`). "
            "Training, Min-CE and scorers that compare with the ground truth see it; a scorer of kind `check` and the share of "
            "right winners go by the right one. Held-out ground truths are right."
        )
    if truths.get("style") == "explained":
        notes.append(
            "Ground truths of training and validation are explained, those of the test split short, so that regimes compare: "
            "read accuracy, which judges both; bits per byte and scores against the ground truth also measure the other style."
        )
    return notes


def _answer(system: System, name: str, row: ScoreRow) -> Answer:
    return Answer(system, name, row.text or "", row.correct, row.finish)


def _prompt(example: Example) -> str:
    if len(example.messages) == 1:
        return example.messages[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in example.messages)
