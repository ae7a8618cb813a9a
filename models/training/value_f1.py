"""A cheap score of generated responses for choosing a model: which entity values they share with the references."""

from collections.abc import Iterable, Sequence

from models.data.value_finder import ValueFinder, matchable


class ValueF1:
    """Micro F1 over the distinct values found, as whole words, in response and reference; the longest values first.

    It is for choosing between models of one training. The published Entity F1, with its substrings and special rules, is a
    metric of the evaluation.
    """

    def __init__(self, values: Iterable[str]) -> None:
        """Know the values of the data set."""
        self._finder = ValueFinder()
        for value in values:
            if text := matchable(value):
                self._finder.add(text)

    def values_in(self, text: str) -> set[int]:
        """Return the numbers of the values in a text."""
        return {number for *_, number in self._finder.longest_spans(matchable(text))}

    def score(self, responses: Sequence[str], references: Sequence[str]) -> float | None:
        """Return the F1 over the turns whose reference has a value; None where none has.

        Args:
            responses: Generated.
            references: The true ones, in the same order.
        """
        both = predicted = true = 0
        for response, reference in zip(responses, references, strict=True):
            wanted = self.values_in(reference)
            if wanted:
                found = self.values_in(response)
                both, predicted, true = both + len(found & wanted), predicted + len(found), true + len(wanted)
        return 2 * both / (predicted + true) if true else None
