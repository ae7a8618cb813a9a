"""Words for values, learned from which entities dialogues end with."""

import json
from pathlib import Path

import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.prepare import prepare_dialogues
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Entity, Turn, read_turns
from models.dialogue.data.requests.learning import learn_requests
from models.dialogue.data.requests.lexicon import REQUESTS, Meaning, Phrase, RequestLexicon, askable_attributes, clauses
from models.dialogue.data.requests.reader import RequestReader
from models.errors import ArtifactError
from models.metrics_sink import NullSink
from models.params.dialogues import DialoguesParams
from models.params.requests import RequestParams

ROOT = Path(__file__).resolve().parents[6]
AREAS, RATES = ("north", "south", "centre"), ("cheap", "dear", "2")
KB = KnowledgeBase(
    Entity(f"e{i:02}", "pub", {"name": f"pub {i:02}", "area": AREAS[i % 3], "rate": RATES[i // 3 % 3], "phone": f"55{i:02}"})
    for i in range(36)
)
INDEX = ValueIndex(KB)


def dialogue(number: int, said: str, entity: Entity) -> list[Turn]:
    name = f"d{number}"
    first = Turn(f"{name}#0", name, 0, "pub", (said,), "what should it cost ?")
    more = ("anything else ?", "no thanks", "then i shall look", "please do", "one moment", "ok")
    context = (*first.context, first.response, f"{entity.attributes['rate']} , and a table for 2", *more)
    return [first, Turn(f"{name}#1", name, 4, "pub", context, f"try {entity.name}", gold_entities=(entity.id,))]


def training() -> list[Turn]:
    words = {"north": "up by the mill", "south": "in the south", "centre": "right in the middle of town"}
    pairs = [(n, KB[n * 7 % 36]) for n in range(72)]
    return [turn for n, e in pairs for turn in dialogue(n, f"i need a pub {words[e.attributes['area']]}", e)]


def test_words_that_go_with_a_value_mean_it() -> None:
    lexicon = learn_requests(training(), INDEX, RequestParams())
    assert lexicon.attributes == ("area", "rate")
    meant = {phrase.words: phrase.meaning for phrase in lexicon.phrases}
    assert meant["up by the mill"] == Meaning("pub", "area", "north")
    assert [words for words, meaning in meant.items() if meaning == Meaning("pub", "area", "centre")] != []
    assert not any("mill" in words and meaning != Meaning("pub", "area", "north") for words, meaning in meant.items())
    assert ("cost", "rate") in {(question.words, question.attribute) for question in lexicon.questions}
    reader = RequestReader(KB, lexicon)
    (wish,) = reader.read(["i need a pub up by the mill"]).wishes
    assert (wish.attribute, wish.values) == ("area", {"north"})


def test_a_value_that_is_said_of_something_else_is_passed_over() -> None:
    lexicon = learn_requests(training(), INDEX, RequestParams())
    # "a table for 2" stands in every dialogue.
    assert Meaning("pub", "rate", "2") in lexicon.unreliable or Phrase("for 2", None) in lexicon.phrases
    assert not RequestReader(KB, lexicon).read(["a table for 2"])


def test_nothing_is_learned_when_told_so_or_without_dialogues() -> None:
    assert learn_requests(training(), INDEX, RequestParams(learn=False)) == RequestLexicon(
        ("area", "rate"), cues=RequestParams(learn=False)
    )
    assert learn_requests([], INDEX, RequestParams(attributes=("area",))) == RequestLexicon(
        ("area",), cues=RequestParams(attributes=("area",))
    )


def test_the_same_turns_teach_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        learn_requests(training(), ValueIndex(KB), RequestParams()).write(tmp_path)
        written.append((tmp_path / REQUESTS).read_bytes())
    assert written[0] == written[1]
    assert RequestLexicon.read(tmp_path) == learn_requests(training(), INDEX, RequestParams())


@pytest.mark.parametrize("content", [None, "[", "{}", '{"attributes": [1], "cues": {}}'])
def test_a_damaged_lexicon_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / REQUESTS).write_text(content)
    with pytest.raises(ArtifactError, match="must be the lexicon"):
        RequestLexicon.read(tmp_path)


def test_what_identifies_an_entity_is_not_asked_for() -> None:
    assert askable_attributes(INDEX) == ("area", "rate")
    assert INDEX.identifying_attributes == {"name", "phone"}


def test_clauses_end_at_punctuation_but_numbers_do_not() -> None:
    assert list(clauses("Not here, but there! At 7:30, 4.5 stars. Ja? はい。いいえ")) == [
        "not here", "but there", "at 7:30", "4 5 stars", "ja", "は い", "い い え"
    ]  # fmt: skip


def test_prepared_turns_count_what_fits(tmp_path: Path) -> None:
    cfg = DialoguesParams(requests=RequestParams(count=True))
    prepare_dialogues(cfg, root=tmp_path, out=tmp_path, sink=NullSink())
    reader = RequestReader(kb := KnowledgeBase.load(tmp_path / "kb.jsonl"), RequestLexicon.read(tmp_path))
    turns = list(read_turns(tmp_path / "train.jsonl"))
    counted = [turn for turn in turns if "fitting" in turn.dynamic]
    assert len(counted) > len(turns) / 2
    assert all(turn.dynamic["fitting"] == (str(len(reader.rows(reader.read(turn.context)))),) for turn in counted)
    share = json.loads((tmp_path / "stats.json").read_text())["splits"]["train"]["share_of_turns"]["dynamic"]
    assert share == pytest.approx(sum(bool(turn.dynamic) for turn in turns) / len(turns), abs=1e-4)
    plain = tmp_path / "plain"
    prepare_dialogues(DialoguesParams(), root=tmp_path, out=plain, sink=NullSink())
    assert not any("fitting" in turn.dynamic for turn in read_turns(plain / "train.jsonl"))
    # The town's own count is of the true constraints, which its users also state in words that must be learned.
    told = [turn for turn in read_turns(plain / "test.jsonl") if "choice" in turn.dynamic]
    rows = [len(reader.rows(reader.read(turn.context, domain=turn.domain))) for turn in told]
    assert sum(turn.dynamic["choice"] == (str(n),) for turn, n in zip(told, rows, strict=True)) / len(told) > 0.7
    assert len(kb) == 90
