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


def test_lasting_nonsense_is_an_error_with_the_reply(endpoint, replies):
    endpoint.answer = replies(chat_reply("No."))
    with pytest.raises(BackendError, match=r"must grade with .* but answers 'No\.' for `row-0` after 3 requests"):
        judge_scores(client_of(endpoint), [ITEM])


def test_judge_that_is_down_is_an_error(endpoint, replies):
    endpoint.answer = replies((500, {}, b"oops"))
    with pytest.raises(BackendError, match="HTTP 500"):
        judge_scores(client_of(endpoint), [ITEM])
    assert threading.active_count() < 20
