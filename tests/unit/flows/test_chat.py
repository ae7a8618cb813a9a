import io
import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.chat import _table, chat, doubts
from models.dialogue.agent.agent import AgentReply
from models.dialogue.data.records import Entity
from models.dialogue.generators.base import Answer, RetrievedEntity
from models.dialogue.retrieval.meta_knowledge import EntityMeta, MetaKnowledge
from models.errors import BackendError
from models.params.dialogue import MetaKnowledgeParams


class Agent:
    """Answers with the number of utterances it was given."""

    kb = (1, 2, 3)
    meta = MetaKnowledge(MetaKnowledgeParams(), style="none", edges=(0.25, 0.75))

    def __init__(self) -> None:
        self.contexts: list[list[str]] = []

    def reply(self, context):
        if context[-1] == "fail":
            raise BackendError("the endpoint [m] is away")
        self.contexts.append(list(context))
        scores = [0.9, 0.5, 0.1, -0.2, -0.3, -0.4]
        values = {"name": "pizza [hut]", "area": "south", "food": "pizza", "phone": "01", "stars": "hidden"}
        entities = tuple(
            RetrievedEntity(i, Entity(f"e{i}", "food", values), EntityMeta(i + 1, s, i == 1)) for i, s in enumerate(scores)
        )
        text = f"answer [b]{len(context)}[/b]"
        return AgentReply(text, entities, {"retrieve": 0.25, "generate": 1.5}, Answer(text, 1, 1, "eos"))


@pytest.fixture
def talk(monkeypatch):
    def run(lines: str, *, record=None):
        agent, out = Agent(), io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        count = chat(agent, Console(file=out, width=100), record=record)  # type: ignore[arg-type]
        return SimpleNamespace(agent=agent, text=out.getvalue(), count=count)

    return run


def test_the_dialogue_grows_until_the_input_ends(talk):
    done = talk("hello\n\n  a hotel \n")
    assert done.agent.contexts == [["hello"], ["hello", "answer [b]1[/b]", "a hotel"]]
    assert done.count == 2 and "agent> answer [b]3[/b]" in done.text and "retrieve 0.25 s, generate 1.50 s" in done.text


def test_entities_stand_beside_the_answer(talk):
    rows = [re.split(r"\s{2,}", line.strip()) for line in talk("hello\n").text.splitlines()]
    assert ["rank", "score", "confidence", "entity"] in rows
    assert ["1", "0.900", "high", "new", "pizza [hut] · south · pizza · 01"] in rows
    assert ["2", "0.500", "middle", "old", "pizza [hut] · south · pizza · 01"] in rows
    assert ["5", "-0.300", "low", "new", "pizza [hut] · south · pizza · 01"] in rows
    assert not [row for row in rows if row[0] == "6"]


def test_what_a_hybrid_score_rests_on_stands_beside_it():
    parts = {"dense": 0.1, "name": 0.0, "value": 0.75, "bm25": -0.004}
    entity = Entity("e", "food", {"name": "pizza hut"})
    out = io.StringIO()
    table = _table(Agent(), [RetrievedEntity(0, entity, EntityMeta(1, 0.846, False), parts)], values=None)
    Console(file=out, width=100).print(table)
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines()]
    assert rows == [
        ["rank", "score", "because of", "confidence", "entity"],
        ["1", "0.846", "value +0.75 dense +0.10", "high", "new", "pizza hut"],
    ]


def test_all_entities_on_request(talk):
    text = talk("/entities\nhello\n/entities\n/quit\nnever\n").text
    assert "nothing was retrieved yet" in text
    assert re.search(r"6\s+-0.400\s+low\s+new\s+pizza \[hut\] · south · pizza · 01 · hidden", text)
    assert text.count("agent>") == 1


def test_reset_starts_over(talk):
    done = talk("hello\n/reset\nhello again\n/entities\n/reset\n/entities\n/what\n")
    assert done.agent.contexts == [["hello"], ["hello again"]]
    assert done.text.count("nothing was retrieved yet") == 1 and done.text.count("/reset: start over") == 2


def test_quit_ends_before_the_input_does(talk):
    assert talk("hello\n/quit\nmore\n").count == 1


def test_an_error_of_the_agent_ends_nothing_and_the_line_does_not_count(talk):
    done = talk("fail\nhello\n")
    assert "the endpoint [m] is away" in done.text and done.agent.contexts == [["hello"]] and done.count == 1


def test_each_exchange_is_recorded(talk):
    seen = []

    def record(context, reply):
        seen.append((list(context), reply.text))
        if len(seen) == 2:
            raise ConnectionError("no server")
        return f"tr-{len(seen)}"

    done = talk("hello\nyes\nno\n", record=record)
    assert [context[-1] for context, _ in seen] == ["hello", "yes", "no"] and seen[0][1] == "answer [b]1[/b]"
    assert "trace tr-1" in done.text and "not recorded (ConnectionError: no server)" in done.text and "trace tr-3" in done.text


def test_an_interrupt_ends_it(talk, monkeypatch):
    def interrupted(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Console, "input", interrupted)
    assert talk("hello\n").count == 0


@pytest.fixture
def measured(tmp_path):
    """`measured(F1 by evaluation on validation, Entity F1 of the variant and of the constant answer)`: why it is doubted."""

    def judge(*validation: float, held_out: tuple[float, float] | None = None) -> str:
        rows = [{"step": 0, "train/loss": 1.0}, *({"step": i, "valid/value_f1": f1} for i, f1 in enumerate(validation))]
        (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        scores = tmp_path / "dialogue_scores.json"
        if held_out is not None:
            row = {"metric": "entity_f1", "domain": "all"}
            systems = (("variant", "prompt"), ("response_floor", "null"))
            table = [row | {"kind": k, "system": s, "value": v} for (k, s), v in zip(systems, held_out, strict=True)]
            other = [r | {"domain": "hotel", "value": 1.0} for r in table] + [r | {"metric": "bleu", "value": 0.0} for r in table]
            scores.write_text(json.dumps({"table": [*other, *table]}))
        return doubts("prompt", trained=tmp_path, scores=scores)

    return judge


def test_an_agent_that_learned_nothing_is_announced(measured):
    assert "named no value of an entity correctly" in measured(0.0, 0.0)
    assert "(3.0%) is no better than that of one constant answer (3.0%)" in measured(0.0, 0.1, held_out=(0.03, 0.03))


def test_an_agent_better_than_nothing_is_not_doubted(measured):
    assert measured(0.0, 0.01) == measured() == measured(0.0, 0.1, held_out=(0.031, 0.03)) == ""
