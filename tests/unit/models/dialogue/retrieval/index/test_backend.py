"""KB rows and slots."""

import numpy as np
import pytest

from models.dialogue.retrieval.index.backend import RowMap
from models.errors import RetrievalError


def test_slots_of_rows_in_any_order_and_shape() -> None:
    rows = RowMap(np.array([50, 7, 9_000_000_000]))
    assert rows.slots(np.array([[9_000_000_000, 50], [7, 7]])).tolist() == [[2, 0], [1, 1]]
    assert rows.known(np.array([7, 8, -1, 9_000_000_001])).tolist() == [True, False, False, False]


def test_an_unknown_row_is_named() -> None:
    with pytest.raises(RetrievalError, match=r"holds 2 entities, but not KB row 3"):
        RowMap(np.array([1, 2])).slots(np.array([1, 3]))
    with pytest.raises(RetrievalError, match=r"holds 0 entities, but not KB row 0"):
        RowMap(np.array([], dtype=np.int64)).slots(np.array([0]))


def test_a_row_given_twice_is_refused() -> None:
    with pytest.raises(RetrievalError, match=r"KB row 4 is given more than once"):
        RowMap(np.array([4, 1, 4]))
