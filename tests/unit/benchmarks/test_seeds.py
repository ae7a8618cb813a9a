"""Means and paired differences over seeds."""

from dataclasses import replace

import pytest

from benchmarks.seeds import VARIED, Figures, Study, difference_rows, mean_rows, shown_arguments


def figures(sft: float, profuser: float) -> Figures:
    return {
        ("sft → solver", "method", "accuracy", "%"): sft,
        ("profuser → solver", "method", "accuracy", "%"): profuser,
        ("sft → solver", "method", "bits_per_byte", "bits/byte"): 1.0,
    }


# Three seeds that differ much, and a difference that hardly does: only pairing sees it.
SEEDS = [figures(50.0, 60.0), figures(70.0, 81.0), figures(90.0, 99.0)]


def test_a_mean_has_the_t_interval_over_its_seeds() -> None:
    row = next(row for row in mean_rows(SEEDS) if row.name == "sft → solver" and row.more["metric"] == "accuracy")
    assert (row.value, row.num, row.more["by_seed"]) == (70.0, 3, "50.0, 70.0, 90.0")
    # 70 ± t(0.975, 2) · 20 / √3
    assert (row.low, row.high) == pytest.approx((70 - 49.68, 70 + 49.68), abs=0.01)


def test_differences_are_paired_by_seed() -> None:
    (row,) = difference_rows(SEEDS, [("profuser", "sft")])
    assert (row.name, row.unit, row.value) == ("profuser − sft", "points", 10.0)
    assert (row.low, row.high) == pytest.approx((10 - 2.484, 10 + 2.484), abs=0.001)
    assert row.more["p"] < 0.05


def test_what_one_seed_lacks_is_no_row() -> None:
    lacking = [*SEEDS, {key: value for key, value in SEEDS[0].items() if not key[0].startswith("profuser")}]
    assert {row.name for row in mean_rows(lacking)} == {"sft → solver"}
    assert list(difference_rows(lacking, [("profuser", "sft")])) == []


def test_each_seed_is_given_to_every_varied_param() -> None:
    study = Study("fusion", "embedded", ("fusion.lr=1e-3",), VARIED["fusion"])
    assert study.command(7, threads=1)[-8:] == [
        "-S", "fusion.lr=1e-3", "-S", "corpus.world.seed=7", "-S", "fusion.seed=7", "-S", "runtime.threads=1",
    ]  # fmt: skip
    assert study.kept(7) != study.kept(8)


def test_a_second_round_runs_after_the_first_with_the_same_seed() -> None:
    study = Study("fusion", "second-round", ("methods=[profuser]",), VARIED["fusion"], "embedded:profuser")
    first = study.first()
    assert first is not None and first.first() is None
    assert first.command(7, threads=None) == [
        "-m", "flows", "run", "fusion", "--profile", "embedded", "-S", "methods=[profuser]",
        "-S", "dialogue_evaluation.in_context=[]", "-S", "corpus.world.seed=7", "-S", "fusion.seed=7",
    ]  # fmt: skip
    others = [replace(study, before=before) for before in ("", "embedded:sft")]
    assert len({s.kept(7) for s in (study, *others)}) == 3, "figures are those of one first round"


def test_the_command_told_leaves_out_how_it_was_executed() -> None:
    assert shown_arguments(["name", "--threads", "1", "--seeds", "1", "2"]) == ["name", "--seeds", "1", "2"]
