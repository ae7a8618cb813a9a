"""Which examples a report shows, and what it must confess."""

from dataclasses import replace

from models.evaluation.fusion.scores import ScoreRow, System
from models.reporting.fusion.data import cut_notes, prompt_notes, seen_notes, select_examples, truth_notes
from models.schema import Example, Message


def test_the_first_of_each_family_with_every_answer(examples: list[Example], scores: dict[System, list[ScoreRow]]) -> None:
    chosen = select_examples(examples, scores, per_family=2)
    assert [e.id for e in chosen] == ["e00", "e02", "e01", "e03"]
    assert [a.name for a in chosen[0].answers] == ["solver", "scholar (untrained)", "sft", "profuser"]
    row = scores[System("sft", "method", "scholar")][1]
    assert (chosen[2].answers[2].text, chosen[2].answers[2].correct) == (row.text, row.correct)
    assert (chosen[0].prompt, chosen[0].ground_truth) == ("Is 0 < 3 & true?", "truth 0")


def test_unanswered_examples_are_not_shown(examples: list[Example], scores: dict[System, list[ScoreRow]]) -> None:
    silent = {system: [replace(row, text=None) for row in rows] for system, rows in scores.items()}
    assert select_examples(examples, silent, per_family=2) == ()


def test_several_turns_name_their_speakers(scores: dict[System, list[ScoreRow]]) -> None:
    turns = (Message("system", "Be kind."), Message("user", "Hi"))
    (one,) = select_examples([Example("e00", "reasoning", turns, "Hello")], scores, per_family=1)
    assert one.prompt == "system: Be kind.\n\nuser: Hi"


def test_sources_that_saw_the_held_out_rows_are_named(examples: list[Example]) -> None:
    seen = [replace(e, seen_by=("solver",)) if i < 3 else e for i, e in enumerate(examples)]
    (note,) = seen_notes(seen)
    assert note.startswith("solver was itself trained on 3 of the 40 held-out examples")
    assert seen_notes(examples) == []


def test_truncated_texts_are_reported(examples: list[Example]) -> None:
    assert cut_notes({"a": {"num_positions": 9}}, examples) == []
    taught, held_out = cut_notes(
        {"a": {"num_cut": 1200}, "b": {"num_cut": 34}}, [replace(examples[0], ended=False), *examples[1:]]
    )
    assert taught.startswith("1,234 training texts are truncated") and "no end label" in taught
    assert held_out.startswith(f"1 of the {len(examples)} held-out ground truths were cut by their reader")


def test_prompts_without_a_ground_truth_are_told_with_who_never_saw_them() -> None:
    assert prompt_notes({"train": 90, "test": 10}, {}, blind=["sft"]) == []
    train, test = prompt_notes({"train": 1456, "test": 300}, {"train": 1200, "test": 20}, blind=["sft", "fusellm"])
    assert train == (
        "1,200 of 1,456 training prompts have no ground truth: they take part in inference mode only; sft, fusellm, without such "
        "a phase, never saw them."
    )
    assert test.startswith("20 of 300 held-out prompts have no ground truth: they count for no bits per byte")


def test_wrong_and_explained_ground_truths_are_named() -> None:
    assert truth_notes({"train": 1456, "test": 300}) == []
    wrong, style = truth_notes({"train": 1456, "prompts_only": {"train": 1200}, "truths": {"wrong": 77, "style": "explained"}})
    assert wrong.startswith("77 of 256 training ground truths have a wrong value on purpose (`corpus.world.truths.wrong_share`).")
    assert "Held-out ground truths are right." in wrong
    assert style.startswith("Ground truths of training and validation are explained, those of the test split short")
