import pytest

from models.dialogue.data.unseen.words import Inventor, shift_numbers


def test_words_are_new_and_the_same_for_the_same_seed() -> None:
    first, again, other = (Inventor(taken=set(), seed=seed) for seed in (1, 1, 2))
    drawn = [first.word(f"w{i}", key=str(i)) for i in range(500)]
    assert drawn == [again.word(f"w{i}", key=str(i)) for i in range(500)]
    assert drawn != [other.word(f"w{i}", key=str(i)) for i in range(500)]
    assert len(set(drawn)) == 500 and all(word.isalpha() and word.islower() and len(word) >= 4 for word in drawn)
    assert not any(word.endswith("s") for word in drawn), "an s would look like a genitive"


def test_taken_and_reserved_words_are_not_drawn() -> None:
    word = Inventor(taken=set(), seed=1).word("oak", key="oak")
    assert Inventor(taken={word}, seed=1).word("oak", key="oak") != word
    inventor = Inventor(taken=set(), seed=1)
    inventor.reserve([word])
    assert inventor.word("oak", key="oak") != word


def test_codes_keep_their_shape() -> None:
    inventor = Inventor(taken=set(), seed=1)
    for like in ("cb21ab", "01223315702", "4155550123"):
        code = inventor.code(like, key=like)
        assert code != like and len(code) == len(like)
        assert [sign.isdigit() for sign in code] == [sign.isdigit() for sign in like]
        assert code[:2] == "cb" if like[0] == "c" else (code[0] == "0") >= (like[0] == "0")


def test_when_all_codes_of_a_length_are_drawn_they_grow() -> None:
    inventor = Inventor(taken=set(), seed=1)
    drawn = {inventor.code("a1", key=str(i)) for i in range(40)}
    assert len(drawn) == 40 and max(map(len, drawn)) > 2


@pytest.mark.parametrize(("token", "digits"), [("7", 1), ("53", 2), ("517", 3)])
def test_numbers_of_a_length_are_permuted(token: str, digits: int) -> None:
    inventor = Inventor(taken=set(), seed=3)
    every = [str(n) for n in range(10 ** (digits - 1), 10**digits)]
    shifted = [shift_numbers(number, inventor) for number in every]
    assert sorted(shifted) == sorted(every), "none twice, and as long as before"
    assert not any(a == b for a, b in zip(every, shifted, strict=True)), "each becomes another"


def test_the_rest_of_a_token_stays() -> None:
    inventor = Inventor(taken=set(), seed=3)
    new = shift_numbers("517a", inventor)
    assert new == shift_numbers("517", inventor) + "a" != "517a"
    assert shift_numbers("0", inventor) == "0"
    assert shift_numbers("007", inventor).startswith("00")
