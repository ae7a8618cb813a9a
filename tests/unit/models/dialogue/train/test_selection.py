import pytest

from models.dialogue.train.selection import Selection


def metrics(f1=0.0, nll=1.0, **recall):
    return {"valid/value_f1": f1, "valid/nll": nll, **{f"valid/{k}": v for k, v in recall.items()}}


@pytest.fixture
def selection(tmp_path):
    return Selection(tmp_path / "best", num_retrieved=7)


def consider(selection, step, values):
    return selection.consider(step, values, lambda kind, folder: (folder / "w").write_text(f"{kind} {step}"))


def test_generator_by_f1_then_nll_and_ties_stay(selection):
    assert consider(selection, 0, metrics(0.1, 2.0)) == ["best_generator", "best_retriever"]
    assert consider(selection, 1, metrics(0.1, 2.0)) == []
    assert consider(selection, 2, metrics(0.1, 1.5)) == ["best_generator"]
    assert consider(selection, 3, metrics(0.05, 0.1)) == []
    assert consider(selection, 4, metrics(0.2, 9.0)) == ["best_generator"]
    assert selection.chosen["best_generator"].step == 4 and selection.chosen["best_retriever"].step == 0
    assert (selection.folder("best_generator") / "w").read_text() == "best_generator 4"


def test_retriever_by_recall_at_k_then_at_1(selection):
    rows = [{"recall@7_value": a, "recall@1_value": b} for a, b in [(0.8, 0.5), (0.8, 0.6), (0.7, 0.9), (0.9, 0.1)]]
    better = [consider(selection, step, metrics(**row)) for step, row in enumerate(rows)]
    assert ["best_retriever" in b for b in better] == [True, True, False, True]


def test_recall_by_id_where_no_turn_has_gold_values(selection):
    for step, recall in enumerate((0.5, 0.7)):
        consider(selection, step, metrics(**{"recall@7_id": recall, "recall@1_id": 0.1}))
    assert selection.chosen["best_retriever"].step == 1


def test_models_of_checkpoints_outlive_better_ones(selection):
    consider(selection, 0, metrics(0.1))
    before = selection.state()
    consider(selection, 5, metrics(0.2))
    selection.prune([before])
    assert selection.missing(before) == [] and selection.folder("best_generator").is_dir()
    selection.prune([])
    assert selection.missing(before) == ["best_generator-0"]
    other = Selection(selection.folder("best_generator").parent, num_retrieved=7)
    other.restore(selection.state())
    assert other.state() == selection.state() and other.missing(other.state()) == []
