"""The one reading of numbers, and that a row's own ground truth is right by its check."""

import re
import sys
import time
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.corpus.fields import BadRecord
from models.corpus.formats import parse_row
from models.corpus.numbers import CURRENCY_SYMBOLS, last_number, number_in
from models.evaluation.fusion.correctness import is_correct
from models.params.corpus import CorpusSet


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", "18"),
        ("#### 1,234\nQ: and 5 more?\n#### 7", "1234"),
        ("#### Step one\nadd 2 and 3, which is 5", "5"),
        ("#### -12.50 dollars", "-12.5"),
        ("it costs $1,200.00.", "1200"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("she owes $.75", "0.75"),
        ("-€.5", "-0.5"),
        ("#### -$1,200", "-1200"),
        ("from 10-3", "3"),
        ("from 10–3", "3"),
        ("10 − 3 = −7", "-7"),
        ("it is –5 outside", "-5"),
        ("x=-7", "-7"),
        ("(-7)", "-7"),
        ("the total is -4", "-4"),
        ("version 1.2.3", "3"),
        ("see No.5", "5"),
        ("well...5", "5"),
        ("about .5", "0.5"),
        ("#### .5", "0.5"),
        ("1,2", "2"),
        ("1,2345", "2345"),
        ("2,500,000 people", "2500000"),
        ("1,00,000 rupees", "100000"),
        ("1'000'000 francs", "1000000"),
        ("1\u202f000 km", "1000"),
        ("rooms 12 345", "345"),
        ("50%", "50"),
        ("room x12", "12"),
        ("18.", "18"),
        ("Answer: 18####", "18"),
        ("#### **18**", "18"),
        ("1e-3", "0.001"),
        ("6.02E23 of them", "602000000000000000000000"),
        ("2e2nd", "2"),
        ("half of it is 1/2", "0.5"),
        ("#### -3/4 of it", "-0.75"),
        ("on 5/6/2020", "2020"),
        ("7/0", "0"),
        ("٣٤", "34"),
        ("－１２", "-12"),
        ("x² = 9", "9"),
        # Decimal commas where the comma can be nothing else.
        ("1.234,56", "1234.56"),
        ("#### 1.234,56 €", "1234.56"),
        ("-€1.234.567,89", "-1234567.89"),
        ("1'234,5", "1234.5"),
        ("1\u202f234,567 m", "1234.567"),
        ("1.234.567 people", "1234567"),
        ("12,50 €", "12.5"),
        ("€ 12,50.", "12.5"),
        ("(1.234,5.678)", "5.678"),
        ("(1.234,567,890)", "567890"),
        ("١٬٢٣٤٫٥", "1234.5"),
        ("１．５", "1.5"),
        # Both readings are in use: the English one.
        ("1.234", "1.234"),
        ("1,234", "1234"),
        ("3,14", "14"),
        ("1.234, 56", "56"),
        # Fractions behind a whole number, and of one character.
        ("1 1/2", "1.5"),
        ("#### -1 1/2 cups", "-1.5"),
        ("1,200 1/2", "1200.5"),
        ("2⁄4", "0.5"),
        ("½ of it", "0.5"),
        ("1½", "1.5"),
        ("-$2 ¾", "-2.75"),
        ("3 5/2", "2.5"),
        ("#### 3 5/2", "3"),
        ("on 2 5/6/2020", "2020"),
        # Signs and currencies.
        ("-$ 5", "-5"),
        ("#### −€\u00a01,200", "-1200"),
        ("-₩500", "-500"),
        ("₩-500", "-500"),
        ("₩ -500", "-500"),
        ("US$-5", "-5"),
        ("10€-5€", "5"),
        ("10 €-5 €", "5"),
        ("5%-3%", "3"),
        # A time is no number, nor are its parts.
        ("5 boxes at 3:30", "5"),
        ("5 boxes, 10:30-11:30", "5"),
        ("from 3:30 on, 5", "5"),
        ("a ratio of 3:2", "2"),
        ("Answer:5", "5"),
        ("10:305", "305"),
    ],
)
def test_last_number_reads_what_a_person_reads(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "no idea ####", "seven", "²", "3:30", "#### 3:30", "it took 12:05:30.5", "-3:30", "٣:٣٠"])
def test_a_text_without_a_number_has_none(text: str) -> None:
    assert number_in(text) is None
    assert last_number(text) is None


def test_a_long_text_of_marks_is_read_at_once() -> None:
    assert number_in("####" * 50_000 + " x") is None
    assert number_in("9" * 20_000) == "9" * 20_000


@pytest.mark.parametrize("text", ["1 1/2 behind\n#### 3:30", "#### 3:30\n#### 5"])
def test_a_time_behind_the_mark_is_no_answer_and_no_other_number_is_taken_for_it(text: str) -> None:
    assert number_in(text) is None
    with pytest.raises(BadRecord, match="number"):
        parse_row({"question": "q?", "answer": text}, CorpusSet(name="n", path="x", format="qa", check="number"), number=1)


@pytest.mark.parametrize(
    "text",
    [
        "1" + ",23" * 30_000,
        "1" + ".234" * 20_000 + ".5",
        "1" + ",234" * 20_000 + "5",
        "1" + "'234" * 20_000 + "5",
        "1 1/" * 20_000,
        "11:" * 30_000,
        "#### " + "-$ " * 30_000,
        "9" * 50_000 + ",5",
    ],
    ids=lambda text: text[:12],
)
def test_long_texts_are_read_in_a_time_that_grows_with_their_length(text: str) -> None:
    start = time.process_time()
    number_in(text)
    assert time.process_time() - start < 2  # s; where every position is tried to the end, over 20


def test_the_currency_symbols_are_those_of_unicode() -> None:
    one = re.compile(f"[{CURRENCY_SYMBOLS}]")
    signs = {sign for sign in map(chr, range(sys.maxunicode + 1)) if one.match(sign)}
    assert {sign for sign in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(sign) == "Sc"} <= signs
    assert {unicodedata.category(sign) for sign in signs} <= {"Sc", "Cn"}


_SYMBOLS = st.characters(categories=["Sc"])


@given(symbol=_SYMBOLS, amount=st.decimals(0, 10**9, places=2), blank=st.sampled_from(["", " ", "\u00a0", "\u202f"]))
def test_a_currency_before_or_behind_changes_no_value(symbol: str, amount: Decimal, blank: str) -> None:
    for number in (f"{amount}", f"{amount:,}"):
        for text in (f"{symbol}{blank}{number}", f"{number}{blank}{symbol}"):
            assert last_number(f"it is {text}.") == amount
        for minus in "-−–－﹣":
            for text in (f"{minus}{symbol}{blank}{number}", f"{symbol}{blank}{minus}{number}", f"{minus}{number}{blank}{symbol}"):
                assert last_number(f"it is {text}.") == -amount


@given(amount=st.decimals(1000, 10**12, places=2), sign=st.sampled_from(["", "-"]))
def test_a_decimal_comma_behind_grouped_thousands_is_read(amount: Decimal, sign: str) -> None:
    english = f"{sign}{amount:,}"
    for group in ".'’\u00a0\u2009\u202f":
        text = english.replace(".", ";").replace(",", group).replace(";", ",")
        assert last_number(f"#### {text} km") == Decimal(f"{sign}{amount}")


@given(whole=st.integers(0, 10**6), denominator=st.integers(2, 99), data=st.data(), sign=st.sampled_from(["", "-"]))
def test_a_mixed_fraction_is_the_sum_of_its_parts(whole: int, denominator: int, data: st.DataObject, sign: str) -> None:
    numerator = data.draw(st.integers(1, denominator - 1))
    value = Decimal(whole * denominator + numerator) / Decimal(denominator)
    assert last_number(f"about {sign}{whole} {numerator}/{denominator} of them") == (-value if sign else value)


@given(hour=st.integers(0, 23), minute=st.integers(0, 59), second=st.none() | st.integers(0, 59))
def test_a_time_is_no_number(hour: int, minute: int, second: int | None) -> None:
    text = f"{hour}:{minute:02}" + ("" if second is None else f":{second:02}")
    assert number_in(f"at {text}") is None
    assert number_in(f"7 trains until {text}.") == "7"


_PIECES = ["####", "#### ", "3:30", "1 1/2", "1.234,56", *"-−–$€₩.,:'/% \neEx()=٥５²½⁄٬٫\u00a0"]
_TEXTS = st.lists(st.sampled_from(_PIECES) | st.integers(0, 12_345_678).map(str), min_size=1, max_size=12).map("".join)


@given(
    text=_TEXTS | st.text(max_size=20),
    field=st.sampled_from(["answer", "reference"]),
    check=st.sampled_from(["number", "exact", "contains"]),
)
def test_the_ground_truth_of_every_accepted_row_is_right(text: str, field: str, check: str) -> None:
    row = {"question": "q?", "answer": "see below", field: text}
    try:
        example = parse_row(row, CorpusSet(name="n", path="x", format="qa", check=check), number=1)
    except BadRecord:
        return
    truth = text if text.strip() else example.response
    assert is_correct(example, truth) is True
    if check == "number":
        assert last_number(str(example.answer)) == last_number(truth)
        assert number_in(str(example.answer)) == example.answer
