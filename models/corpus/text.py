"""Normalisation of dialogue text for matching words and values, in every script.

`normalise` is the general rule; `PUBLISHED` is the one behind the published figures of the English data sets. Both give words
separated by single blanks, so that a value occurs in a text where its words do. In a script without blanks each letter is a
word, and a value is found wherever its letters are adjacent.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import regex

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:(?<=[0-9]):(?=[0-9])[a-z0-9]+)*")
_NOT_PUBLISHED = re.compile(r"[^a-z0-9:]+")
# Scripts that put no blank between words (Korean puts some, but not between a noun and its particle).
_SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Hangul Thai Lao Khmer Myanmar Tai_Tham Javanese Balinese Yi Nushu Tai_Le New_Tai_Lue Tai_Viet"
)
_UNSPACED = "[" + "".join(rf"\p{{{script}}}" for script in _SCRIPTS.split()) + "ー]"
_LETTER = r"[\p{L}\p{N}]"
# A letter keeps its marks (vowel signs, tones, accents that have no composed form); a mark without a letter is not a word.
_SPACED = rf"(?:[{_LETTER}--{_UNSPACED}]\p{{M}}*+)++"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}&&{_LETTER}]\p{{M}}*+|{_SPACED}(?:(?<=[0-9]):(?=[0-9]){_SPACED})*+")
# How an emoji or a letter is drawn, not which it is. The blank of width zero (U+200B) is a blank.
_RENDERING = r"[[\p{Cf}\p{Me}\p{Variation_Selector}]--[\u200b]]"
# Vowel points, of which Arabic and Hebrew write all, some or none in the same word, and the bar that stretches an Arabic word.
_POINTS = (
    r"[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u0652\u0656-\u065f\u0670"
    r"\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
_IGNORED = regex.compile(rf"(?V1)[{_RENDERING}{_POINTS}]")


@dataclass(frozen=True, slots=True)
class TextRule:
    """One way of comparing texts.

    Attributes:
        name: Its name and version, recorded with every figure that depends on it.
        normalise: Turns a text into words separated by single blanks.
    """

    name: str
    normalise: Callable[[str], str]

    def without_blanks(self, text: str) -> str:
        """Normalise and remove the blanks: as the recall rule compares values (`cb1 2ab` = `cb12ab`)."""
        return self.normalise(text).replace(" ", "")


def normalise(text: str) -> str:
    """Fold case and forms (NFKC) and keep letters, marks and digits of all scripts, and `:` between digits.

    Digits of every script become 0–9; the dot that case folding leaves on a Turkish `İ` and the optional vowel points of Arabic
    and Hebrew are removed. All else becomes a blank. The function is idempotent.
    """
    if text.isascii():
        return " ".join(_ASCII_WORD.findall(text.lower()))
    return " ".join(_WORD.findall(fold_characters(text)))


def fold_characters(text: str) -> str:
    """Canonicalise letters and digits, keeping punctuation; English text changes only in case."""
    # Case folding can undo the composition, and vice versa; the dot comes between an `i` and its accent.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", _IGNORED.sub("", text)).casefold())
    text = unicodedata.normalize("NFD", text.casefold()).replace("i\u0307", "i")
    text = unicodedata.normalize("NFKC", _IGNORED.sub("", unicodedata.normalize("NFKC", text)))
    return "".join(_digit(sign) for sign in text)


def _digit(sign: str) -> str:
    return str(unicodedata.decimal(sign)) if sign.isdecimal() else sign


def _published(text: str) -> str:
    """Lower case; everything but a–z, 0–9 and `:` becomes a blank; blanks collapse."""
    return _NOT_PUBLISHED.sub(" ", text.lower()).strip()


ALL_SCRIPTS = TextRule("all scripts, version 1", normalise)
PUBLISHED = TextRule("published (a–z, 0–9), version 1", _published)
RULES = {"all_scripts": ALL_SCRIPTS, "published": PUBLISHED}


def without_blanks(text: str) -> str:
    """Normalise and remove the blanks."""
    return ALL_SCRIPTS.without_blanks(text)


def replace_lone_surrogates(text: str) -> str:
    """Replace lone surrogates, which cannot be encoded, with U+FFFD; surrogate pairs are joined."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def contains_words(text: str, value: str) -> bool:
    """Whether a normalised value occurs in a normalised text as whole words; an empty value occurs nowhere."""
    return bool(value) and f" {value} " in f" {text} "
