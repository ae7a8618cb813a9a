"""Entity F1: micro precision, recall and F1 of the attribute values in responses, by two definitions.

`entity_f1` is the published one: a fixed list of values, found by string matching in response and reference alike, so that it
scores against what the extractor finds in the reference. A change of list moves it by many points: `EntityList` carries size
and sha256. `annotated_f1` scores against the turn's annotated values (`models.evaluation.word_values`).
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

from models.data.dialogue import MISSING
from models.data.text import normalise
from models.errors import ArtifactError
from models.evaluation.bleu import split_punctuation
from models.evaluation.entity_rules import CHOICE_PREFIX, EntityRule
from models.evaluation.substrings import SubstringIndex

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
        """Return the number of entries."""
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
