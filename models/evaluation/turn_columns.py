"""The rows of a system as columns: what the comparison needs of each turn, in a hundredth of the memory of the rows."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.evaluation.dialogue_metrics import DialogueMetric
from models.evaluation.dialogue_scores import DialogueRow

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """T turns of one system, in the order of its rows.

    Attributes:
        ids: Turn ids.
        dialogues: Their dialogues.
        domains: Their domains.
        first_mention: Whether the reference names an entity that the context has not, bool[T].
        has_gold: Whether the turn has gold values, bool[T].
        values: Statistic → its numbers, float64[T, S]; NaN where a turn does not have it.
        known: Statistic → which turns have it, bool[T].
    """

    ids: tuple[str, ...]
    dialogues: tuple[str, ...]
    domains: tuple[str, ...]
    first_mention: Bools
    has_gold: Bools
    values: dict[str, Floats]
    known: dict[str, Bools]

    @classmethod
    def read(cls, rows: Iterable[DialogueRow], *, count_api: bool = False, names: dict[str, str] | None = None) -> "TurnColumns":
        """Take from rows, one after the other, what is compared; API turns only with `count_api`.

        `names` holds the texts of other systems' turns, which are shared with this one.
        """
        shared = {} if names is None else names
        ids: list[str] = []
        dialogues: list[str] = []
        domains: list[str] = []
        first, gold = [], []
        numbers: dict[str, tuple[array[int], array[float]]] = {}
        for row in rows:
            if row.kind != "response" and not count_api:
                continue
            for name, values in row.statistics.items():
                places, found = numbers.setdefault(name, (array("q"), array("d")))
                places.append(len(ids))
                found.extend(values)
            for column, text in ((ids, row.id), (dialogues, row.dialogue), (domains, row.domain)):
                column.append(shared.setdefault(text, text))
            first.append(row.first_mention)
            gold.append(row.has_gold)
        columns = {name: _spread(*found, num=len(ids)) for name, found in numbers.items()}
        return cls(
            tuple(ids),
            tuple(dialogues),
            tuple(domains),
            first_mention=np.array(first, dtype=np.bool_),
            has_gold=np.array(gold, dtype=np.bool_),
            values={name: values for name, (values, _) in columns.items()},
            known={name: known for name, (_, known) in columns.items()},
        )

    def __len__(self) -> int:
        """Return the number of turns T."""
        return len(self.ids)

    def take(self, places: Sequence[int] | npt.NDArray[np.int64]) -> "TurnColumns":
        """Return some of the turns, in the given order."""
        index = np.asarray(places, dtype=np.int64)
        ids, dialogues, domains = ([column[i] for i in index.tolist()] for column in (self.ids, self.dialogues, self.domains))
        return TurnColumns(
            tuple(ids),
            tuple(dialogues),
            tuple(domains),
            first_mention=self.first_mention[index],
            has_gold=self.has_gold[index],
            values={name: values[index] for name, values in self.values.items()},
            known={name: known[index] for name, known in self.known.items()},
        )

    def counted(self, metric: DialogueMetric) -> npt.NDArray[np.int64]:
        """Return the turns that count for a metric, rising."""
        if metric.statistic not in self.known:
            return np.empty(0, dtype=np.int64)
        known = self.known[metric.statistic]
        counted = {"": known, "first_mention": known & self.first_mention, "no_gold": known & ~self.has_gold}[metric.only]
        return np.flatnonzero(counted)


def _spread(places: "array[int]", found: "array[float]", *, num: int) -> tuple[Floats, Bools]:
    """Return the numbers of a statistic, [T, S], and which turns have it."""
    at = np.frombuffer(places, dtype=np.int64)
    values = np.full((num, len(found) // len(places)), np.nan)
    values[at] = np.frombuffer(found, dtype=np.float64).reshape(len(places), -1)
    known = np.zeros(num, dtype=np.bool_)
    known[at] = True
    return values, known
