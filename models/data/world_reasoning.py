"""Family `reasoning`: small sums, differences, comparisons and sorting; the answer follows from the prompt alone.

The detailed style shows a short working before the answer. An item's key names the operands, so that a held-out key
is a computation never seen in training, under any phrasing.
"""

from collections.abc import Iterator
from itertools import combinations, product

from models.data.world import World
from models.data.world_item import Item

_SUM = ("What is {0} plus {1}?", "Add {0} and {1}.", "I have {0} coins and get {1}. How many?", "{0} + {1} = ?")
_DIFFERENCE = ("What is {0} minus {1}?", "Take {1} from {0}.", "I have {0} coins and pay {1}. How many?", "{0} - {1} = ?")
_SORT = ("Sort {0}, {1}, {2}.", "Put in order: {0}, {1}, {2}.", "Order {0}, {1}, {2} from small to large.")
_LARGEST = ("Which is largest: {0}, {1} or {2}?", "Name the largest of {0}, {1}, {2}.")
_SMALLEST = ("Which is smallest: {0}, {1} or {2}?", "Name the smallest of {0}, {1}, {2}.")


def reasoning_items(world: World) -> Iterator[Item]:
    """Yield every computation in every phrasing."""
    rng = world.rng("reasoning")
    for a, b in product(range(11, 90), range(1, 10)):
        if a % 10 + b <= 9:
            yield from _numbers(_SUM, (a, b), key=f"{a}+{b}", sign="+", answer=a + b)
        if a % 10 >= b:
            yield from _numbers(_DIFFERENCE, (a, b), key=f"{a}-{b}", sign="-", answer=a - b)
    for numbers in combinations(range(1, 15), 3):
        order = list(numbers)
        rng.shuffle(order)
        yield from _sorting(*order)
        yield from _extremes(*order)


def _numbers(phrasings: tuple[str, ...], operands: tuple[int, int], *, key: str, sign: str, answer: int) -> Iterator[Item]:
    a, b = operands
    for phrasing in phrasings:
        yield Item(
            prompt=phrasing.format(a, b),
            key=key,
            simple=f"{a} {sign} {b} = {answer}.",
            detailed=f"We work out {a} {sign} {b} = {answer}. The answer is {answer}.",
            answer=str(answer),
            check="number",
            distractors=(str(answer + 1), str(answer - 1), str(answer + 10)),
        )


def _sorting(first: int, second: int, third: int) -> Iterator[Item]:
    a, b, c = sorted((first, second, third))
    for phrasing in _SORT:
        yield Item(
            prompt=phrasing.format(first, second, third),
            key=f"{a}<{b}<{c}",
            simple=f"{a}, {b}, {c}.",
            detailed=f"From small to large we get {a}, {b}, {c}.",
            answer=f"{a}, {b}, {c}",
            check="contains",
            distractors=(f"{b}, {a}, {c}", f"{a}, {c}, {b}", f"{c}, {b}, {a}"),
        )


def _extremes(first: int, second: int, third: int) -> Iterator[Item]:
    a, b, c = sorted((first, second, third))
    for phrasings, right, wrong in ((_LARGEST, c, a), (_SMALLEST, a, c)):
        for phrasing in phrasings:
            yield Item(
                prompt=phrasing.format(first, second, third),
                key=f"{a}<{b}<{c}",
                simple=f"{a}, {b}, {c}, so {right}.",
                detailed=f"From small to large we get {a}, {b}, {c}. The answer is {right}.",
                answer=str(right),
                check="number",
                distractors=(str(wrong), str(b)),
            )
