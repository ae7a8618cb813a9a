"""Entity F1: micro precision, recall and F1 of attribute values, by annotation and by each data set's published rule."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ahocorasick import Automaton

from models.corpus.text import fold_characters, normalise
from models.dialogue.data.records import MISSING
from models.errors import ArtifactError
from models.evaluation.dialogue.metrics import split_punctuation

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
        rewrite: Preprocessing of lower-case text.
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

PLAIN = EntityRule("plain", rewrite=fold_characters)
SMD = EntityRule("smd", rewrite=_smd_text)
MULTIWOZ = EntityRule("multiwoz", blank_out=True, phrases=MappingProxyType(_MULTIWOZ_PHRASES), choice=_is_offered)

_RULES = {"smd": SMD, "multiwoz": MULTIWOZ}


def rule_for(data_set: str) -> EntityRule:
    """Return the rule of a data set (`dialogues.kind`); all but `smd` and `multiwoz` are `plain`."""
    return _RULES.get(data_set, PLAIN)


class SubstringIndex:
    """Values that are looked for anywhere in a text, all in one pass (an Aho-Corasick automaton)."""

    def __init__(self, values: Iterable[str]) -> None:
        """Index the values that are not empty; a value's numbers are its places in `values`."""
        self._automaton = Automaton()
        for number, value in enumerate(values):
            if value:
                self._automaton.add_word(value, (*self._automaton.get(value, ()), number))
        self._automaton.make_automaton()

    def occurring(self, text: str) -> set[int]:
        """Return the numbers of all values that are substrings of `text`."""
        # A search in an automaton without words raises.
        return {number for _, numbers in self._automaton.iter(text) for number in numbers} if len(self._automaton) else set()


Counts = tuple[float, float, float]
"""True positives, false positives, false negatives of one turn."""


class EntityList:
    """The values Entity F1 looks for, and how.

    Attributes:
        rule: The data set's rule.
        entries: Values, longest first (equal lengths in alphabetical order), without duplicates; of `choice` with their prefix.
        sha256: Of the sorted entries; whatever order a file had them in, equal lists have equal digests.
    """

    def __init__(self, values: Iterable[str], *, rule: EntityRule) -> None:
        """Lower-case the values, drop missing ones and those without a letter, split punctuation as in texts, and index them."""
        self.rule = rule
        known = {_canonical_value(value, rule) for value in values if value.strip().lower() not in MISSING and normalise(value)}
        self.entries = tuple(sorted(known - {""}, key=lambda entry: (-len(entry), entry)))
        self._values = tuple(rule.value_of(entry) for entry in self.entries)
        self._index = SubstringIndex(self._values)
        self.sha256 = hashlib.sha256(json.dumps(sorted(self.entries)).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def note(self) -> str:
        """Say which list and rule a score rests on."""
        return f"rule {self.rule.name}; list of {len(self):,} values, sha256 {self.sha256[:12]}"

    @property
    def plain_values(self) -> tuple[str, ...]:
        """The values without those of `choice`, which belong to no entity."""
        return tuple(entry for entry, value in zip(self.entries, self._values, strict=True) if entry == value)

    def extract(self, text: str) -> tuple[str, ...]:
        """Return the values in a response or reference, in the order of the list."""
        canonical = f" {_canonical_text(text, self.rule)} "
        return self._blanked_out(canonical) if self.rule.blank_out else self._maximal(canonical)

    def _maximal(self, text: str) -> tuple[str, ...]:
        found: list[str] = []
        for number in sorted(self._index.occurring(text)):
            value = self._values[number]
            if not any(value in longer for longer in found):
                found.append(value)
        return tuple(found)

    def _blanked_out(self, text: str) -> tuple[str, ...]:
        found: list[str] = []
        at = 0
        while (number := self._first(text, at)) is not None:
            found.append(self._values[number])
            text = text.replace(self._values[number], " ")
            at = number + 1
        return tuple(found)

    def _first(self, text: str, at: int) -> int | None:
        """Return the first entry from `at` on that counts in `text`; blanking out may have made one appear."""
        here = sorted(number for number in self._index.occurring(text) if number >= at)
        return next((n for n in here if self.rule.holds(self.entries[n], self._values[n], text)), None)


def read_entity_list(path: Path, *, rule: EntityRule) -> EntityList:
    """Read a JSON list of values.

    Raises:
        ArtifactError: The file is missing, no such list, or empty; names it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ArtifactError(f"The entity list `{path}` must be a readable JSON file, but is not ({err}).") from err
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ArtifactError(f"The entity list `{path}` must be a JSON list of strings, at least one. Give the values alone.")
    return EntityList(values, rule=rule)


def count_values(found: Collection[str], wanted: Collection[str]) -> Counts | None:
    """Compare the values of a response with those of its reference; None where the reference has none (published: skipped)."""
    if not wanted:
        return None
    hits = sum(value in found for value in wanted)
    surplus = len(set(found) - set(wanted))
    return float(hits), float(surplus), float(len(wanted) - hits)


def _canonical_value(value: str, rule: EntityRule) -> str:
    """Bring a value to the form of texts; it may ask for a word boundary by a blank at its end (` lab `)."""
    lower = value.lower().replace("_", " ")
    head = CHOICE_PREFIX if rule.choice and lower.startswith(CHOICE_PREFIX) else ""
    body = lower.removeprefix(head)
    text = _canonical_text(body, rule)
    return head + " " * body.startswith(" ") + text + " " * body.endswith(" ") if text else ""


def _canonical_text(text: str, rule: EntityRule) -> str:
    return split_punctuation(rule.rewrite(text.lower()))
