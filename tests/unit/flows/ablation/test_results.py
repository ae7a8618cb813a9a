"""The figures of an ablation."""

from flows.ablation.plan_file import Item
from flows.ablation.results import missing_note

ITEMS = [Item(regime, arm, seed) for regime in ("few", "many") for arm in ("sft", "profuser") for seed in (1, 2)]


def test_missing_runs_are_named_by_regime_arm_or_seed() -> None:
    assert missing_note(ITEMS, []) == ""
    assert missing_note(ITEMS, ITEMS[4:]) == "4 of 8 runs are missing: many (all)."
    assert missing_note(ITEMS, ITEMS[1:4]) == "3 of 8 runs are missing: few (sft with seed 2, profuser)."
    assert missing_note(ITEMS, ITEMS) == "8 of 8 runs are missing: few (all); many (all)."
