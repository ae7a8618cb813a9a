import pytest

from models.dialogue.data.unseen.replace import (
    EVERY_WORD,
    NO_FUNCTION,
    OWN_WORDS,
    STREET,
    forms_of_addresses,
    forms_of_names,
    is_own,
    level_of,
)


def forms(*names: str) -> set[str]:
    return {form for form, _ in forms_of_names(names)}


@pytest.mark.parametrize(
    ("name", "level", "own"),
    [
        ("the lensfield hotel", OWN_WORDS, ["lensfield"]),
        ("rosa s bed and breakfast", OWN_WORDS, ["rosa"]),
        ("12 park road", NO_FUNCTION, ["12", "park", "road"]),
        ("the place", NO_FUNCTION, ["place"]),
        ("on a", EVERY_WORD, ["on", "a"]),
        ("7 8", OWN_WORDS, ["7", "8"]),
    ],
)
def test_which_words_are_its_own(name: str, level: int, own: list[str]) -> None:
    words = name.split()
    assert level_of(words) == level
    assert [word for word in words if is_own(word, level)] == own


def test_shortened_names() -> None:
    assert {"the lensfield hotel", "lensfield hotel", "the lensfield", "lensfield"} <= forms("the lensfield hotel")
    assert {"acorn guest house", "acorn guesthouse", "the acorn"} <= forms("acorn guest house")
    assert "acorn" not in forms("acorn guest house"), "too short without `the`"
    assert "carolina b b" in forms("carolina bed and breakfast")
    assert "du vin and bistro" not in forms("hotel du vin and bistro") and "vin and bistro" in forms("hotel du vin and bistro")


def test_a_word_that_two_names_have_is_no_short_name() -> None:
    assert "ashworth" in forms("ashworth hotel", "golden wok")
    assert "ashworth" not in forms("ashworth hotel", "ashworth restaurant")


def test_what_is_left_of_a_name_of_kinds_is_no_short_name() -> None:
    assert forms("the place") == {"the place"}
    assert dict(forms_of_names(["the place"])) == {"the place": NO_FUNCTION}
    assert list(forms_of_names([""])) == []


def test_genitives() -> None:
    assert "rosas bed and breakfast" in forms("rosa ' s bed and breakfast")
    assert "saint john s chop house" in forms("saint johns chop house")


def test_streets_of_an_address() -> None:
    found = dict(forms_of_addresses(["12 lensfield road, king ' s parade, city centre"]))
    assert found["12 lensfield road king s parade city centre"] == OWN_WORDS
    assert found["lensfield road"] == STREET and found["king s parade"] == STREET and found["kings parade"] == STREET
    assert dict(forms_of_addresses(["12 park road"])) == {"12 park road": NO_FUNCTION}, "`park road` alone may be any"
