import json
import threading

import pytest

from models.generation.answer_cache import AnswerCache, request_key
from models.generation.dialogue_item import Answer, PromptCuts
from models.schema import Message

HELLO = [Message("user", "hello")]


def test_the_key_is_of_all_that_decides_the_answer():
    keys = {
        request_key("m", HELLO, {"max_tokens": 8}),
        request_key("n", HELLO, {"max_tokens": 8}),
        request_key("m", [Message("system", "hello")], {"max_tokens": 8}),
        request_key("m", [Message("user", "hello ")], {"max_tokens": 8}),
        request_key("m", HELLO, {"max_tokens": 9}),
    }
    assert len(keys) == 5
    assert request_key("m", HELLO, {"a": 1, "b": 2}) == request_key("m", HELLO, {"b": 2, "a": 1})


def test_answers_come_back_in_another_run(tmp_path):
    with AnswerCache(tmp_path / "new") as cache:
        assert cache.get("k") is None
        cache.put("k", Answer("grüße\n\u2028 x", 5, 2, "length", PromptCuts(words=3)))
        assert len((tmp_path / "new" / "answers.jsonl").read_text().split("\n")) == 2, "on the disk before it is closed"
    with AnswerCache(tmp_path / "new") as cache:
        assert cache.get("k") == Answer("grüße\n\u2028 x", 5, 2, "length") and len(cache) == 1


def test_a_torn_last_line_is_dropped_and_the_next_answer_whole(tmp_path):
    with AnswerCache(tmp_path) as cache:
        for key in "ab":
            cache.put(key, Answer(key, 1, 1, "eos"))
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:size])
        with AnswerCache(tmp_path) as cache:
            assert cache.get("a") is not None and cache.get("b") is None
            cache.put("c", Answer("c", 1, 1, "eos"))
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


@pytest.mark.parametrize(
    "line", [b"{}", b"nonsense", b"[1]", b"null", b"\x00" * 40, b"\xff\xfe", b"", b'{"key": "x", "text": "t"}']
)
def test_a_harmed_line_costs_its_answer_only(tmp_path, caplog, line):
    with AnswerCache(tmp_path) as cache:
        for key in "ab":
            cache.put(key, Answer(key, 1, 1, "eos"))
    path = tmp_path / "answers.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    with AnswerCache(tmp_path) as cache:
        assert cache.get("a") and cache.get("b") and len(cache) == 2
        cache.put("c", Answer("c", 1, 1, "eos"))
    assert "1 lines are no answers" in caplog.text
    assert [json.loads(kept)["key"] for kept in path.read_text().splitlines()] == ["a", "b", "c"]


def test_threads_do_not_mix_lines(tmp_path):
    with AnswerCache(tmp_path) as cache:
        threads = [
            threading.Thread(target=lambda t=t: [cache.put(f"{t}/{i}", Answer("x" * 500, 1, 1, "eos")) for i in range(20)])
            for t in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with AnswerCache(tmp_path) as cache:
        assert len(cache) == 160
