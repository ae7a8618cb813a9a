"""The indexed extraction of values equals the rule as published, one value after the other."""

import re

from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.dialogue.entity_f1 import MULTIWOZ, PLAIN, SMD, EntityList, EntityRule, count_values

_WORDS = ["a", "b", "ab", "many", "how", "all", "of", "the", "centre", "cambridge", "towninfo", "free", "parking", "to"]
_MORE = ["there", "are", "only", "found", "9", "7", "pm", "20", "-", "30f", "cheap", "x1", "hotel"]
_texts = st.lists(st.sampled_from(_WORDS + _MORE), max_size=12).map(" ".join) | st.text("ab 9-f", max_size=12)
_values = st.lists(_texts.filter(str.strip), max_size=10)
_choices = st.lists(st.sampled_from(["many", "all", "to", "9", "a b"]).map("choice-".__add__), max_size=3)


@given(_values, _texts)
def test_maximal_values(values: list[str], text: str) -> None:
    for rule in (PLAIN, SMD):
        entities = EntityList(values, rule=rule)
        expected: list[str] = []
        for value in entities.entries:
            if value in _read(text, rule) and not any(value in longer for longer in expected):
                expected.append(value)
        assert entities.extract(text) == tuple(expected)


@given(_values, _choices, _texts)
def test_blanked_out_values(values: list[str], choices: list[str], text: str) -> None:
    entities = EntityList(values + choices, rule=MULTIWOZ)
    assert entities.extract(text) == tuple(_published(entities.entries, _read(text, MULTIWOZ)))


@given(st.lists(st.sampled_from("abcd"), max_size=4), st.sets(st.sampled_from("abcd"), max_size=4))
def test_counts_add_up(found: list[str], wanted: set[str]) -> None:
    counts = count_values(found, sorted(wanted))
    if not wanted:
        assert counts is None
        return
    assert counts is not None
    hits, surplus, missed = counts
    assert hits + missed == len(wanted)
    assert hits + surplus == len(set(found))


def _read(text: str, rule: EntityRule) -> str:
    """Lower-cased, rewritten, punctuation apart, padded with blanks, as the published scripts read a response."""
    rewritten = rule.rewrite(text.lower())
    return " " + " ".join(re.sub(r"([^\w\s])", r" \1 ", rewritten).split()) + " "


def _published(entries: tuple[str, ...], text: str) -> list[str]:
    found = []
    for entry in entries:
        value = entry.removeprefix("choice-")
        if entry.startswith("choice-"):
            if value == "many":
                hit = value in re.sub(r"(many (other types|food types|cuisines)|how many)", " ", text)
            elif value == "all":
                hit = bool(re.search(r"all (of the|expensive|moderate|cheap)", text))
            elif value == "to":
                hit = False
            else:
                hit = bool(re.search(f"(there are|there is|found|have about|have)( only|) {re.escape(value)}", text))
        elif value == "centre":
            hit = value in text.replace("cambridge towninfo centre", " ")
        elif value == "free":
            hit = bool(re.search(r"free (parking|internet|wifi)", text))
        else:
            hit = value in text
        if hit:
            found.append(value)
            text = text.replace(value, " ")
    return found
