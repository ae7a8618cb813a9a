"""Tables of the dialogue half."""

import io

import pytest
from rich.console import Console

from models.evaluation.bootstrap import Resampling
from models.evaluation.dialogue.comparison import aggregate
from models.evaluation.dialogue.scores import DialogueRow
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.dialogue.data import DialogueReportData
from models.reporting.dialogue.formatting import format_range, format_value, main_recall, metric_name, metric_title, shown
from models.reporting.dialogue.grids import (
    CLAIMS,
    claim_grid,
    difference_grid,
    domain_grid,
    main_grid,
    request_grid,
    response_grid,
    retrieval_grid,
)
from models.reporting.grids import Grid, to_rich
from models.reporting.paper_tables import paper_rows


def _names(grid: Grid) -> list[str]:
    return [row[0].text for row in grid.rows]


def test_measured_systems_stand_before_printed_ones(dialogue_report: DialogueReportData) -> None:
    grid = main_grid(dialogue_report.table, paper=paper_rows("multiwoz", "large_scale"))
    assert grid.header == ("system", "BLEU", "BLEU as MAKER", "Entity F1, %", "Recall@7 by value, %", "hallucinated values, %")
    assert _names(grid)[:6] == ["none", "prompt", "fused, none", "fused + prompt", "warm start", "BM25"]
    assert _names(grid)[6:8] == ["Q-TOD", "MAKER"]
    printed = next(row for row in grid.rows if row[0].detail == "paper, T5-base" and row[0].text == "MK-TOD prompt")
    # Their BLEU is by multi-bleu.perl, so it is compared with ours of that kind only.
    assert [cell.text for cell in printed[1:]] == ["–", "17.56", "50.69", "92.74", "–"]
    assert grid.rows[1][3].mark == "best" and grid.rows[0][3].mark == ""
    warm = grid.rows[4]
    assert [cell.text for cell in warm[1:4]] == ["–", "–", "–"] and warm[4].text != "–"
    assert any("BLEU: signature <x>." in note for note in grid.notes)
    assert any("as printed in MK-TOD, EMNLP 2023 (Table 1)" in note for note in grid.notes)
    assert "fused + prompt answered only some of the turns (n = 20)." in grid.notes


def test_retrieval_has_every_k_and_no_generators(dialogue_report: DialogueReportData) -> None:
    grid = retrieval_grid(dialogue_report.table)
    assert grid.header == ("retriever", "value @1", "value @7", "id @1", "id @7", "MRR")
    assert _names(grid) == ["none", "prompt", "warm start", "BM25"]
    assert "n = 40" in grid.notes[0]
    first = retrieval_grid(dialogue_report.table, first_mentions=True)
    assert "n = 20" in first.notes[0] and first.header == grid.header


def test_expected_recall_and_fit_stand_beside_recall() -> None:
    statistics: dict[str, tuple[float, ...]] = {
        "recall_value@1": (1, 1), "recall_value@7": (1, 1), "expected_recall_value@1": (0.5, 1),
        "expected_recall_value@7": (1, 1),
        "fit@1": (1, 1), "fit@7": (2, 7), "fit_ceiling@1": (1, 1), "fit_ceiling@7": (3, 7),
    }  # fmt: skip
    scores = {
        DialogueSystem(name, kind): [  # type: ignore[arg-type]
            DialogueRow(f"d{n}#0", f"d{n}", "hotel", "response", True, False, (), "", statistics=statistics) for n in range(4)
        ]
        for name, kind in (("bm25", "floor"), ("warm_start", "warm_start"))
    }
    table = aggregate(scores, resampling=Resampling(samples=100))
    grid = request_grid(table)
    assert grid.header == ("retriever", "expected, value @1", "expected, value @7", "fit @1", "fit @7")
    assert _names(grid) == ["warm start", "BM25"]
    assert [cell.text for cell in grid.rows[1][1:]] == ["50.0", "100.0", "100.0", "28.6"]
    assert "n = 4 turns; at most 100.0 % at 1, 42.9 % at 7" in grid.notes[-1]
    assert main_grid(table).header[1:] == ("Recall@7 by value, %", "expected Recall@7 by value, %", "Fit@7, %")
    assert request_grid([]).rows == ()


def test_values_are_those_of_the_table(dialogue_report: DialogueReportData) -> None:
    row = next(r for r in dialogue_report.table if (r.system.name, r.metric, r.domain) == ("prompt", "entity_f1", "hotel"))
    grid = domain_grid(dialogue_report.table, metric="entity_f1")
    assert grid.header == ("system", "all (n = 40)", "hotel (n = 20)", "restaurant (n = 20)")
    cell = grid.rows[1][2]
    assert (cell.text, cell.detail) == (f"{100 * row.value:.1f}", f"[{100 * row.low:.1f}, {100 * row.high:.1f}]")
    assert _names(domain_grid(dialogue_report.table, metric="recall_id@1")) == ["none", "prompt", "warm start", "BM25"]
    assert "Entity precision, %" in response_grid(dialogue_report.table).header


def test_claims_are_marked_by_their_verdict(dialogue_report: DialogueReportData) -> None:
    grid = claim_grid(dialogue_report.comparisons, claim="meta knowledge")
    assert grid.title == CLAIMS["meta knowledge"]
    assert _names(grid) == ["prompt − none"]
    f1 = grid.rows[0][grid.header.index("Entity F1, points")]
    assert f1.mark == "better" and f1.text.startswith("+")
    hallucinated = grid.rows[0][grid.header.index("hallucinated values, points")]
    assert hallucinated.mark == "better" and hallucinated.text.startswith("−")
    assert grid.notes == ("Paired over 20 dialogues.",)
    assert _names(claim_grid(dialogue_report.comparisons, claim="joint training")) == ["none − warm start", "prompt − warm start"]
    lines = difference_grid(dialogue_report.comparisons, claim="meta knowledge in context").rows
    assert {row[0].text for row in lines} == {"fused + prompt − fused, none"}
    assert not any("Recall" in row[1].text for row in lines)
    assert all(row[4].text == "20" for row in lines if row[1].text == "BLEU")


def test_grids_render_in_a_terminal(dialogue_report: DialogueReportData) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(to_rich(main_grid(dialogue_report.table)))
    assert "Entity F1, %" in console.export_text()


@pytest.mark.parametrize(("metric", "name", "value", "text"), [
    ("bleu", "BLEU", 17.56, "17.6"),
    ("entity_f1", "Entity F1", 0.5069, "50.7"),
    ("mrr", "MRR", 0.8125, "0.812"),
    ("first_recall_id@3", "Recall@3 by id, first mentions", 0.5, "50.0"),
    ("expected_recall_value@7", "expected Recall@7 by value", 0.5, "50.0"),
    ("first_expected_recall_id@1", "expected Recall@1 by id, first mentions", 0.25, "25.0"),
    ("fit@7", "Fit@7", 0.125, "12.5"),
    ("fit_ceiling@7", "ceiling of Fit@7", 0.5, "50.0"),
    ("hallucination", "hallucinated values", 0.031, "3.1"),
])  # fmt: skip
def test_figures_in_their_units(metric: str, name: str, value: float, text: str) -> None:
    assert (metric_name(metric), format_value(metric, value)) == (name, text)
    assert format_range(metric, -value, value, signed=True) == f"[−{text}, +{text}]"


def test_titles_tell_unit_and_direction() -> None:
    assert metric_title("hallucination") == "hallucinated values, % (lower is better)"
    assert metric_title("bleu") == "BLEU (higher is better)"
    assert shown("first_mrr", 0.5) == 0.5
    assert main_recall(["recall_value@1", "recall_value@7", "recall_value@10"]) == "recall_value@7"
    assert main_recall(["recall_id@1", "recall_id@3"], by="id") == "recall_id@3"
    assert main_recall(["bleu"]) == ""
