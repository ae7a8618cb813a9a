"""The page: complete, self-contained, safe against what models answer."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models.errors import DataError
from models.evaluation.fusion.scores import ComparisonRow, System, TableRow
from models.reporting.fusion.data import ReportData
from models.reporting.fusion.page import headlines, metric_sections, render_report, strips, write_report

_VOID = {"meta", "br", "line", "path", "use", "rect", "link", "img"}


class _Page(HTMLParser):
    """Collects tags, ids, references and text; fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.references += [value or "" for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


@pytest.fixture(scope="module")
def html(report: ReportData) -> str:
    return render_report(report)


def test_every_part_is_there(html: str) -> None:
    page = _parse(html)
    for part in ("result", "scores", "sources", "training", "alignment", "examples", "provenance"):
        assert part in page.ids
    for said in (
        "Two sources & a target",
        "profuser − sft",
        "best source chosen on valid",
        "scholar beats solver on 68 % of the examples in training mode and on 45 % in inference mode",
        "Is 0 < 3 & true?",
        "truth 1",
        "A note for the reader.",
        "0123456789abcdef",
        "dvc repro",
        "95 % of the bootstrap",
    ):
        assert said in page.text, said


def test_the_page_loads_nothing(html: str) -> None:
    page = _parse(html)
    assert all(reference.startswith("#") for reference in page.references)
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "form"}
    assert "http" not in html.replace("http-equiv", "").replace("https://", "") and "https://" not in html
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_references_inside_the_page_exist_and_ids_are_unique(html: str) -> None:
    page = _parse(html)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)


def test_answers_cannot_become_markup(report: ReportData) -> None:
    evil = "</div><script>alert(1)</script><img src=x onerror=alert(1)>"
    first = report.examples[0]
    poisoned = replace(first, answers=(replace(first.answers[0], text=evil, name=evil),), prompt=evil, ground_truth=evil)
    page = _parse(render_report(replace(report, examples=[poisoned], title=evil)))
    assert not page.tags & {"script", "img"}
    assert page.text.count("alert(1)") >= 8


def test_both_colour_schemes_and_paper(html: str) -> None:
    assert "prefers-color-scheme: dark" in html and "@media print" in html
    for variable in ("--ink", "--muted", "--lines", "--page"):
        assert html.count(f"{variable}:") == 2


def test_empty_parts_are_left_out(report: ReportData) -> None:
    page = _parse(render_report(ReportData("Sources only", [r for r in report.table if r.system.kind == "source"])))
    assert {"scores", "provenance"} <= set(page.ids)
    assert not {"result", "sources", "training", "alignment", "examples"} & set(page.ids)


def test_the_same_data_gives_the_same_page(report: ReportData, html: str, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "out" / "report.html")
    assert path.read_text(encoding="utf-8") == html
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert len(html) < 1_000_000


def test_an_empty_table_is_an_error() -> None:
    with pytest.raises(DataError, match="`table`"):
        render_report(ReportData("Nothing", []))


def test_the_headline_is_the_main_method_over_all(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> None:
    (head,) = headlines(table, comparisons)
    row = next(r for r in table if (r.system.name, r.family, r.metric) == ("profuser", "all", "accuracy"))
    assert (head.system, head.target, head.metric, head.num) == ("profuser", "scholar", "accuracy", 40)
    assert head.value == f"{100 * row.value:.1f} %"
    assert [r.b.name for r in head.differences] == ["sft", "solver", "scholar"]


def test_where_hardly_anybody_is_right_the_headline_is_bits_per_byte(table: tuple[TableRow, ...]) -> None:
    rare = [replace(row, value=0.04, low=0.0, high=0.1) if row.metric == "accuracy" else row for row in table]
    assert [head.metric for head in headlines(rare, [])] == ["bits_per_byte"]
    alone = [row for row in rare if row.metric == "accuracy"]
    assert [head.metric for head in headlines(alone, [])] == ["accuracy"]


def test_another_method_stands_in_and_each_target_has_its_own(table: tuple[TableRow, ...]) -> None:
    without = [row for row in table if row.system.name != "profuser"]
    assert [h.system for h in headlines(without, [])] == ["sft"]
    more = [replace(r, system=System("simul", "method", "solver")) for r in table if r.system.name == "sft"]
    assert [(h.system, h.target) for h in headlines([*table, *more], [])] == [("profuser", "scholar"), ("simul", "solver")]


def test_sources_alone_have_no_headline(table: tuple[TableRow, ...]) -> None:
    assert headlines([row for row in table if row.system.kind == "source"], []) == []


def test_strips_share_a_scale_that_contains_zero(comparisons: tuple[ComparisonRow, ...]) -> None:
    rows = [replace(comparisons[0], low=0.1, value=0.2, high=0.3), replace(comparisons[0], low=-0.1, value=0.0, high=0.1)]
    first, second = strips(rows)
    assert first.zero == second.zero == second.value
    assert 0 < second.low < second.zero < second.high == first.low < first.value < first.high < 100
    assert first.value - first.low == pytest.approx(first.high - first.value, abs=0.02)


def test_strips_without_width_do_not_divide_by_zero(comparisons: tuple[ComparisonRow, ...]) -> None:
    (strip,) = strips([replace(comparisons[0], low=0.0, value=0.0, high=0.0)])
    assert 0 <= strip.low == strip.value == strip.zero <= 100


def test_rewards_are_folded(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> None:
    assert [(s.title.split()[0], s.folded) for s in metric_sections(table, comparisons)] == [
        ("Accuracy,", False),
        ("Bits", False),
        ("Reward", True),
    ]
