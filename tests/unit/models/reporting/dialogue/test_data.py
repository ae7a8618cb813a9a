"""Result rows of the dialogue half."""

from pathlib import Path

import pytest

from models.reporting.dialogue.data import DialogueReportData, dialogue_comparison_result_rows, dialogue_result_rows
from models.reporting.results import Result, read_result, write_result


def test_figures_survive_a_result_file_in_the_units_shown(dialogue_report: DialogueReportData, tmp_path: Path) -> None:
    table = dialogue_result_rows(dialogue_report.table)
    pairs = dialogue_comparison_result_rows(dialogue_report.comparisons)
    result = Result("dialogue", "dvc repro", "abc", "2026-01-31", table + pairs)
    assert read_result(write_result(tmp_path, result)) == result
    row = next(r for r in dialogue_report.table if r.metric == "entity_f1")
    found = next(r for r in table if r.more["metric"] == "entity_f1")
    assert (found.name, found.unit, found.num) == (row.system.label, "%", row.num)
    assert (found.value, found.low) == pytest.approx((100 * row.value, 100 * row.low))
    bleu = next(r for r in table if r.more["metric"] == "bleu")
    assert bleu.unit == "" and bleu.more["note"] == "signature <x>"
    assert next(r for r in pairs if r.more["metric"] == "mrr").unit == ""
    assert {r.more["verdict"] for r in pairs} <= {"better", "worse", "unclear"}
