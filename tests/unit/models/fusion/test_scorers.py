"""The sentence encoder as a voter, with a tiny untrained BERT."""

import json
import threading
from pathlib import Path

import pytest

from models.errors import BackendError, ParamsError, SourceError
from models.fusion.scorers import (
    JUDGE_SYSTEM,
    SentenceEncoder,
    embedding_scores,
    judge_messages,
    judge_scores,
    load_sentence_encoder,
    parse_score,
)
from models.lm.http import OpenAiClient, RetryPolicy
from models.lm.prompts import TextItem
from models.schema import Message

KEY = "teach.rewards.scorers[meaning].model"
WORDS = ["the", "bell", "rings", "in", "town", "a", "river", "never", "sleeps"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    root = tmp_path_factory.mktemp("encoders")
    folder = root / "tiny"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]) + "\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = BertConfig(vocab_size=4 + len(WORDS), max_position_embeddings=24, initializer_range=0.5, **sizes)
        BertModel(config).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return root


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> SentenceEncoder:
    return load_sentence_encoder("tiny", revision=None, root=encoder_folder, device="cpu", key=KEY)


def items(*texts: str) -> list[TextItem]:
    return [TextItem(str(i), (Message("user", "?"),), text) for i, text in enumerate(texts)]


def test_the_ground_truth_itself_scores_one_and_nothing_more(encoder: SentenceEncoder) -> None:
    said = ["the bell rings in town", "a river never sleeps", "", "bell bell bell"]
    scores = embedding_scores(encoder, items(*said), ["the bell rings in town"] * 4, batch_size=2)
    assert scores[0] == 1.0
    assert all(-1 <= score < 1 for score in scores[1:])


def test_batches_and_order_do_not_change_a_score(encoder: SentenceEncoder) -> None:
    said, truths = ["the bell", "a river never sleeps in town", "the bell"], ["a bell rings", "the river", "a bell rings"]
    one = embedding_scores(encoder, items(*said), truths, batch_size=1)
    moved: list[int] = []
    other = embedding_scores(encoder, items(*said[::-1]), truths[::-1], batch_size=8, on_progress=moved.append)[::-1]
    assert one == pytest.approx(other, abs=1e-5)
    assert one[0] == one[2]
    assert moved == [3]


def test_a_text_beyond_the_positions_is_cut(encoder: SentenceEncoder) -> None:
    assert encoder.max_tokens == 24
    (score,) = embedding_scores(encoder, items("town " * 100), ["town"], batch_size=1)
    assert -1 <= score <= 1


def test_what_is_no_encoder_is_refused_under_the_scorers_key(encoder_folder: Path) -> None:
    with pytest.raises(SourceError, match=r"^`teach.rewards.scorers\[meaning\].model` names the folder .*Check the path\.$"):
        load_sentence_encoder("./none", revision=None, root=encoder_folder, device="cpu", key=KEY)
    with pytest.raises(ParamsError, match=r"`teach.rewards.scorers\[meaning\].revision` must be set for `org/bert`"):
        load_sentence_encoder("org/bert", revision=None, root=encoder_folder, device="cpu", key=KEY)


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
    assert "`1` has no grade" in caplog.text and "1 of 3 answers remain without a grade" in caplog.text


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
