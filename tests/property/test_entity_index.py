"""An index against brute force, through any order of changes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.ranking import top_rows
from models.params.index import IndexParams

DIM = 8
# Few distinct vectors, so that scores tie.
CODE_BOOK = np.eye(DIM, dtype=np.float32)[:4]


def vectors(codes: list[int]) -> np.ndarray:
    return CODE_BOOK[np.array(codes, dtype=np.int64)].reshape(-1, DIM)


def expected(held: dict[int, int], query: np.ndarray, rows: set[int], k: int) -> list[int]:
    scores = {row: float(CODE_BOOK[held[row]] @ query) for row in rows}
    return sorted(rows, key=lambda row: (-scores[row], row))[:k]


CHANGE = st.tuples(st.sampled_from(["add", "update", "remove"]), st.integers(0, 60), st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["flat", "ivf"]),
    start=st.dictionaries(st.integers(0, 60), st.integers(0, 3), min_size=1, max_size=50),
    changes=st.lists(CHANGE, max_size=12),
    k=st.integers(1, 70),
    weights=st.lists(st.integers(-3, 3), min_size=DIM, max_size=DIM).filter(any),
    data=st.data(),
)
def test_changes_and_ties(kind, start, changes, k, weights, data) -> None:
    query = (np.array(weights) / np.linalg.norm(weights)).astype(np.float32)
    held = dict(start)
    cfg = IndexParams(kind=kind, nlist=3, nprobe=3)
    ids = np.array(list(held), dtype=np.int64)
    index = EntityIndex.build(cfg, vectors(list(held.values())), ids=ids, encoder_digest="e", kb_digest="k", threads=1)
    for change, row, code in changes:
        if change == "add" and row not in held:
            index.add([row], vectors([code]))
            held[row] = code
        elif change == "update" and row in held:
            index.update([row], vectors([code]))
            held[row] = code
        elif change == "remove" and row in held and len(held) > 1:
            index.remove([row])
            del held[row]
    assert index.ids.tolist() == sorted(held)
    hits = index.search(query[None], k)
    got = hits.rows[0].tolist()
    assert len(got) == min(k, len(held)) == len(set(got)) and set(got) <= set(held)
    if kind == "flat" or k >= len(held):
        assert got == expected(held, query, set(held), k)
    session = data.draw(st.sets(st.sampled_from(sorted(held)), max_size=8))
    inside = index.search(query[None], k, within=[sorted(session)])
    assert [row for row, _ in inside.of(0)] == expected(held, query, session, min(k, len(held)))
    exclude = data.draw(st.sets(st.sampled_from(sorted(held)), max_size=4))
    left = expected(held, -query, session - exclude, 1)
    assert index.lowest(query[None], exclude=[sorted(exclude)], within=[sorted(session)]).tolist() == (left or [-1])


@given(scores=st.lists(st.integers(0, 5), max_size=40), k=st.integers(1, 50))
def test_top_rows_is_a_stable_sort(scores: list[int], k: int) -> None:
    want = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:k]
    assert top_rows(np.array(scores, dtype=np.float32), k=k).tolist() == want
