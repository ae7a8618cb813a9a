"""What T5 reads: budgets, marks, and what is never cut."""

import threading

import pytest

from models.dialogue.data.records import Entity
from models.dialogue.generators.seq2seq.from_scratch import MARKS, add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.prompt import PassageBuilder
from models.dialogue.generators.token_budget import TokenCache
from models.params.dialogue import GeneratorParams

TEXTS = ["i want a cheap hotel in the north", "name the golden house ; area centre ; phone 01223 351880"] * 3
ENTITY = Entity("a", "hotel", {"name": "the golden house", "area": "centre", "phone": "01223 351880", "price_range": "cheap"})
PREFIX = "<1th-entity> <new-entity>"


def builder(**budgets: object) -> PassageBuilder:
    tokenizer = train_t5_tokenizer(TEXTS, vocab_size=330)
    add_marks(tokenizer, ("<1th-entity>", "<new-entity>"))
    return PassageBuilder(tokenizer, GeneratorParams(**budgets))


def shown(build: PassageBuilder, ids: list[int]) -> str:
    """Tokens with their blanks."""
    return "".join(build.tokenizer.convert_ids_to_tokens(ids)).replace("Ġ", " ")


def test_context_has_role_marks_the_last_one_the_users() -> None:
    build = builder()
    assert (
        shown(build, build.context_ids(["A hotel?", "which  area ?", "north"]))
        == "<user> a hotel?<sys> which  area ?<user> north"
    )
    assert shown(build, build.context_ids(["welcome", "hello"])) == "<sys> welcome<user> hello"
    assert build.context_ids([]) == []


def test_context_keeps_its_latest_words() -> None:
    whole = builder().context_ids(["i want a cheap hotel in the north", "which area?", "the north please"])
    for budget in range(8, len(whole)):
        assert (
            builder(max_context_tokens=budget).context_ids(
                ["i want a cheap hotel in the north", "which area?", "the north please"]
            )
            == whole[len(whole) - budget :]
        )


def test_real_time_values_end_the_context_and_survive_truncation() -> None:
    build = builder()
    ids = build.context_ids(["hello"], {"ref": ("X1Y2",), "num_choice": ("3", "4")})
    assert shown(build, ids) == "<user> hello<api> ref x1y2 ; num choice 3 ; num choice 4"
    long = ["a cheap hotel in the north " * 20]
    short = builder(max_context_tokens=20)
    cut = short.context_ids(long, {"ref": ("x1y2",)})
    assert len(cut) == 20
    assert shown(short, cut).endswith("<api> ref x1y2")
    tiny = builder(max_context_tokens=8)
    assert shown(tiny, tiny.context_ids(long, {"ref": ("a reference far beyond half of it",)})).endswith(" the north")


def test_entity_is_meta_mark_and_pairs() -> None:
    build = builder()
    text = "<1th-entity><new-entity><database> name the golden house ; area centre ; phone 01223 351880 ; price range cheap"
    assert shown(build, build.entity_ids(ENTITY, PREFIX)) == text
    assert shown(build, build.entity_ids(ENTITY, "")) == text[text.index("<database>") :]
    chosen = builder(attributes=("phone", "stars", "area"))
    expected = "<database> name the golden house ; phone 01223 351880 ; area centre"
    assert shown(chosen, chosen.entity_ids(ENTITY, "")) == expected


def test_entity_drops_whole_pairs_then_meta_but_never_the_name() -> None:
    whole = builder()
    name = whole.entity_ids(Entity("a", "hotel", {"name": "the golden house"}), "")
    full = len(whole.entity_ids(ENTITY, PREFIX))
    for budget in range(8, full + 1):
        build = builder(max_entity_tokens=budget)
        ids = build.entity_ids(ENTITY, PREFIX)
        assert len(ids) <= budget
        text = shown(build, ids)
        assert "<database> name the golden house" in text
        assert text.partition("house")[2] in (
            "",
            " ; area centre",
            " ; area centre ; phone 01223 351880",
            " ; area centre ; phone 01223 351880 ; price range cheap",
        )
    long = builder(max_entity_tokens=8).entity_ids(Entity("b", "hotel", {"name": "a name far longer than eight"}), PREFIX)
    assert len(long) == 8
    assert long[:3] == name[:2] + long[2:3]


def test_response_ends_with_the_end_token() -> None:
    build = builder(max_response_tokens=6)
    end = build.tokenizer.eos_token_id
    short, long = build.response_ids("North"), build.response_ids("the golden house in the north, 01223 351880")
    assert short[-1] == long[-1] == end
    assert len(long) == 6
    assert build.text(short) == "north"
    assert build.text([*short, build.tokenizer.pad_token_id]) == "north"


@pytest.mark.parametrize(
    "text",
    ["01223 351880", "cb2 1ab", "c.b 5, 8 j.l", "17:15", "café münchen ß", "what's up?! £20 (approx.)", "<b>", "a  b"],
)
def test_the_tokenizer_gives_lower_case_text_back(text: str) -> None:
    tokenizer = builder().tokenizer
    assert tokenizer.decode(tokenizer.encode(text)).removeprefix(" ") == text
    assert tokenizer.decode(tokenizer.encode(text.upper())).removeprefix(" ") == text.upper().lower()


def test_a_value_is_cut_alike_wherever_it_stands() -> None:
    build = builder()
    value = build.tokenizer.encode("01223 351880", add_special_tokens=False)
    for ids in (build.entity_ids(ENTITY, PREFIX), build.response_ids("it is 01223 351880."), build.response_ids("01223 351880")):
        assert any(ids[i : i + len(value)] == value for i in range(len(ids)))


def test_the_tokenizer_is_deterministic_and_marks_are_whole() -> None:
    a, b = (train_t5_tokenizer(iter(TEXTS), vocab_size=330) for _ in range(2))
    assert a.backend_tokenizer.to_str() == b.backend_tokenizer.to_str()
    assert len(train_t5_tokenizer(TEXTS, vocab_size=300)) == 300
    assert 300 < len(a) < 330  # so few texts have no more to merge
    assert add_marks(a, ("<new-entity>",)) == 5
    assert add_marks(a, ("<new-entity>",)) == 0
    assert all(len(a.encode(mark)) == 1 for mark in (*MARKS, "<new-entity>"))
    assert a.encode("x <user> y") == a.encode("x<user>y")


def test_texts_that_spell_marks_and_special_tokens_are_text() -> None:
    build = builder()
    spelled = [*MARKS, "</s>", "<pad>", "<1th-entity>", "<new-entity>"]
    ids = set(build.tokenizer.convert_tokens_to_ids(spelled))
    said = " hello ".join(spelled)
    entity = Entity("a", "hotel", {"name": said, "area": f"{said} ; {said}"})
    assert ids.isdisjoint(build.context_ids(["", said])[2:])
    assert ids.isdisjoint(build.context_ids([], {"ref": (said,)})[1:])
    assert ids.isdisjoint(build.response_ids(said)[:-1])
    meta, mark, *rest = build.entity_ids(entity, "<1th-entity>")
    assert [meta, mark] == build.tokenizer.convert_tokens_to_ids(["<1th-entity>", "<database>"])
    assert ids.isdisjoint(rest)


def test_a_value_with_the_separator_is_one_pair() -> None:
    name = "the golden ; house in the north ; phone 01223"
    build, alone = builder(), Entity("a", "hotel", {"name": name})
    entity = Entity("a", "hotel", {"name": name, "area": "centre"})
    assert shown(build, build.entity_ids(entity, "")) == f"<database> name {name} ; area centre"
    short = builder(max_entity_tokens=len(build.entity_ids(alone, "")))
    assert shown(short, short.entity_ids(entity, "")) == f"<database> name {name}"


def test_the_utterances_of_many_turns_are_encoded_together_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build, utterances = builder(), [f"i want a hotel {i}" for i in range(21)]
    call, seen = type(build.tokenizer).__call__, []
    monkeypatch.setattr(
        type(build.tokenizer), "__call__", lambda self, texts, **more: seen.append(texts) or call(self, texts, **more)
    )
    turns = [(utterances[: turn + 1], None) for turn in range(0, 21, 2)]
    rows = list(build.contexts(turns))
    assert seen == [utterances]
    assert rows == [builder().context_ids(context) for context, _ in turns]
    seen.clear()
    assert list(build.contexts(turns)) == rows and not seen, "they are still known"
    assert list(build.contexts([])) == [] and not seen


def test_responses_of_many_turns_are_those_of_each() -> None:
    build, texts = builder(max_response_tokens=5), ["a hotel", "", "the north is a part of the town </s>", "A hotel"]
    assert list(build.responses(texts)) == [build.response_ids(text) for text in texts]


def test_new_texts_are_encoded_in_one_call_and_the_oldest_go_first() -> None:
    calls: list[list[str]] = []
    memo = TokenCache(lambda texts: calls.append(texts) or [[len(text)] for text in texts], most=2)
    assert memo.many(["a", "bb", "a"]) == {"a": [1], "bb": [2]} and calls == [["a", "bb"]]
    assert memo.one("a") == [1] and len(calls) == 1
    assert memo.many(["ccc", "a"]) == {"ccc": [3], "a": [1]} and calls[1:] == [["ccc"]], "`bb` was asked for longest ago"
    assert memo.one("bb") == [2] and calls[2:] == [["bb"]]
    assert memo.many([]) == {} and len(calls) == 3


def test_more_texts_than_are_remembered_all_get_their_ids() -> None:
    memo = TokenCache(lambda texts: [[int(text)] for text in texts], most=3)
    assert memo.many([str(i) for i in range(10)]) == {str(i): [i] for i in range(10)}


def test_threads_share_it() -> None:
    memo, wrong = TokenCache(lambda texts: [[int(text)] for text in texts], most=5), []

    def ask(seed: int) -> None:
        for step in range(300):
            texts = [str((seed * step + i) % 17) for i in range(4)]
            wrong.extend(t for t, ids in memo.many(texts).items() if ids != [int(t)])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
