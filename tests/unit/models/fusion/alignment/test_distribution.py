"""Renaming a top-k to another vocabulary: nothing lost, duplicates summed, storable."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.alignment import map_topk

from models.fusion.alignment.distribution import (
    LabelPaths,
    MappedRows,
    covering_slots,
    find_label_paths,
    merge_duplicates,
    move_to_labels,
)
from models.fusion.signals.record import PAD_LOGPROB, TAIL_FLOOR
from models.tokenization.alignment import align_starts
from models.tokenization.codec import EncodedText
from models.tokenization.vocab_map import VocabMap


def vocab_map(*ids: int) -> VocabMap:
    return VocabMap(np.array(ids, np.int32), np.array(ids) >= 0)


def row(ids: list[int], probs: list[float], tail: float, mapping: VocabMap | None) -> tuple[list[int], list[float], float]:
    logs = np.log(np.array([probs], np.float32)).astype(np.float16)
    out = map_topk(np.array([ids], np.uint32), logs, np.log(np.array([tail], np.float32)).astype(np.float16), mapping)
    assert [a.dtype for a in out] == [np.uint32, np.float16, np.float16]
    return out[0][0].tolist(), np.exp(out[1][0].astype(np.float64)).tolist(), float(np.exp(out[2][0].astype(np.float64)))


def test_duplicates_are_summed_and_sorted() -> None:
    ids, probs, tail = row([0, 1, 2, 3], [0.4, 0.3, 0.2, 0.05], 0.05, vocab_map(7, 8, 8, 9))
    assert ids == [8, 7, 9, 0]
    assert probs == pytest.approx([0.5, 0.4, 0.05, 0.0], abs=2e-3) and tail == pytest.approx(0.05, abs=1e-3)


def test_unmapped_mass_goes_to_the_tail() -> None:
    ids, probs, tail = row([0, 1, 2], [0.5, 0.3, 0.1], 0.1, vocab_map(-1, 4, -1))
    assert ids == [4, 0, 0] and probs == pytest.approx([0.3, 0, 0], abs=1e-3)
    assert tail == pytest.approx(0.7, abs=1e-3)


def test_heads_wider_than_the_tokenizer() -> None:
    ids, probs, tail = row([1, 900], [0.5, 0.4], 0.1, vocab_map(3, 5))
    assert ids == [5, 0] and probs == pytest.approx([0.5, 0], abs=1e-3) and tail == pytest.approx(0.5, abs=1e-3)


def test_unused_slots_do_not_become_token_zero() -> None:
    logs = np.array([[-0.5, PAD_LOGPROB, PAD_LOGPROB]], np.float16)
    ids, logprobs, _ = map_topk(np.array([[2, 0, 0]]), logs, np.array([-1.0], np.float16), vocab_map(9, 9, 4))
    assert ids.tolist() == [[4, 0, 0]] and logprobs[0, 1:].tolist() == [PAD_LOGPROB, PAD_LOGPROB]


def test_without_a_map_only_the_form_changes() -> None:
    logs = np.array([[-0.1, -3.0]], np.float16)
    ids, logprobs, tail = map_topk(np.array([[5, 2]]), logs, np.array([-4.0], np.float16), None)
    assert ids.tolist() == [[5, 2]] and tail.tolist() == [-4.0]
    assert np.array_equal(logprobs, logs)


def test_equal_probabilities_are_ordered_by_id() -> None:
    ids, _, _ = row([0, 1, 2], [0.25, 0.25, 0.25], 0.25, vocab_map(9, 3, 6))
    assert ids == [3, 6, 9]


def test_peaked_rows_stay_storable() -> None:
    # Rounding to float16 leaves more than 1 on two slots that fall together, and nothing for the tail.
    logs = np.array([[-0.0001, -8.0, -16.0]], np.float16)
    ids, logprobs, tail = map_topk(np.array([[0, 1, 2]]), logs, np.array([-np.inf], np.float16), vocab_map(3, 3, 3))
    assert logprobs.tolist() == [[0.0, PAD_LOGPROB, PAD_LOGPROB]] and ids.tolist() == [[3, 0, 0]]
    assert tail[0] == np.float16(TAIL_FLOOR)


def test_what_does_not_fit_joins_the_tail() -> None:
    renamed = MappedRows(np.array([[4, 5, 6]], np.int32), np.array([[0.2, 0.1, 0.5]], np.float32), np.array([0.2], np.float32))
    ids, logprobs, tail = merge_duplicates(renamed, top_k=2)
    assert ids.tolist() == [[6, 4]]
    assert np.exp(logprobs.astype(float)) == pytest.approx(np.array([[0.5, 0.2]]), abs=1e-3)
    assert float(np.exp(tail[0])) == pytest.approx(0.3, abs=1e-3)


def test_no_rows() -> None:
    ids, logprobs, tail = map_topk(np.zeros((0, 4), int), np.zeros((0, 4)), np.zeros(0), None)
    assert ids.shape == logprobs.shape == (0, 4) and tail.shape == (0,)


def text(ends: list[int], lossy: tuple[int, ...] = ()) -> EncodedText:
    size = len(ends)
    return EncodedText(np.arange(size, dtype=np.int32), np.array(ends, np.int32), np.isin(np.arange(size), lossy), ends[-1])


def paths(target: EncodedText, source: EncodedText, probs: list[float]) -> LabelPaths:
    ce = -np.log(np.array([*probs, 0.9], np.float32))
    return find_label_paths(target, source, align_starts(target, source), ce)


def test_onward_probability_is_the_product_of_the_further_tokens() -> None:
    # target: hello| world ; source: hel|lo| wor|ld
    found = paths(text([5, 11]), text([3, 5, 9, 11]), [0.5, 0.4, 0.3, 0.2])
    assert found.positions.tolist() == [0, 1] and found.rows.tolist() == [0, 2]
    assert found.onward == pytest.approx([0.4, 0.2], rel=1e-5)


def test_a_source_token_that_reaches_the_label_s_end_counts_in_full() -> None:
    found = paths(text([3, 5, 9]), text([3, 9]), [0.5, 0.4])
    assert found.positions.tolist() == [0, 1] and found.onward.tolist() == [1.0, 1.0]
    found = paths(text([3, 9]), text([3, 5, 9]), [0.5, 0.4, 0.3])
    assert found.positions.tolist() == [0, 1] and found.onward == pytest.approx([1.0, 0.3], rel=1e-5)


def test_tokens_that_cover_the_label_and_agree_with_the_text() -> None:
    """Label `ab` of the text `abcd`: `ab`, `abc` and the longest agree, `abx` leaves the text, `a` is too short."""
    tokens = [b"a", b"ab", b"abc", b"abcd", b"abx", None]
    target, source = text([2, 4]), text([3, 4])
    found = LabelPaths(np.array([0]), np.array([0], np.int32), np.ones(1, np.float32))
    codec = SimpleNamespace(
        vocab_size=len(tokens),
        token_bytes=tokens,
        byte_lengths=np.array([len(t or b"") for t in tokens], np.int32),
        first_bytes=np.array([t[0] if t else 0 for t in tokens], np.uint8),
    )
    covering = covering_slots(np.array([[0, 1, 2, 3, 4, 5, 99]]), found, target, source, text=b"abcd", codec=codec)
    assert covering.tolist() == [[False, True, True, True, False, False, False]]


def test_a_source_token_across_the_end_counts_in_full() -> None:
    found = paths(text([4, 6]), text([2, 3, 6]), [0.5, 0.4, 0.3])
    assert found.positions.tolist() == [0] and found.onward == pytest.approx([0.4 * 0.3], rel=1e-5)


def test_lossy_tokens_on_the_way_are_not_followed() -> None:
    target, source = text([2, 5]), text([1, 2, 3, 5], lossy=(3,))
    ce = np.zeros(5, np.float32)
    assert find_label_paths(target, source, align_starts(target, source), ce).positions.tolist() == [0]  # [1] would cross it


def move(ids, probs, tail, *, own: list[int], own_prob: list[float], onward: list[float], labels: list[int]) -> MappedRows:
    rows = MappedRows(np.array(ids, np.int32), np.array(probs, np.float32), np.array(tail, np.float32))
    at = np.arange(len(labels))
    found = LabelPaths(at, at.astype(np.int32), np.array(onward, np.float32))
    slot = np.array(ids) == np.array(own)[:, None]
    return move_to_labels(
        rows, found, at=at, own_slot=slot, own_prob=np.array(own_prob, np.float32), labels=np.array(labels, np.int32)
    )


def test_moves_from_the_slot_or_from_the_tail() -> None:
    moved = move(
        [[1, 2], [3, 4]],
        [[0.6, 0.3], [0.5, 0.3]],
        [0.1, 0.2],
        own=[1, 9],
        own_prob=[0.6, 0.1],
        onward=[0.5, 0.5],
        labels=[7, 4],
    )
    assert moved.ids.tolist() == [[1, 2, 7], [3, 4, 4]]
    assert moved.probs == pytest.approx(np.array([[0.3, 0.3, 0.3], [0.5, 0.3, 0.05]]))
    assert moved.tail == pytest.approx([0.1, 0.15])
    ids, logprobs, _ = merge_duplicates(moved, top_k=2)
    # Of three equal probabilities the lowest ids stay; in the second row the label gained what left the tail.
    assert ids.tolist() == [[1, 2], [3, 4]]
    assert float(np.exp(logprobs[1, 1])) == pytest.approx(0.35, abs=1e-3)


def test_the_tail_never_turns_negative() -> None:
    moved = move([[1]], [[0.9]], [0.05], own=[5], own_prob=[0.08], onward=[1.0], labels=[6])
    assert moved.tail == pytest.approx([0.0], abs=1e-7) and moved.probs == pytest.approx(np.array([[0.9, 0.05]]))
