"""What the published Entity F1 (Q-TOD, MAKER, MK-TOD) does differently for each data set.

The rule finds values of a list in a text as substrings, longest first. `plain` (CamRest676, and data of one's own) and `smd`
leave out a value that is a substring of one already found; `multiwoz` blanks out what it found and bends the rule for words
that are values only in some phrases.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from models.data.text import fold

CHOICE_PREFIX = "choice-"
"""Marks a value of the attribute `choice` (number of options) in the list; such values count only in some phrases."""

Holds = Callable[[str, str], bool]

_CLOCK = re.compile(r"(\d) ([ap]m)")
_DEGREES = "(20|30|40|50|60|70|80|90|100)"
_RANGE = re.compile(rf"{_DEGREES}\s*-\s*{_DEGREES}f")
_OTHER_MANY = re.compile(r"many (?:other types|food types|cuisines)|how many")
_ALL = re.compile(r"all (?:of the|expensive|moderate|cheap)")
_FREE = re.compile(r"free (?:parking|internet|wifi)")
_OFFER = "(?:there are|there is|found|have about|have)(?: only|) "


@dataclass(frozen=True, slots=True)
class EntityRule:
    """How values are found in the text of one data set.

    Attributes:
        name: `plain`, `smd` or `multiwoz`.
        rewrite: What is done to a lower-case text first.
        blank_out: Replace what was found by a blank (else: skip values within found ones).
        phrases: Value (of the attribute `choice` with its prefix) → whether it counts in a text that contains it.
        choice: The same for all other values of `choice`; None: a prefix means nothing.
    """

    name: str
    rewrite: Callable[[str], str] = field(default=str, repr=False)
    blank_out: bool = False
    phrases: Mapping[str, Holds] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    choice: Holds | None = field(default=None, repr=False)

    def holds(self, entry: str, value: str, text: str) -> bool:
        """Whether `value`, a substring of `text`, counts there; `entry` is the value as it stands in the list."""
        test = self.phrases.get(entry)
        if test is None and entry.startswith(CHOICE_PREFIX):
            test = self.choice
        return test is None or test(value, text)

    def value_of(self, entry: str) -> str:
        """Return the text that an entry of the list stands for."""
        return entry.removeprefix(CHOICE_PREFIX) if self.choice else entry


def _smd_text(text: str) -> str:
    """Write `7 pm` as `7pm` and `20-30f` as `20f-30f`."""
    return _RANGE.sub(r"\1f-\2f", _CLOCK.sub(r"\1\2", text))


def _is_offered(value: str, text: str) -> bool:
    return re.search(_OFFER + re.escape(value), text) is not None


_MULTIWOZ_PHRASES: dict[str, Holds] = {
    f"{CHOICE_PREFIX}many": lambda value, text: value in _OTHER_MANY.sub(" ", text),
    f"{CHOICE_PREFIX}all": lambda _, text: _ALL.search(text) is not None,
    f"{CHOICE_PREFIX}to": lambda _, __: False,
    "centre": lambda value, text: value in text.replace("cambridge towninfo centre", " "),
    "free": lambda _, text: _FREE.search(text) is not None,
}

PLAIN = EntityRule("plain", rewrite=fold)
SMD = EntityRule("smd", rewrite=_smd_text)
MULTIWOZ = EntityRule("multiwoz", blank_out=True, phrases=MappingProxyType(_MULTIWOZ_PHRASES), choice=_is_offered)

_RULES = {"smd": SMD, "multiwoz": MULTIWOZ}


def rule_for(data_set: str) -> EntityRule:
    """Return the rule of a data set (`dialogues.kind`); all but `smd` and `multiwoz` are `plain`."""
    return _RULES.get(data_set, PLAIN)
