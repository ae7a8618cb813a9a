"""Correctness of answers by the check their example names, and `bits_per_byte`, the project's only unit of likelihood."""

import math
import re
import unicodedata

from models.corpus.numbers import last_number
from models.errors import DataError, NumericsError, Problem
from models.schema import Example

_SPACE = re.compile(r"\s+")


def normalise_answer(text: str) -> str:
    """Return `text` for comparison: NFKC, case folded, spaces collapsed, surrounding punctuation dropped.

    A text of punctuation only stays as it is, so that an answer such as `?` can still be compared.
    """
    flat = _flatten(text)
    return _strip_punctuation(flat) or flat


def is_correct(example: Example, text: str) -> bool | None:
    """Judge a model's `text` by `example.check`.

    `exact` compares the normalised strings; `contains` looks for the normalised answer as whole words; `number` compares
    the last numbers by value; `none` returns None: such a row does not enter accuracy.

    Raises:
        DataError: The example has a check but no answer it could look for.
    """
    if example.check == "none":
        return None
    if example.answer is None or not example.answer.strip():
        raise _unanswerable(example, "must have an `answer`")
    if example.check == "number":
        wanted = last_number(example.answer)
        if wanted is None:
            raise _unanswerable(example, "must have a number in `answer`")
        return last_number(text) == wanted
    wanted_text = normalise_answer(example.answer)
    return normalise_answer(text) == wanted_text if example.check == "exact" else _contains_words(_flatten(text), wanted_text)


def _flatten(text: str) -> str:
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()


def _strip_punctuation(text: str) -> str:
    start, stop = 0, len(text)
    while start < stop and _is_punctuation(text[start]):
        start += 1
    while stop > start and _is_punctuation(text[stop - 1]):
        stop -= 1
    return text[start:stop]


def _is_punctuation(char: str) -> bool:
    # Signs carry meaning at the edge of an answer (-5, +3, 50%), so only quotes, brackets and sentence marks go.
    return char.isspace() or (unicodedata.category(char).startswith("P") and char not in "-%#&@")


def _contains_words(text: str, answer: str) -> bool:
    start = text.find(answer)
    while start >= 0:
        stop = start + len(answer)
        if _is_boundary(text, start) and _is_boundary(text, stop):
            return True
        start = text.find(answer, start + 1)
    return False


def _is_boundary(text: str, at: int) -> bool:
    if at in (0, len(text)):
        return True
    return not (_joins(text[at - 1]) and _joins(text[at]))


def _joins(char: str) -> bool:
    # Scripts written without spaces (wide characters) have no word boundaries to respect.
    return char.isalnum() and unicodedata.east_asian_width(char) not in ("W", "F")


def _unanswerable(example: Example, rule: str) -> DataError:
    hint = "Give the row an answer, or set its check to `none`."
    return DataError(
        "The held-out examples cannot be judged", [Problem(f"example `{example.id}`", rule, repr(example.answer), hint)]
    )


def bits_per_byte(nll: float, num_bytes: int) -> float:
    """Return the cross-entropy of a text in bits per UTF-8 byte, comparable across tokenizers.

    Args:
        nll: Σ −log p over the response tokens and, unless the text was cut, its end, nats.
        num_bytes: UTF-8 bytes of the response (the end token has none: stopping in time is part of the cost).

    Raises:
        NumericsError: `nll` is not finite, or `num_bytes` is not positive.
    """
    if not math.isfinite(nll):
        raise NumericsError(f"bits_per_byte: `nll` must be finite, but is {nll}. Look for a non-finite loss in the scoring.")
    if num_bytes <= 0:
        raise NumericsError(f"bits_per_byte: `num_bytes` must be greater than 0, but is {num_bytes}. Leave empty responses out.")
    return nll / math.log(2) / num_bytes
