"""Figures in documents come from result files, and a document that differs is found."""

from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ArtifactError, DataError
from models.reporting.documents import check_documents, render_document, render_result, update_documents
from models.reporting.results import Result, ResultRow, write_result

_ROWS = (
    ResultRow("profuser", 70.666, "%", 65.3, 76.0, 300, {"family": "all", "metric": "accuracy", "p": 0.00051}),
    ResultRow("sft", 54.0, "%", 48.3, 60.0, 300, {"family": "all", "metric": "accuracy", "p": 0.25}),
    ResultRow("profuser", 1.2224, "bits/byte", 1.195, 1.249, 298, {"family": "all", "metric": "bits_per_byte", "p": None}),
)
_RESULT = Result("fusion-embedded", "dvc repro", "0123456789abcdef", "2026-01-31", _ROWS)
_TEXT = "# Title\n\n<!-- results:fusion-embedded metric=accuracy -->\nold\n<!-- /results -->\n\nEnd.\n"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    write_result(tmp_path / "results", _RESULT)
    path = tmp_path / "README.md"
    path.write_text(_TEXT, encoding="utf-8")
    return path


def test_a_block_is_rendered_from_its_file(document: Path) -> None:
    results = document.parent / "results"
    assert update_documents([document], results=results) == [document]
    assert document.read_text(encoding="utf-8") == (
        "# Title\n\n<!-- results:fusion-embedded metric=accuracy -->\n"
        "**metric accuracy**\n\n"
        "|  | p | value | n |\n| --- | --- | ---: | ---: |\n"
        "| profuser | 0.000510 | 70.7 % [65.3, 76.0] | 300 |\n"
        "| sft | 0.250 | 54.0 % [48.3, 60.0] | 300 |\n\n"
        "`dvc repro`, commit 0123456789, 2026-01-31.\n"
        "<!-- /results -->\n\nEnd.\n"
    )
    assert update_documents([document], results=results) == []


def test_a_note_stands_under_every_table_of_its_figures(document: Path) -> None:
    results = document.parent / "results"
    write_result(results, replace(_RESULT, note="Measured before the labels of endings changed."))
    update_documents([document], results=results)
    text = document.read_text(encoding="utf-8")
    assert "commit 0123456789, 2026-01-31. Measured before the labels of endings changed.\n" in text
    write_result(results, _RESULT)
    assert len(check_documents([document], results=results)) == 1


def test_rows_measured_at_their_own_time_are_stamped_with_it() -> None:
    def shown(*measured: str | None) -> str:
        rows = tuple(ResultRow(f"row {i}", 1.0, "s", more={"measured": m} if m else {}) for i, m in enumerate(measured))
        return render_result(replace(_RESULT, rows=rows), columns=()).rpartition("`, ")[2]

    old, new = "2025-12-30 aaaaaaaaaaaa+", "2026-01-02 bbbbbbbbbbbb"
    assert shown(old, old) == "commit aaaaaaaaaa+, 2025-12-30."
    assert shown(new, old, new) == "commits aaaaaaaaaa+ (2025-12-30) to bbbbbbbbbb (2026-01-02)."
    assert shown(old, None) == "commits aaaaaaaaaa+ (2025-12-30) to 0123456789 (2026-01-31)."
    assert shown(None) == "commit 0123456789, 2026-01-31."
    rows = (
        ResultRow("a", 1.0, "s", more={"measured": old, "k": "1"}),
        ResultRow("b", 1.0, "s", more={"measured": new, "k": "2"}),
    )
    assert render_result(replace(_RESULT, rows=rows), where={"k": "1"}).endswith("commit aaaaaaaaaa+, 2025-12-30.")


def test_a_stale_block_is_found_and_named(document: Path) -> None:
    results = document.parent / "results"
    stale = check_documents([document], results=results)
    assert [(s.document, s.block) for s in stale] == [(document, "<!-- results:fusion-embedded metric=accuracy -->")]
    assert "README.md" in str(stale[0])
    assert document.read_text(encoding="utf-8") == _TEXT
    update_documents([document], results=results)
    assert check_documents([document], results=results) == []
    write_result(results, replace(_RESULT, rows=(replace(_ROWS[0], value=71.9), *_ROWS[1:])))
    assert len(check_documents([document], results=results)) == 1


def test_only_the_stale_one_of_two_blocks_is_named(document: Path) -> None:
    results = document.parent / "results"
    document.write_text(_TEXT + "<!-- results:fusion-embedded family=all -->\n<!-- /results -->\n", encoding="utf-8")
    update_documents([document], results=results)
    text = document.read_text(encoding="utf-8")
    document.write_text(text.replace("1.22 bits", "1.02 bits"), encoding="utf-8")
    assert [s.block for s in check_documents([document], results=results)] == ["<!-- results:fusion-embedded family=all -->"]


def test_columns_can_be_chosen() -> None:
    lines = render_result(_RESULT, where={"name": "profuser"}, columns=["metric", "family"]).split("\n")
    assert lines[2] == "|  | metric | family | value | n |"
    assert lines[5] == "| profuser | bits_per_byte | all | 1.22 bits/byte [1.20, 1.25] | 298 |"


def test_rows_are_chosen_by_one_of_several_values_and_by_names_with_blanks(document: Path) -> None:
    results = document.parent / "results"
    write_result(results, replace(_RESULT, rows=(replace(_ROWS[0], name="warm start"), *_ROWS)))
    block = '<!-- results:fusion-embedded name="warm start|sft" metric=accuracy columns=metric -->'
    document.write_text(f"{block}\n<!-- /results -->\n", encoding="utf-8")
    update_documents([document], results=results)
    rows = [line for line in document.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == ["| warm start", "| sft"]


def test_whole_numbers_stay_whole_and_counts_may_be_absent() -> None:
    rows = (ResultRow("speed", 123456.0, "tokens/s"), ResultRow("size", 48, "bytes"))
    text = render_result(replace(_RESULT, rows=rows))
    assert "| speed | 123,456 tokens/s |" in text and "| size | 48 bytes |" in text
    assert "| n |" not in text


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("<!-- results:fusion-embedded -->\nno end", r"README.md:3 .* must be closed"),
        ("<!-- results:fusion-embedded -->\n<!-- results:fusion-embedded -->\n<!-- /results -->", "must be closed"),
        ("<!-- results:fusion-embedded metric=speed -->\n<!-- /results -->", "none does"),
        ("<!-- results:fusion-embedded metric=accuracy|speed -->\n<!-- /results -->", r"none does with `metric`: \['speed'\]"),
        ("<!-- results:fusion-embedded columns=colour -->\n<!-- /results -->", "`columns` must be among"),
    ],
)
def test_a_wrong_block_is_an_error(document: Path, block: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        render_document(f"a\nb\n{block}\n", results=document.parent / "results", document=Path("README.md"))


def test_a_missing_result_is_an_error(document: Path) -> None:
    with pytest.raises(ArtifactError, match=r"speed\.json"):
        render_document("<!-- results:speed -->\n<!-- /results -->", results=document.parent / "results", document=document)


def test_text_without_blocks_stays(tmp_path: Path) -> None:
    assert render_document("plain <!-- comment -->\n", results=tmp_path, document=tmp_path) == "plain <!-- comment -->\n"
