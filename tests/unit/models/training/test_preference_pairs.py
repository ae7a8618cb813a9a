"""What embedded reward models learn from: real answers, right against wrong, on prompts that they never judge."""

from pathlib import Path

import pytest

from models.data.corpus import read_examples
from models.data.embedded import write_world
from models.evaluation.accuracy import is_correct
from models.params.corpus import WorldParams
from models.schema import Example, Message, Response
from models.training.preference_pairs import PairSets, answer_pairs, answered_prompts
from models.training.reward_model import Pair

QUESTION = (Message("user", "What is 17 plus 25?"),)
ROW = Example("x", "reasoning", QUESTION, "42", "42", "number")


def said(*texts: str, finish: str = "eos") -> list[Response]:
    return [Response("x", "s", i, text, 2, finish) for i, text in enumerate(texts)]  # type: ignore[arg-type]


def pairs(*answers: Response) -> list[tuple[str, str]]:
    return [(p.better, p.worse) for p in answer_pairs([ROW], {"x": answers}, is_right=is_correct)]


def test_right_answers_stand_against_wrong_ones() -> None:
    found = list(answer_pairs([ROW], {"x": said("It is 42.", "It is 41.")}, is_right=is_correct))
    assert found == [Pair("reasoning", QUESTION, "It is 42.", "It is 41.")]


def test_without_both_there_is_no_pair() -> None:
    assert pairs(*said("42", "It is 42.")) == pairs(*said("41", "40")) == pairs() == []


def test_equal_empty_and_cut_answers_make_no_pairs() -> None:
    assert pairs(*said("42", "42", "41", "41", " ")) == [("42", "41")]
    assert pairs(*said("42"), *said("It is 4", finish="length")) == []


def test_a_prompt_gives_at_most_four_pairs_of_many_partners() -> None:
    found = pairs(*said("42", "It is 42", "It makes 42", "41", "40", "39"))
    assert len(found) == 4
    assert len({better for better, _ in found}) == len({worse for _, worse in found}) == 3


def test_a_row_without_a_check_is_no_pair() -> None:
    row = Example("x", "f", QUESTION, "42")
    assert list(answer_pairs([row], {"x": said("42", "41")}, is_right=is_correct)) == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(WorldParams(num_entities=12, num_train=48, num_valid=6, num_test=24, num_pretrain=600), out=folder)
    return folder


def test_answered_prompts_are_never_judged(world: Path) -> None:
    chosen = answered_prompts(world / "pretrain", num_prompts=60, seed=0)
    judged = {e.messages for split in ("train", "valid", "test") for e in read_examples(world / f"{split}.jsonl")}
    assert len(chosen) == 60
    assert not judged & {e.messages for e in chosen}
    assert {family: sum(e.family == family for e in chosen) for family in {e.family for e in chosen}} == {
        "knowledge": 20,
        "reasoning": 20,
        "safety": 20,
    }
    assert chosen == answered_prompts(world / "pretrain", num_prompts=60, seed=0)
    assert chosen != answered_prompts(world / "pretrain", num_prompts=60, seed=1)


def test_more_prompts_than_there_are_gives_all(world: Path) -> None:
    rows = sum(len(list(read_examples(file))) for file in (world / "pretrain").glob("*.jsonl"))
    assert len(answered_prompts(world / "pretrain", num_prompts=100_000, seed=0)) == rows


def pair(family: str) -> Pair:
    return Pair(family, QUESTION, "42", "41")


def test_origins_and_families_are_weighed() -> None:
    groups = PairSets([pair("a"), pair("b"), pair("a")], [pair("a")], share=0.8).groups()
    assert {name: (len(g.pairs), g.weight) for name, g in groups.items()} == {
        "made/a": (2, pytest.approx(0.1)),
        "made/b": (1, pytest.approx(0.1)),
        "real/a": (1, 0.8),
    }


def test_one_origin_alone_has_all_the_weight() -> None:
    assert [g.weight for g in PairSets([pair("a")], [], share=0.9).groups().values()] == [1.0]
    assert [g.weight for g in PairSets([], [pair("a")], share=0.0).groups().values()] == [1.0]
    assert list(PairSets([pair("a")], [pair("a")], share=1.0).groups()) == ["real/a"]
