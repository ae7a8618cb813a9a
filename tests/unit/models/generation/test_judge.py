import json
import threading

import pytest

from models.errors import BackendError
from models.generation.http import OpenAiClient, RetryPolicy
from models.generation.judge import JUDGE_SYSTEM, judge_messages, judge_scores, parse_score
from models.generation.prompts import TextItem
from models.schema import Message

ITEM = TextItem("row-0", [Message("system", "Be kind."), Message("user", "What is 2 + 2?")], "Four.")


def client_of(endpoint) -> OpenAiClient:
    return OpenAiClient(endpoint.url, model="judge", timeout_s=5, retry=RetryPolicy(attempts=2, base_s=0.01))


def chat_reply(text):
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}], "usage": {"completion_tokens": 1}}).encode()


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 7}', 7.0),
        ('{"score": "8.5"}', 8.5),
        ('```json\n{"score": 3, "why": "short"}\n```', 3.0),
        ('The form is {"score": 1..10}, so: {"score": 9}', 9.0),
        ("Score: 6/10", 6.0),
        ("score = 2", 2.0),
        ("**Score:** 8", 8.0),
        (" 8/10.", 8.0),
        ('<think>I would say {"score": 3} at first</think>{"score": 8}', 8.0),
        ('<think>I would say {"score": 3}', None),
        ('{"score": 7.5, "why": "a {b}"}', 7.5),
        ('{"score": 11}', None),
        ('{"score": 0}', None),
        ('{"score": -4}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ("I would give it a seven.", None),
        ("", None),
    ],
)
def test_scores_are_read_from_what_judges_write(reply, score):
    assert parse_score(reply) == score


def test_request_holds_rubric_conversation_and_answer():
    system, user = judge_messages(ITEM)
    assert system.content == JUDGE_SYSTEM and '{"score": N}' in JUDGE_SYSTEM
    assert "<system>\nBe kind.\n</system>\n<user>\nWhat is 2 + 2?\n</user>" in user.content
    assert user.content.endswith("<answer>\nFour.\n</answer>")


def test_grades_in_input_order(endpoint):
    endpoint.answer = lambda _path, body: chat_reply(json.dumps({"score": len(body["messages"][1]["content"]) % 10 + 1}))
    items = [TextItem(str(i), ITEM.messages, "x" * i) for i in range(10)]
    expected = [len(judge_messages(i)[1].content) % 10 + 1 for i in items]
    done: list[int] = []
    assert judge_scores(client_of(endpoint), items, on_progress=done.append) == expected
    assert len(set(expected)) == 10 and done == list(range(1, 11))


def test_nonsense_is_asked_again_with_a_remark(endpoint, replies):
    endpoint.answer = replies(chat_reply("Great question!"), chat_reply(None), chat_reply('{"score": 4}'))
    assert judge_scores(client_of(endpoint), [ITEM]) == [4.0]
    turns = [[m["role"] for m in body["messages"]] for _, body, _ in endpoint.seen]
    assert turns == [["system", "user"], ["system", "user", "assistant", "user"], ["system", "user", "assistant", "user"]]
    assert endpoint.seen[1][1]["messages"][2]["content"] == "Great question!"
    assert len({body["seed"] for _, body, _ in endpoint.seen}) == 3


@pytest.mark.parametrize(
    "reply", [chat_reply("No."), chat_reply(None), (200, {}, b'{"choices": []}'), chat_reply("<think>9/10")], ids=str
)
def test_lasting_nonsense_leaves_an_answer_without_a_grade(endpoint, reply, caplog):
    endpoint.answer = lambda _path, body: reply if "bad" in body["messages"][1]["content"] else chat_reply('{"score": 4}')
    items = [TextItem(str(i), ITEM.messages, text) for i, text in enumerate(("good", "bad", "good"))]
    assert judge_scores(client_of(endpoint), items) == [4.0, None, 4.0]
    assert "`1` has no grade" in caplog.text and "1 of 3 answers stay without a grade" in caplog.text


def test_one_request_that_fails_for_good_leaves_an_answer_without_a_grade(endpoint):
    def answer(_path, body):
        return (400, {}, b"too long") if "bad" in body["messages"][-1]["content"] else chat_reply('{"score": 4}')

    endpoint.answer = answer
    assert judge_scores(client_of(endpoint), [ITEM, TextItem("1", ITEM.messages, "bad")]) == [4.0, None]


def test_the_longest_reply_is_a_setting(endpoint):
    endpoint.answer = lambda _path, body: chat_reply('{"score": 4}')
    judge_scores(client_of(endpoint), [ITEM], max_tokens=2048)
    assert endpoint.seen[0][1]["max_tokens"] == 2048


def test_judge_that_is_down_is_an_error(endpoint, replies):
    endpoint.answer = replies((500, {}, b"oops"))
    with pytest.raises(BackendError, match="HTTP 500"):
        judge_scores(client_of(endpoint), [ITEM])
    assert threading.active_count() < 20
