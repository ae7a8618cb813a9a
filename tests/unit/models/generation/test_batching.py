import numpy as np
import torch

from models.generation.batching import pad_rows, plan_batches


def test_every_row_once_longest_first_ties_in_order():
    assert plan_batches([3, 9, 3, 5, 3], max_rows=2) == [[1, 3], [0, 2], [4]]


def test_padded_tokens_stay_under_the_limit():
    lengths = [7, 1, 30, 2, 2, 8, 16, 1, 5]
    batches = plan_batches(lengths, max_tokens=16)
    assert sorted(i for batch in batches for i in batch) == list(range(9))
    assert batches[0] == [2], "a row longer than the limit goes alone"
    assert all(len(b) * max(lengths[i] for i in b) <= 16 for b in batches[1:])
    assert batches[2] == [5, 0], "rows are added while they fit"


def test_limits_combine_and_empty_input_is_empty():
    assert plan_batches([4, 4, 4, 4], max_rows=3, max_tokens=8) == [[0, 1], [2, 3]]
    assert plan_batches([1] * 4, max_rows=3, max_tokens=8) == [[0, 1, 2], [3]]
    assert plan_batches([], max_rows=2) == []


def test_padding_sides():
    rows = [np.array([5, 6, 7], np.int32), np.array([8], np.int32)]
    ids, mask = pad_rows(rows, pad_id=2, side="left", device=torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [2, 2, 8]] and mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, mask = pad_rows(rows, pad_id=2, side="right", device=torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [8, 2, 2]] and mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64
