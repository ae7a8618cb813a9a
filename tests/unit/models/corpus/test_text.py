"""One rule for the texts of all scripts: the same word is the same, another one is not, and nothing is never something."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.corpus.text import PUBLISHED, contains_words, fold_characters, normalise, replace_lone_surrogates, without_blanks


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cafe\u0301", "CAFÉ"),  # decomposed and composed
        ("Straße", "STRASSE"),
        ("ΟΔΟΣ", "οδος"),  # final sigma
        ("İstanbul", "istanbul"),
        ("İstanbul".lower(), "ISTANBUL"),
        ("１２：３０", "12:30"),  # full width
        ("٠١٢٣", "0123"),
        ("ﬁsh", "fish"),
        ("می\u200cخواهم", "میخواهم"),  # joined by a sign of width zero
        ("\u202bمطعم\u202c", "مطعم"),  # direction marks
        ("co\u00adop", "coop"),
        ("ﾗｰﾒﾝ", "ラーメン"),
        ("مَطْعَمُ البَحْرِ", "مطعم البحر"),  # vowel points are written or not, by the same author
        ("مطـــعم", "مطعم"),  # stretched
        ("שָׁלוֹם", "שלום"),
    ],
)
def test_one_word_in_two_spellings(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Märkt", "Mörkt"),
        ("café", "caf"),
        ("Кафе Пушкин", "Кафе Чехов"),
        ("कि", "की"),  # vowel signs
        ("ไก", "ไก่"),  # tone marks
        ("أمل", "امل"),  # the hamza is no vowel point
        ("کتاب", "کتب"),
        ("北京", "东京"),
    ],
)
def test_two_words(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize("text", ["", " ", "🍕", "❤️", "👩‍👩‍👧", "—!?", "：", "\u0301", "\ufe0f"])
def test_texts_without_a_letter_or_digit_are_empty_and_stand_nowhere(text: str) -> None:
    assert normalise(text) == without_blanks(text) == ""
    assert not contains_words(normalise("pizza 🍕 here"), normalise(text))


@pytest.mark.parametrize(
    ("text", "value", "there"),
    [
        ("推荐北京烤鸭店，电话：0101111。", "北京烤鸭店", True),
        ("推荐北京烤鸭店，电话：0101111。", "0101111", True),
        ("推荐北京烤鸭店，电话：0101111。", "101111", False),  # a number is a word
        ("wifi密码abc", "wifi", True),
        ("wifi密码abc", "ab", False),
        ("ร้านกาแฟอยู่ที่นี่", "กาแฟ", True),
        ("ร้านไก่ย่าง", "ไก", False),  # another syllable
        ("ຮ້ານອາຫານລາວ", "ອາຫານ", True),
        ("ហាងកាហ្វេនៅទីនេះ", "កាហ្វេ", True),
        ("မြန်မာစားသောက်ဆိုင်", "စားသောက်ဆိုင်", True),
        ("ラーメン屋です", "ラーメン", True),
        ("서울식당은 북쪽에 있습니다", "서울식당", True),
        ("Das Bärental", "Bär", False),
        ("Das Bär ist im Süd.", "BÄR", True),
        ("מסעדת הים התיכון", "הים", True),
        ("מסעדת הים התיכון", "ים", False),
        ("हिन्दी भोजन", "हिन्दी", True),
        ("हिन्दी भोजन", "हिन्द", False),
    ],
)
def test_values_are_whole_words_or_parts_of_text_without_blanks(text: str, value: str, there: bool) -> None:
    assert contains_words(normalise(text), normalise(value)) is there


@given(st.text())
def test_normalising_again_changes_nothing_nor_does_composition(text: str) -> None:
    once = normalise(text)
    assert (
        normalise(once) == once == normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text))
    )
    assert not any(char.isspace() and char != " " for char in once) and once == once.strip()


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_english_differs_from_the_published_rule_in_the_colon_alone(text: str) -> None:
    assert normalise(text).replace(":", " ").split() == PUBLISHED.normalise(text).replace(":", " ").split()


def test_the_published_rule_keeps_ascii_alone() -> None:
    assert PUBLISHED.normalise("Café at 10:30: CB1-2AB") == "caf at 10:30: cb1 2ab"
    assert normalise("Café at 10:30: CB1-2AB") == "café at 10:30 cb1 2ab"
    assert PUBLISHED.without_blanks("北京") == ""


def test_folding_keeps_punctuation_and_english() -> None:
    assert fold_characters("The £5 O’Brien — 7:30 p.m.") == "the £5 o’brien — 7:30 p.m."
    assert fold_characters("İZMİR'de") == "izmir'de" and fold_characters("４０席") == "40席"


@given(st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, exclude_categories=())))
def test_whole_text_can_be_written(text):
    whole = replace_lone_surrogates(text)
    whole.encode()
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert whole == text
