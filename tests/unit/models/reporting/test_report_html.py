"""The page: complete, self-contained, safe against what models answer."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models.errors import DataError
from models.reporting.report_data import ReportData
from models.reporting.report_html import render_report, template_digest, write_report

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


def test_the_template_has_an_identity() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", template_digest())
