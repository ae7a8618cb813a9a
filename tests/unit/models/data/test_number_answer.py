"""The one reading of numbers, and that a row's own ground truth is right by its check."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.formats import parse_row
from models.data.number_answer import last_number, number_in
from models.data.validate import BadRecord
from models.evaluation.accuracy import is_correct
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
    ],
)
def test_last_number_reads_what_a_person_reads(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "no idea ####", "seven", "²", "½ of it"])
def test_a_text_without_a_number_has_none(text: str) -> None:
    assert number_in(text) is None
    assert last_number(text) is None


def test_a_long_text_of_marks_is_read_at_once() -> None:
    assert number_in("####" * 50_000 + " x") is None
    assert number_in("9" * 20_000) == "9" * 20_000


_PIECES = ["####", "#### ", *"-−–$€.,'/% \neEx()=٥５²"]
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
