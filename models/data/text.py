"""The one normaliser of dialogue text: what counts as the same word, the same value."""

import re

_OTHER = re.compile(r"[^a-z0-9:]+")


def normalise(text: str) -> str:
    """Lower case; everything but a–z, 0–9 and `:` becomes a blank; blanks collapse."""
    return _OTHER.sub(" ", text.lower()).strip()


def squeeze(text: str) -> str:
    """Normalise and remove the blanks: how values are compared by the recall rule (`cb1 2ab` = `cb12ab`)."""
    return normalise(text).replace(" ", "")


def contains_words(text: str, value: str) -> bool:
    """Whether a normalised value occurs in a normalised text as whole words; an empty value occurs nowhere."""
    return bool(value) and f" {value} " in f" {text} "
