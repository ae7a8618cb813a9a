"""Renaming a top-k to another vocabulary: nothing lost, duplicates summed, storable."""

import numpy as np
import pytest

from models.fusion.distribution import RenamedRows, map_topk, merge
from models.fusion.signal_record import PAD_LOGPROB, TAIL_FLOOR
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
    renamed = RenamedRows(np.array([[4, 5, 6]], np.int32), np.array([[0.2, 0.1, 0.5]], np.float32), np.array([0.2], np.float32))
    ids, logprobs, tail = merge(renamed, top_k=2)
    assert ids.tolist() == [[6, 4]]
    assert np.exp(logprobs.astype(float)) == pytest.approx(np.array([[0.5, 0.2]]), abs=1e-3)
    assert float(np.exp(tail[0])) == pytest.approx(0.3, abs=1e-3)


def test_no_rows() -> None:
    ids, logprobs, tail = map_topk(np.zeros((0, 4), int), np.zeros((0, 4)), np.zeros(0), None)
    assert ids.shape == logprobs.shape == (0, 4) and tail.shape == (0,)
