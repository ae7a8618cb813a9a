"""Moving probability to the label where the source needs several tokens for it."""

from types import SimpleNamespace

import numpy as np
import pytest

from models.fusion.distribution import RenamedRows, merge
from models.fusion.label_path import LabelPaths, covering_slots, find_label_paths, move_to_labels
from models.tokenization.alignment import align_starts
from models.tokenization.codec import EncodedText


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


def move(ids, probs, tail, *, own: list[int], own_prob: list[float], onward: list[float], labels: list[int]) -> RenamedRows:
    rows = RenamedRows(np.array(ids, np.int32), np.array(probs, np.float32), np.array(tail, np.float32))
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
    ids, logprobs, _ = merge(moved, top_k=2)
    # Of three equal probabilities the lowest ids stay; in the second row the label gained what left the tail.
    assert ids.tolist() == [[1, 2], [3, 4]]
    assert float(np.exp(logprobs[1, 1])) == pytest.approx(0.35, abs=1e-3)


def test_the_tail_never_turns_negative() -> None:
    moved = move([[1]], [[0.9]], [0.05], own=[5], own_prob=[0.08], onward=[1.0], labels=[6])
    assert moved.tail == pytest.approx([0.0], abs=1e-7) and moved.probs == pytest.approx(np.array([[0.9, 0.05]]))
