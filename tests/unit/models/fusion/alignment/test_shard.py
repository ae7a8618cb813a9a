"""One shard from the sources' files to the target's stores: what becomes of prompts without a winner."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.fusion.alignment.shard import AlignmentPlan, ShardFiles, _contests, align_files
from models.fusion.alignment.target_signals import ChatTokenizer
from models.fusion.signals.record import SignalSpec
from models.fusion.signals.shard import write_shard
from models.fusion.signals.store import SignalStore
from models.fusion.teacher_forcing import teacher_force
from models.lm.prompts import TextItem
from models.params.alignment import AlignmentParams
from models.schema import Advantage, Example, Message, Response
from models.tokenization.chat import template_digest

SAID = {"p0": "It rings.", "p1": "", "p2": "No, it does not."}


@pytest.fixture
def shard(pico: Callable[..., Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`shard(winners, cut)`: aligns three prompts of one source onto itself.

    `winners` have their answers captured; ground truths and answers of `cut` end in the middle; `alone` have no ground truth.
    """
    loaded = pico("llama")
    source = loaded.source
    examples = [Example(id_, "f", (Message("user", "Does the bell ring?"),), "Yes, it rings.") for id_ in SAID]

    def write(folder: Path, kind: str, texts: dict[str, str], cut: tuple[str, ...]) -> Path:
        items = [TextItem(e.id, e.messages, texts[e.id], e.id not in cut) for e in examples if e.id in texts]
        digests = (source.digest, source.tokenizer_digest, template_digest(source.chat_template), "c")
        spec = SignalSpec(source.name, *digests, 4, loaded.codec.vocab_size, kind)  # type: ignore[arg-type]
        write_shard(folder, 0, spec, [f.signals for f in teacher_force(loaded, items, top_k=4, batch_tokens=512)])
        return folder

    def make(winners: tuple[str, ...], cut: tuple[str, ...] = (), alone: tuple[str, ...] = (), **cfg: Any) -> dict[str, Any]:
        answers = [Response(i, source.name, 0, text, 3, "length" if i in cut else "eos") for i, text in SAID.items()]
        rows = [
            Advantage(
                id_,
                "f",
                None if id_ in alone else source.name,
                source.name if id_ in winners else None,
                0 if id_ in winners else None,
                {},
                {},
            )
            for id_ in SAID
        ]
        chat_tokenizer = ChatTokenizer(loaded.codec, source.chat_template)
        files = ShardFiles(
            examples=[replace(e, ended=e.id not in cut, response=None if e.id in alone else e.response) for e in examples],
            advantages=rows,
            truths={
                source.name: write(
                    tmp_path / "truths", "ground_truth", {e.id: e.response for e in examples if e.id not in alone}, cut
                )
            },
            answers={source.name: write(tmp_path / "answers", "response", {id_: SAID[id_] for id_ in winners}, cut)},
            responses={source.name: answers},
        )
        plan = AlignmentPlan(chat_tokenizer, {source.name: chat_tokenizer}, {source.name: None}, ("target", "digest"))
        reports = align_files(files, plan, AlignmentParams(**cfg), corpus_digest="c", max_length=128, out=tmp_path / "out")
        stores = {mode: SignalStore.open(tmp_path / "out" / mode) for mode in reports}
        ids = {mode + "_ids": list(store.ids) for mode, store in stores.items()}
        return reports | ids | {mode + "_store": store for mode, store in stores.items()}

    return make


@pytest.mark.parametrize("winners", [("p0", "p2"), ()])
def test_a_prompt_without_a_winner_is_left_out_of_inference_mode_only(
    shard: Callable[..., dict[str, Any]], winners: tuple[str, ...]
) -> None:
    made = shard(winners)
    assert made["training_ids"] == ["p0", "p1", "p2"]
    assert made["inference_ids"] == list(winners)
    assert (made["training"].num_without_winner, made["inference"].num_without_winner) == (0, 3 - len(winners))
    assert made["inference"].total()["num_texts"] == len(winners)
    assert made["inference"].total()["num_without_winner"] == 3 - len(winners)


def test_cut_texts_teach_no_end_and_an_answer_cut_to_nothing_is_left_out(shard: Callable[..., dict[str, Any]], pico) -> None:
    made, end = shard(("p0", "p1", "p2"), ("p0", "p1")), pico("llama").codec.eos_id
    assert made["training_ids"] == ["p0", "p1", "p2"] and made["inference_ids"] == ["p0", "p2"]
    for mode in ("training", "inference"):
        last = {id_: int(made[f"{mode}_store"][id_].token_ids[-1]) for id_ in made[f"{mode}_ids"]}
        assert {id_ for id_, token in last.items() if token == end} == {"p2"}
        assert made[mode].total()["num_cut"] == 2
    assert (made["training"].num_empty, made["inference"].num_empty) == (0, 1)


@pytest.mark.parametrize("alone", [("p0",), ("p0", "p1", "p2")])
def test_a_prompt_without_a_ground_truth_is_left_out_of_training_mode_only(
    shard: Callable[..., dict[str, Any]], alone: tuple[str, ...]
) -> None:
    made = shard(("p0", "p2"), alone=alone)
    assert made["training_ids"] == [id_ for id_ in SAID if id_ not in alone]
    assert made["inference_ids"] == ["p0", "p2"]
    assert made["training"].num_without_winner == len(alone)


def test_of_a_single_source_the_advantage_per_token_is_that_of_the_text(shard: Callable[..., dict[str, Any]], pico) -> None:
    """Both modes, with cut texts and prompts without a ground truth: the same stores and the same counts."""
    by_text, by_token = (shard(("p0", "p2"), ("p1",), ("p0",), advantage=unit) for unit in ("sample", "token"))
    for mode in ("training", "inference"):
        assert by_token[f"{mode}_ids"] == by_text[f"{mode}_ids"] and by_token[mode] == by_text[mode]
        for id_ in by_text[f"{mode}_ids"]:
            one, other = by_token[f"{mode}_store"][id_], by_text[f"{mode}_store"][id_]
            for name in ("token_ids", "topk_ids", "topk_logprobs", "tail", "ce", "prompt_ids", "has_teacher"):
                assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize(("winner", "order"), [("b", ["b", "a", "c"]), ("a", ["a", "b", "c"])])
def test_every_source_competes_for_the_tokens_of_a_ground_truth(winner: str, order: list[str]) -> None:
    """The Min-CE winner comes first, so that it has what is equally good."""
    example = Example("p0", "f", (Message("user", "Does the bell ring?"),), "Yes.")
    rows = [
        Advantage("p0", "f", winner, None, None, {"a": 1.0, "b": 0.5, "c": 2.0}, {}),
        Advantage("p1", "f", None, None, None, {}, {}),
    ]
    files = ShardFiles([example, replace(example, id="p1", response=None)], rows, {}, {}, {})
    (contest,) = _contests(files, {name: {"p0": name} for name in "abc"})  # type: ignore[arg-type]
    assert [(item.source, item.signals, item.text) for item in contest] == [(name, name, "Yes.") for name in order]
