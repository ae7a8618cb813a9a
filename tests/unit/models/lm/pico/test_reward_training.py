"""What embedded reward models learn from: real answers, right against wrong, on prompts that they never judge."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from models.corpus.examples import read_examples, write_json_lines
from models.corpus.prepare import write_world
from models.evaluation.fusion.correctness import is_correct
from models.lm.pico.reward_training import (
    Pair,
    PairRow,
    PairSets,
    answer_pairs,
    answered_prompts,
    encode_pairs,
    pair_margins,
    read_pairs,
    train_reward_model,
)
from models.metrics_sink import NullSink
from models.params.corpus import WorldParams
from models.params.sources import PicoTraining
from models.schema import Example, Message, Response
from models.tokenization.chat import PRESETS

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
    groups = PairSets([pair("a"), pair("b"), pair("a")], [pair("a")], sampled_share=0.8).groups()
    assert {name: (len(g.pairs), g.weight) for name, g in groups.items()} == {
        "rule_based/a": (2, pytest.approx(0.1)),
        "rule_based/b": (1, pytest.approx(0.1)),
        "sampled/a": (1, 0.8),
    }


def test_one_origin_alone_has_all_the_weight() -> None:
    assert [g.weight for g in PairSets([pair("a")], [], sampled_share=0.9).groups().values()] == [1.0]
    assert [g.weight for g in PairSets([], [pair("a")], sampled_share=0.0).groups().values()] == [1.0]
    assert list(PairSets([pair("a")], [pair("a")], sampled_share=1.0).groups()) == ["sampled/a"]


def tiny(vocab_size: int = 40) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        initializer_range=0.2,
        **{"num_labels": 1},
    )
    return LlamaForSequenceClassification(config).eval()


def long_pair(better: list[int], worse: list[int]) -> PairRow:
    return PairRow(np.array(better, dtype=np.int32), np.array(worse, dtype=np.int32))


PAIRS = [long_pair([5, 6, 7, 8, 9], [5, 6, 3, 8]), long_pair([5, 6], [5, 6, 7, 8, 9, 10, 11]), long_pair([4, 4, 4], [4, 4, 5])]


@torch.no_grad()
def test_the_last_margin_is_the_difference_of_the_judged_scores() -> None:
    model = tiny()
    margins, _ = pair_margins(model, PAIRS)
    for row, margin in zip(PAIRS, margins[:, -1], strict=True):
        scores = [float(model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits) for ids in (row.better, row.worse)]
        assert float(margin) == pytest.approx(scores[0] - scores[1], abs=1e-5)


@torch.no_grad()
def test_half_the_weight_lies_behind_the_first_difference_and_half_at_the_end() -> None:
    _, weights = pair_margins(tiny(), PAIRS)
    assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    sixth, tenth = 0.5 / 3, 0.1
    expected = [
        [0, 0, sixth, sixth, sixth, 0, 0.5],
        [0, 0, tenth, tenth, tenth, tenth, tenth + 0.5],
        [0, 0, 0.5, 0, 0, 0, 0.5],
    ]
    assert torch.allclose(weights, torch.tensor(expected), atol=1e-6)


def test_training_ranks_pairs_by_a_rule() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        prompt = rng.integers(10, 20, 3).tolist()
        rows.append(long_pair([*prompt, prompt[1] + 10, 1], [*prompt, int(rng.integers(20, 30)), 1]))
    rows = [r for r in rows if r.better.tolist() != r.worse.tolist()]
    order = np.resize(np.arange(len(rows)), (60, 32))
    model = tiny()
    with torch.no_grad():
        before = (pair_margins(model, rows)[0][:, -1] > 0).float().mean()
    summary = train_reward_model(
        model, rows, order=order, training=PicoTraining(lr=0.01, warmup_steps=5), device="cpu", sink=NullSink()
    )
    assert before < 0.7
    assert summary.final_accuracy > 0.95
    assert summary.final_loss < 0.2
    assert not model.training


def test_pairs_are_read_and_encoded_as_they_are_judged(tmp_path: Path, pico_tokenizer) -> None:  # type: ignore[no-untyped-def]
    row = {"family": "f", "messages": [{"role": "user", "content": "Hi"}], "better": "Hello", "worse": "x"}
    write_json_lines(tmp_path / "p.jsonl", [row])
    pairs = list(read_pairs(tmp_path / "p.jsonl"))
    assert pairs == [Pair("f", (Message("user", "Hi"),), "Hello", "x")]
    (encoded,) = encode_pairs(pairs, pico_tokenizer, template=PRESETS["plain"], context_length=64)
    assert pico_tokenizer.decode(encoded.better.tolist()) == f"{pico_tokenizer.bos_token}Q: Hi\nA: Hello\n"
    assert pico_tokenizer.decode(encoded.worse.tolist()) == f"{pico_tokenizer.bos_token}Q: Hi\nA: x\n"
