"""Laws of reading a user's wishes."""

import string

from hypothesis import given
from hypothesis import strategies as st

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.data.requests.lexicon import RequestLexicon
from models.dialogue.data.requests.reader import RequestReader
from models.dialogue.data.value_finder import matchable

VALUES = {"area": ["north", "south", "very centre"], "food": ["thai", "çöp şiş", "寿司"]}
KB = KnowledgeBase(
    Entity(f"{domain}{i}", domain, {"name": f"{domain} no {i}", "area": VALUES["area"][i % 3], "food": VALUES["food"][i // 3]})
    for domain in ("pub", "inn")
    for i in range(9)
)
READER = RequestReader(KB, RequestLexicon(("area", "food")))

words = st.sampled_from(
    ["hello", "please", "not", "any", "but", "pub", "inn", "area", *VALUES["area"], *VALUES["food"], "?", ","]
)
texts = st.one_of(st.text(string.printable, max_size=20), st.lists(words, max_size=8).map(" ".join))
contexts = st.lists(texts, min_size=1, max_size=6)


@given(contexts)
def test_rows_are_those_that_every_wish_allows(context: list[str]) -> None:
    request = READER.read(context)
    rows = READER.rows(request).tolist()
    assert rows == sorted(set(rows))
    for row, entity in enumerate(KB.entities):
        values = {name: matchable(value) for name, value in entity.attributes.items()}
        allowed = request.domain in ("", entity.domain) and all(w.allows(values[w.attribute]) for w in request.wishes)
        assert (row in rows) == allowed


@given(contexts, st.sampled_from(["pub", "inn"]), st.sampled_from(["area", "food"]), st.integers(0, 2))
def test_the_last_value_asked_for_is_wanted(context: list[str], domain: str, attribute: str, number: int) -> None:
    value = VALUES[attribute][number]
    before = [*context, "ok"] if len(context) % 2 else context
    request = READER.read([*before, f"a {value} {domain}"])
    wish = next(w for w in request.wishes if w.attribute == attribute)
    assert request.domain == domain and len(wish.values) == 1 and not wish.refused & wish.values
    assert len(READER.rows(request)) == len(READER.rows(READER.read([*before, f"a {value} {domain}", "ok", "thank you"])))


@given(contexts, texts)
def test_what_the_system_says_adds_no_wish(context: list[str], said: str) -> None:
    if len(context) % 2:
        assert READER.read([*context, said]) == READER.read(context)
        assert READER.read([*context, said, "thank you"]) == READER.read(context)


@given(contexts, st.sampled_from(["pub", "inn"]))
def test_refusing_is_the_complement_of_asking(context: list[str], domain: str) -> None:
    every = set(READER.rows(READER.read([f"the {domain}"])).tolist())
    wanted = set(READER.rows(READER.read([f"a {domain} in the north"])).tolist())
    refused = set(READER.rows(READER.read([f"a {domain} , not in the north"])).tolist())
    assert wanted | refused == every and not wanted & refused
    assert READER.read(context, domain=domain).domain == domain
