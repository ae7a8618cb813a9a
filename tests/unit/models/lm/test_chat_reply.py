import pytest

from models.lm.chat_reply import ChatReply, count_problems, describe_problems, read_reply, without_reasoning


def choice(content, finish="stop", usage=None, **message):
    return {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish, "usage": usage}


@pytest.mark.parametrize(
    ("given", "text", "finish", "problem"),
    [
        (choice("Hi"), "Hi", "eos", ""),
        (choice("Hi", "length"), "Hi", "length", ""),
        (choice("Hi", "max_tokens"), "Hi", "length", ""),
        (choice("Hi", None), "Hi", "eos", ""),
        (choice(None, "length", reasoning_content="well …"), "", "length", "length"),
        (choice(None, "content_filter"), "", "content_filter", "content filter"),
        (choice(None, refusal="no"), "", "eos", "refusal"),
        (choice(None, "tool_calls", tool_calls=[{}]), "", "eos", "tool call"),
        (choice(None), "", "eos", "no text"),
        (choice(""), "", "eos", "no text"),
        (choice(" \n"), " \n", "eos", "no text"),
        (choice(7), "", "eos", "no text"),
        (choice([]), "", "eos", "no text"),
        (choice([{"type": "text", "text": "Hi"}, " ", {"type": "output_text", "text": "you"}]), "Hi you", "eos", ""),
        (choice([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}]), "Hi", "eos", ""),
        (choice([{"type": "image_url", "image_url": {}}]), "", "eos", "no text"),
        (choice({"type": "text", "text": "Hi"}), "Hi", "eos", ""),
        (choice([{"type": "text", "text": {"value": "Hi", "annotations": []}}]), "Hi", "eos", ""),
        (choice([{"type": "refusal", "refusal": "no"}]), "", "eos", "refusal"),
        (choice("Hi", ["length"]), "Hi", "eos", ""),
        (choice("Hi", {"type": "length"}), "Hi", "eos", ""),
        (choice("<think>\nlet me see\n</think>\n\nHi"), "Hi", "eos", ""),
        (choice("<think>let me", "length"), "", "length", "length"),
        (choice("<think>let me"), "", "eos", "reasoning only"),
        (choice("Hi \ud83d"), "Hi \ufffd", "eos", ""),
        (choice("Hi \ud83d\ude00"), "Hi 😀", "eos", ""),
        ({"text": "Hi", "finish_reason": "length"}, "Hi", "length", ""),
        ({"message": None}, "", "eos", "no message"),
        ({"message": []}, "", "eos", "no message"),
        ({}, "", "eos", "no message"),
        ({"message": {"role": "assistant"}}, "", "eos", "no text"),
    ],
)
def test_replies_of_all_shapes(given, text, finish, problem):
    reply = read_reply(given)
    assert (reply.text, reply.finish, reply.problem) == (text, finish, problem)


@pytest.mark.parametrize("count", [5, 5.0])
def test_counts_are_the_servers(count):
    reply = read_reply(choice("Hi", usage={"completion_tokens": count, "prompt_tokens": 0}))
    assert reply == ChatReply("Hi", "eos", "", 5, 0) and isinstance(reply.num_tokens, int)


@pytest.mark.parametrize("count", [None, "5", True, -1, 5.5, float("nan"), float("inf"), [5]])
@pytest.mark.parametrize("wrap", [lambda c: {"completion_tokens": c, "prompt_tokens": c}, lambda c: c, lambda c: [c]])
def test_counts_that_are_none(count, wrap):
    reply = read_reply(choice("Hi", usage=wrap(count)))
    assert reply.num_tokens is reply.num_prompt_tokens is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think></think>Hi", "Hi"),
        ("<Thinking>a</Thinking>\nHi", "Hi"),
        ("a <think>b</think> and <think>c</think>d", "a  and d"),
        ("the template opened it</think>\nHi", "Hi"),
        (" <think>never closed", ""),
        ("<think>a</think>", ""),
        ("[THINK]a[/THINK]Hi", "Hi"),
        ("◁think▷a◁/think▷Hi", "Hi"),
        ("<seed:think>a</seed:think>Hi", "Hi"),
        ("<|begin_of_thought|>a<|end_of_thought|>Hi", "Hi"),
        ("[THINK]never closed", ""),
        ("say [THINK] aloud", "say [THINK] aloud"),
        ("write `<think>` before you reason", "write `<think>` before you reason"),
        ("  Hi\n", "  Hi\n"),
    ],
)
def test_reasoning_is_left_out(text, left):
    assert without_reasoning(text) == left


def test_problems_are_counted_and_reported():
    counts = count_problems(["", "refusal", "length", "refusal"])
    assert counts == {"length": 1, "refusal": 2}
    assert describe_problems(counts, total=9).startswith("3 of 9 answers are empty: 1 × length, 2 × refusal. The reasoning")
    assert describe_problems({"refusal": 1}, total=1) == "1 of 1 answers are empty: 1 × refusal."
