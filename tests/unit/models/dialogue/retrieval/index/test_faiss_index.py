"""Building, searching and changing an index."""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.errors import RetrievalError
from models.params.index import IndexParams

KINDS = ("flat", "ivf", "hnsw", "pq")
CHANGING = ("flat", "ivf", "pq")
NUM, DIM = 400, 32


def unit(num: int, *, seed: int = 0, dim: int = DIM) -> npt.NDArray[np.float32]:
    draws = np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)
    return draws / np.linalg.norm(draws, axis=1, keepdims=True)


E_REPS, Q_REPS = unit(NUM), unit(12, seed=1)
IDS = np.random.default_rng(2).permutation(10 * NUM)[:NUM].astype(np.int64)
TRUTH = Q_REPS.astype(np.float64) @ E_REPS.T.astype(np.float64)


def build(kind: Any, *, e_reps: npt.NDArray[np.float32] = E_REPS, ids: Any = IDS, **settings: Any) -> EntityIndex:
    cfg = IndexParams(**{"kind": kind, "nlist": 8, "nprobe": 8, "pq_bytes": 8, **settings})
    return EntityIndex.build(cfg, e_reps, ids=ids, encoder_digest="encoder", kb_digest="kb", threads=1)


@pytest.fixture(scope="module")
def built() -> dict[str, EntityIndex]:
    return {kind: build(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_entities_with_true_cosines(kind: str, built: dict[str, EntityIndex]) -> None:
    hits = built[kind].search(Q_REPS, 5)
    best = np.argsort(-TRUTH, axis=1)[:, :5]
    assert np.mean([len({*a} & {*IDS[b]}) for a, b in zip(hits.rows, best, strict=True)]) > 4.9
    if kind == "flat":
        assert hits.rows.tolist() == IDS[best].tolist()
    place = {row: i for i, row in enumerate(IDS.tolist())}
    true = [[TRUTH[q, place[row]] for row in rows] for q, rows in enumerate(hits.rows.tolist())]
    np.testing.assert_allclose(hits.scores, true, atol=1e-6)
    assert hits.counts.tolist() == [5] * 12


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_there_are_gives_all_and_no_padding(kind: str, built: dict[str, EntityIndex]) -> None:
    hits = built[kind].search(Q_REPS[:2], NUM + 50)
    assert hits.rows.shape == (2, NUM)
    assert sorted(hits.rows[0].tolist()) == sorted(IDS.tolist())
    assert (np.diff(hits.scores, axis=1) <= 0).all()


def test_a_cell_with_too_few_entities_is_no_reason_to_return_fewer() -> None:
    hits = build("ivf", nlist=100, nprobe=1).search(Q_REPS, 30)
    assert hits.counts.tolist() == [30] * 12
    assert (hits.rows >= 0).all()
    assert all(len(set(rows)) == 30 for rows in hits.rows.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_the_batch(kind: str, built: dict[str, EntityIndex]) -> None:
    together = built[kind].search(Q_REPS, 7)
    for query in range(12):
        alone = built[kind].search(Q_REPS[query : query + 1], 7)
        assert alone.rows[0].tolist() == together.rows[query].tolist()
        assert alone.scores[0].tolist() == together.scores[query].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_whole_knowledge_base_are_found_alone_as_together(kind: str) -> None:
    index = build(kind, ids=np.arange(NUM))
    together, best = index.search(Q_REPS, 7), np.argsort(-TRUTH, axis=1)[:, :7]
    for query in range(12):
        alone = index.search(Q_REPS[query : query + 1], 7)
        assert alone.rows[0].tolist() == together.rows[query].tolist()
        assert alone.scores[0].tolist() == together.scores[query].tolist() and alone.counts.tolist() == [7]
    assert np.mean([len({*a} & {*b}) for a, b in zip(together.rows, best, strict=True)]) > 6.9
    np.testing.assert_array_equal(index.reconstruct([5, 3]), E_REPS[[5, 3]])


def test_equal_entities_stand_in_the_order_of_rows_however_many() -> None:
    same = np.repeat(unit(1), 300, axis=0)
    order = np.random.default_rng(0).permutation(300)
    index = build("flat", e_reps=np.concatenate([same, unit(20, seed=5)]), ids=np.concatenate([order, 300 + np.arange(20)]))
    hits = index.search(np.concatenate([same[:1], Q_REPS[:1]]), 6)
    assert hits.rows[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert index.lowest(-same[:1], exclude=[[0, 1, 3]]).tolist() == [2]


@pytest.mark.parametrize("kind", KINDS)
def test_within_sessions_the_search_is_exact(kind: str, built: dict[str, EntityIndex]) -> None:
    sessions = [IDS[i : i + 1 + i % 8].tolist() for i in range(11)] + [[]]
    hits = built[kind].search(Q_REPS, 6, within=sessions)
    assert hits.rows.shape == (12, 6)
    assert hits.counts.tolist() == [min(6, len(s)) for s in sessions]
    for query, rows in enumerate(sessions):
        scores = {row: TRUTH[query, IDS.tolist().index(row)] for row in rows}
        assert [row for row, _ in hits.of(query)] == sorted(rows, key=lambda row: -scores[row])[:6]
    assert (hits.rows[11] == -1).all() and np.isneginf(hits.scores[11]).all()


def test_a_session_with_an_unknown_row_is_refused(built: dict[str, EntityIndex]) -> None:
    missing = int(np.setdiff1d(np.arange(10 * NUM), IDS)[0])
    with pytest.raises(RetrievalError, match=f"not KB row {missing}"):
        built["ivf"].search(Q_REPS[:1], 3, within=[[int(IDS[0]), missing]])


def test_the_lowest_that_is_not_excluded(built: dict[str, EntityIndex]) -> None:
    order = IDS[np.argsort(TRUTH, axis=1)]
    exclude = [order[q, :q].tolist() for q in range(12)]
    for kind in ("flat", "ivf", "pq"):
        assert built[kind].lowest(Q_REPS, exclude=exclude).tolist() == [order[q, q] for q in range(12)]
    near = built["hnsw"].lowest(Q_REPS, exclude=exclude)
    ranks = [order[q].tolist().index(row) for q, row in enumerate(near.tolist())]
    assert all(rank >= q for q, rank in enumerate(ranks)) and np.median(ranks) < 30


def test_the_lowest_of_a_session_or_none(built: dict[str, EntityIndex]) -> None:
    session = IDS[:4].tolist()
    order = IDS[np.argsort(TRUTH[0, :4])].tolist()
    found = built["flat"].lowest(np.repeat(Q_REPS[:1], 3, axis=0), exclude=[[], order[:2], session], within=[session] * 3)
    assert found.tolist() == [order[0], order[2], -1]
    assert built["flat"].lowest(Q_REPS[:1], exclude=[IDS.tolist()]).tolist() == [-1]


@pytest.mark.parametrize("kind", CHANGING)
def test_updates_removals_and_additions(kind: str) -> None:
    index, fresh = build(kind), unit(3, seed=9)
    index.update(IDS[[10, 20, 30]], fresh, encoder_digest="new encoder")
    assert index.search(fresh, 1).rows[:, 0].tolist() == IDS[[10, 20, 30]].tolist()
    np.testing.assert_array_equal(index.reconstruct(IDS[[30, 11]]), np.stack([fresh[2], E_REPS[11]]))
    index.remove(IDS[[20, 5]], kb_digest="new kb")
    assert len(index) == NUM - 2
    assert not np.isin(index.search(np.stack([fresh[1], E_REPS[5]]), 20).rows, IDS[[20, 5]]).any()
    index.add(np.array([99_999]), fresh[1:2])
    assert index.search(fresh, 1).rows[:, 0].tolist() == [IDS[10], 99_999, IDS[30]]
    assert index.ids.tolist() == sorted({*IDS.tolist(), 99_999} - {*IDS[[20, 5]].tolist()})
    assert (index.encoder_digest, index.kb_digest) == ("new encoder", "new kb")
    assert index.search(Q_REPS, 9999).rows.shape == (12, NUM - 1)


def test_a_graph_can_only_grow() -> None:
    index = build("hnsw")
    index.add(np.array([99_999]), unit(1, seed=9))
    assert index.search(unit(1, seed=9), 1).rows.tolist() == [[99_999]]
    for change in (lambda: index.update(IDS[:1], E_REPS[:1]), lambda: index.remove(IDS[:1])):
        with pytest.raises(RetrievalError, match=r"`index.kind` must be `flat`, `ivf` or `pq` to (update|remove) entities"):
            change()


@pytest.mark.parametrize("kind", KINDS)
def test_two_builds_are_the_same(kind: str, built: dict[str, EntityIndex]) -> None:
    cfg = IndexParams(kind=kind, nlist=8, nprobe=8, pq_bytes=8)
    again = EntityIndex.build(cfg, E_REPS, ids=IDS, encoder_digest="encoder", kb_digest="kb", threads=2)
    first, second = built[kind].search(Q_REPS, 20), again.search(Q_REPS, 20)
    assert first.rows.tolist() == second.rows.tolist() and first.scores.tolist() == second.scores.tolist()


def test_auto_is_exact_up_to_the_limit() -> None:
    assert build("auto", exact_up_to=NUM).kind == "flat"
    assert build("auto", exact_up_to=NUM - 1, nlist=0).kind == "ivf"


def test_small_knowledge_bases() -> None:
    tiny = build("ivf", e_reps=E_REPS[:3], ids=IDS[:3], nlist=0)
    assert tiny.search(Q_REPS[:1], 7).rows.shape == (1, 3)
    empty = build("flat", e_reps=E_REPS[:0], ids=IDS[:0])
    assert empty.search(Q_REPS, 7).rows.shape == (12, 0)
    assert empty.lowest(Q_REPS[:2], exclude=[[], []]).tolist() == [-1, -1]
    assert build("flat").search(Q_REPS[:0], 7).rows.shape == (0, 7)
    with pytest.raises(RetrievalError, match=r"`pq` must have at least 256 entities to learn from, but has 3"):
        build("pq", e_reps=E_REPS[:3], ids=IDS[:3])
    with pytest.raises(RetrievalError, match=r"`index.pq_bytes` must divide the embedding size 32, but is 5"):
        build("pq", pq_bytes=5)


def test_what_does_not_fit_is_refused(built: dict[str, EntityIndex]) -> None:
    flat, double = built["flat"], E_REPS[:3] * 2
    holed = E_REPS[:3].copy()
    holed[1, 0] = np.nan
    for bad, message in (
        (lambda: flat.search(Q_REPS, 0), r"`k` must be at least 1, but is 0"),
        (lambda: flat.search(unit(2, dim=16), 3), r"shape \[number, 32\], but have \[2, 16\]"),
        (lambda: flat.search(Q_REPS, 3, within=[[1]]), r"`within` must have one entry for each embedding \(12\), but has 1"),
        (lambda: flat.lowest(Q_REPS, exclude=[[]]), r"`exclude` must have one entry"),
        (lambda: build("flat", e_reps=double, ids=IDS[:3]), r"L2-normalised, but line 0 has norm 2"),
        (lambda: build("flat", e_reps=holed, ids=IDS[:3]), r"finite and L2-normalised, but line 1 has norm nan"),
        (lambda: build("flat", ids=IDS[:3]), r"`ids` must have one entry for each embedding \(400\), but has 3"),
        (lambda: build("flat", e_reps=E_REPS[:2], ids=[4, 4]), r"`ids` must be distinct"),
        (lambda: build("flat", e_reps=E_REPS[:2], ids=[-1, 4]), r"`ids` must be distinct KB rows of 0 and more"),
        (lambda: flat.add(IDS[:1], E_REPS[:1]), f"KB row {IDS[0]} is in the index already"),
        (lambda: flat.update(np.array([99_999]), E_REPS[:1]), r"not KB row 99999"),
        (lambda: flat.remove(np.array([99_999])), r"not KB row 99999"),
        (lambda: flat.reconstruct(np.array([99_999])), r"not KB row 99999"),
    ):
        with pytest.raises(RetrievalError, match=message):
            bad()
    assert len(flat) == NUM


@pytest.mark.parametrize("kind", ["flat", "ivf", "pq"])
def test_searchers_see_the_index_before_or_after_a_change(kind):
    rng = np.random.default_rng(0)

    def unit(count):
        rows = rng.normal(size=(count, 16)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    reps, more, query = unit(400), unit(100), unit(1)
    cfg = IndexParams(kind=kind, nlist=8, nprobe=8, pq_bytes=8)
    index = EntityIndex.build(cfg, reps, ids=np.arange(400), encoder_digest="e", kb_digest="k", threads=1)
    before = index.search(query, 400).rows.tolist()
    index.add(np.arange(400, 500), more)
    after = index.search(query, 500).rows.tolist()
    index.remove(np.arange(400, 500))
    stop, wrong = threading.Event(), []

    def search():
        while not stop.is_set():
            try:
                rows = index.search(query, 1000).rows.tolist()
                held = index.ids
                vectors = index.reconstruct(np.arange(400))
                lowest = index.lowest(query, exclude=[[]])
            except Exception as error:
                wrong.append(error)
            else:
                if rows not in (before, after) or len(held) not in (400, 500) or lowest[0] < 0 or not np.isfinite(vectors).all():
                    wrong.append(rows)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            index.add(np.arange(400, 500), more)
            index.update(np.arange(0, 400, 7), reps[::7])
            index.remove(np.arange(400, 500))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw", "pq"])
def test_a_copy_is_changed_alone(kind, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    reps = rng.normal(size=(301, 16)).astype(np.float32)
    reps /= np.linalg.norm(reps, axis=1, keepdims=True)
    cfg = IndexParams(kind=kind, nlist=8, nprobe=8, pq_bytes=8)
    index = EntityIndex.build(cfg, reps[:300], ids=np.arange(300), encoder_digest="e", kb_digest="k")
    index.save(tmp_path)
    monkeypatch.setattr("models.dialogue.retrieval.index.file.MAPPED_FROM_BYTES", 1)
    mapped = EntityIndex.load(tmp_path, expect_encoder="e", expect_kb="k")
    for original in (index, mapped):
        copy = original.copy()
        assert not copy.read_only and np.array_equal(copy.search(reps[:9], 7).rows, original.search(reps[:9], 7).rows)
        copy.add([300], reps[300:], kb_digest="more")
        assert (len(copy), len(original), copy.kb_digest, original.kb_digest) == (301, 300, "more", "k")
        assert np.array_equal(copy.reconstruct([5, 300]), reps[[5, 300]])
    assert mapped.read_only
