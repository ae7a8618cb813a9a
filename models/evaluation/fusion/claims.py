"""Which differences the claims rest on: the main method against baselines and the best source, methods against the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.evaluation.fusion.scores import System

MAIN_METHOD = "profuser"
BASELINES = ("sft", "fusellm")


@dataclass(frozen=True, slots=True)
class BestSource:
    """The best single source per metric, and how it was chosen.

    Attributes:
        systems: Metric → source.
        chosen_on: The split it was chosen on; on the split that is reported it is an oracle, and the note says so.
    """

    systems: Mapping[str, System]
    chosen_on: str

    @property
    def note(self) -> str:
        """One phrase for tables."""
        oracle = ", an oracle" if self.chosen_on == "test" else ""
        return f"best source chosen on {self.chosen_on}{oracle}"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two systems to compare; with a `metric` only on that one."""

    a: System
    b: System
    metric: str | None = None
    note: str = ""


def claim_pairs(systems: Sequence[System], *, best: BestSource | None = None, main: str = MAIN_METHOD) -> tuple[Pair, ...]:
    """Return the comparisons the claims rest on, for each target, as far as their systems are among `systems`.

    They are main − sft, main − fusellm, main − best single source, and every method − untrained target.
    """
    pairs: list[Pair] = []
    for target in dict.fromkeys(s.target for s in systems if s.kind == "method"):
        methods = {s.name: s for s in systems if s.kind == "method" and s.target == target}
        if main in methods:
            pairs += [Pair(methods[main], methods[b]) for b in BASELINES if b in methods and b != main]
            pairs += _against_best(methods[main], best)
        for untrained in (s for s in systems if s.kind == "untrained" and s.target == target):
            pairs += [Pair(method, untrained) for method in methods.values()]
    return tuple(pairs)


def _against_best(method: System, best: BestSource | None) -> list[Pair]:
    return [Pair(method, source, metric, best.note) for metric, source in best.systems.items()] if best else []
