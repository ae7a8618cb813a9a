"""The dialogue page: complete, self-contained, safe against what generators answer."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import DataError
from models.reporting.dialogue.data import DialogueReportData
from models.reporting.dialogue.page import (
    dialogue_figures,
    dialogue_parts,
    render_dialogue_report,
    write_dialogue_report,
)


@pytest.fixture(scope="module")
def html(dialogue_report: DialogueReportData) -> str:
    return render_dialogue_report(dialogue_report)


def test_every_part_is_there(html: str) -> None:
    for part in ("result", "claims", "retrieval", "responses", "domains", "training", "examples"):
        assert f'id="dialogue-{part}"' in html
    for said in (
        "Agents &amp; entities",
        "prompt − warm start",
        "A note for the reader.",
        "golden wok ✓",
        "dvc repro",
        "pizza &amp; co",
    ):
        assert said in html, said
    assert html.count("<figure>") == 5
    assert "only retrieves" in html and "area north; price range cheap" in html


def test_the_page_loads_nothing_and_references_exist(html: str) -> None:
    assert not re.search(r"<(script|link|img|iframe|object)\b", html)
    assert not re.search(r"url\((?!#)", html) and "https://" not in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_answers_cannot_become_markup(dialogue_report: DialogueReportData, html: str) -> None:
    assert "&lt;b&gt;wok&lt;/b&gt;" in html and "<b>wok" not in html
    evil = "</div><script>alert(1)</script>"
    example = dialogue_report.examples[0]
    poisoned = replace(example, context=(evil,), answers=(replace(example.answers[0], response=evil, hallucinated=(evil,)),))
    bare = DialogueReportData(evil, dialogue_report.table[:1], examples=[poisoned], notes=[evil], provenance={evil: evil})
    assert "<script" not in render_dialogue_report(bare)


def test_cards_tell_the_variants_against_none_and_the_warm_start(dialogue_report: DialogueReportData) -> None:
    none, prompt = dialogue_parts(replace(dialogue_report, histories={})).cards
    assert [(c.b.name, c.metric) for c in none.differences] == [("warm_start", "recall_value@7")]
    assert {(c.b.name, c.metric, c.verdict) for c in prompt.differences} == {
        ("none", "entity_f1", "better"),
        ("warm_start", "recall_value@7", "unclear"),
    }


def test_empty_parts_are_left_out(dialogue_report: DialogueReportData) -> None:
    table = [r for r in dialogue_report.table if r.system.kind == "floor" and r.domain == "all"]
    bare = DialogueReportData("Floors", table)
    page = render_dialogue_report(bare)
    assert 'id="dialogue-result"' in page and 'id="dialogue-retrieval"' in page
    for part in ("claims", "responses", "domains", "training", "examples"):
        assert f"dialogue-{part}" not in page
    assert list(dialogue_figures(bare)) == ["retrieval", "recall_at_k"]


def test_the_page_is_written_whole(dialogue_report: DialogueReportData, tmp_path: Path) -> None:
    bare = DialogueReportData("Bare", [row for row in dialogue_report.table if row.metric == "bleu"])
    path = write_dialogue_report(bare, tmp_path / "out" / "index.html")
    assert path.read_text(encoding="utf-8") == render_dialogue_report(bare)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]


def test_examples_are_first_mentions_not_chosen_by_quality(dialogue_report: DialogueReportData) -> None:
    assert [e.id for e in dialogue_report.examples] == ["d0#0", "d2#0", "d1#0", "d3#0"]
    answers = {a.system.label: a for a in dialogue_report.examples[0].answers}
    assert answers["warm start"].response is None
    assert [(e.name, e.gold, e.meta) for e in answers["prompt"].entities] == [
        ("golden wok", True, "The top-1 recalled:"),
        ("pizza & co", False, "The top-1 recalled:"),
    ]


def test_an_empty_table_is_an_error() -> None:
    with pytest.raises(DataError, match="`table`"):
        render_dialogue_report(DialogueReportData("Nothing", []))
