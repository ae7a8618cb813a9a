"""Which value of a grid is best."""

from flows.ablation.grid import ranks


def best(rows: list[dict[str, float]], first: str) -> int:
    marks = ranks(rows, first)
    return max(range(len(rows)), key=marks.__getitem__)


def test_the_other_figures_break_ties() -> None:
    rows = [
        {"accuracy": 0.5, "bits_per_byte": 2.0},
        {"accuracy": 0.5, "bits_per_byte": 1.0},
        {"accuracy": 0.4, "bits_per_byte": 0.5},
    ]
    assert best(rows, "accuracy") == 1
    assert best(rows, "bits_per_byte") == 2
    assert best([{"accuracy": 0.5}, {"accuracy": 0.5}], "accuracy") == 0, "of equals the first"


def test_every_scorer_has_the_same_say() -> None:
    """`judge` is on a hundred times the scale and prefers the last; `rm` and a third scorer the first."""
    rows = [
        {"reward/judge": 100.0, "reward/rm": 0.9, "reward/ok": 0.2},
        {"reward/judge": 200.0, "reward/rm": 0.1, "reward/ok": 0.1},
    ]
    assert best(rows, "reward") == 0
    assert best([{"bits_per_byte": 2.0}, {"bits_per_byte": 1.0}], "reward") == 1, "without any reward the others decide"
