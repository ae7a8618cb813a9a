"""Agreement of requests with their annotation."""

from pathlib import Path

import pytest

from benchmarks.requests import ANNOTATED, Agreement, Annotated, compare
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.records import Entity, Turn, read_turns
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.dialogue.data.requests.reader import RequestReader
from models.metrics_sink import NullSink
from models.params.dialogues import DialoguesParams

ROOT = Path(__file__).resolve().parents[3]
TOD = ROOT / "data" / "external" / "tod"
KB = KnowledgeBase(
    Entity(f"r{i}", "restaurant", {"name": f"house {i}", "area": ("north", "centre")[i % 2], "food": ("thai", "greek")[i // 2]})
    for i in range(4)
)


def test_wishes_found_extra_and_missed() -> None:
    reader = RequestReader(KB, RequestLexicon(("area", "food")))
    said = ("thai food in the north please", "the centre then")
    turns = [Turn(f"d#{n}", "d", n, "restaurant", (said[0], "no", said[1])[: 2 * n + 1], "x") for n in range(2)]
    theirs = ({"restaurant": {"area": "center", "food": "dontcare"}}, {"restaurant": {"area": "center", "food": "thai"}})
    found = compare(turns, [Annotated(("something else",), ({},)), Annotated(said, theirs)], reader, KB)
    assert found == Agreement(turns=2, equal=1, domains=2, found=2, extra=2, missed=1)
    assert [(row.more["metric"], round(row.value, 1)) for row in found.rows("p")] == [
        ("turns with equal wishes", 50.0), ("precision of wishes", 50.0), ("recall of wishes", 66.7),
        ("turns with the right domain", 100.0),
    ]  # fmt: skip
    assert compare(turns, [Annotated(("something else",), ({},))], reader, KB) == Agreement()


@pytest.mark.parametrize(("kind", "equal", "precision", "recall"), [
    ("camrest", 0.95, 0.99, 0.97), pytest.param("multiwoz", 0.7, 0.94, 0.85, marks=pytest.mark.slow),
])  # fmt: skip
def test_requests_agree_with_those_that_were_annotated(
    kind: str, equal: float, precision: float, recall: float, tmp_path: Path
) -> None:
    if not (TOD / kind).exists():
        pytest.skip(f"{TOD / kind} is not there")
    cfg = DialoguesParams(kind=kind, path=f"data/external/tod/{kind}/raw")  # type: ignore[arg-type]
    prepare_dialogues(cfg, root=ROOT, out=tmp_path, sink=NullSink())
    kb = KnowledgeBase.load(tmp_path / "kb.jsonl")
    turns = [turn for turn in read_turns(tmp_path / "test.jsonl") if turn.kind == "response"]
    annotated = list(ANNOTATED[kind](TOD / kind / "raw"))
    found = compare(turns, annotated, RequestReader(kb, RequestLexicon.read(tmp_path)), kb)
    assert found.turns == {"camrest": 509, "multiwoz": 711}[kind] and found.equal / found.turns >= equal
    assert found.found / (found.found + found.extra) >= precision and found.found / (found.found + found.missed) >= recall
    assert found.domains / found.turns >= 0.97
