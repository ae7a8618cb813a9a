"""Family `reasoning`: small sums, differences, comparisons and sorting; the answer follows from the prompt alone.

The detailed style shows a short working before the answer. An item's key names the operands, so that a held-out key
is a computation never seen in training, under any phrasing.
"""

from collections.abc import Iterator
from itertools import combinations

from models.data.world import World
from models.data.world_item import Item

_SUM = ("What is {0} plus {1}?", "Add {0} and {1}.", "I have {0} coins and get {1}. How many?", "{0} + {1} = ?")
_DIFFERENCE = ("What is {0} minus {1}?", "Take {1} from {0}.", "I have {0} coins and pay {1}. How many?", "{0} - {1} = ?")
_LARGER = ("Which is more, {0} or {1}?", "Name the larger: {0} or {1}.", "{0} or {1}: which is larger?")
_SMALLER = ("Which is less, {0} or {1}?", "Name the smaller: {0} or {1}.", "{0} or {1}: which is smaller?")
_SORT = ("Sort {0}, {1}, {2}.", "Put in order: {0}, {1}, {2}.", "Order {0}, {1}, {2} from small to large.")
# Share of the pairs that are compared: about as many comparisons as sums.
_COMPARED = 0.35


def reasoning_items(world: World) -> Iterator[Item]:
    """Yield every computation in every phrasing."""
    rng = world.rng("reasoning")
    for a in range(11, 60):
        for b in range(2, 10):
            yield from _arithmetic(a, b)
    for low, high in combinations(range(2, 60), 2):
        if rng.random() > _COMPARED:
            continue
        first, second = (low, high) if rng.random() < 0.5 else (high, low)
        yield from _comparisons(first, second)
    for numbers in combinations(range(1, 20), 3):
        order = list(numbers)
        rng.shuffle(order)
        yield from _sorting(tuple(order))


def _arithmetic(a: int, b: int) -> Iterator[Item]:
    total, left = a + b, a - b
    yield from _numbers(_SUM, (a, b), key=f"{a}+{b}", answer=total, working=f"{a} + {b} = {total}", near=(1, 10, -1))
    yield from _numbers(_DIFFERENCE, (a, b), key=f"{a}-{b}", answer=left, working=f"{a} - {b} = {left}", near=(1, 10, -1))


def _numbers(
    phrasings: tuple[str, ...], operands: tuple[int, ...], *, key: str, answer: int, working: str, near: tuple[int, ...]
) -> Iterator[Item]:
    for phrasing in phrasings:
        yield Item(
            prompt=phrasing.format(*operands),
            key=key,
            simple=f"{answer}.",
            detailed=f"We work out {working}. The answer is {answer}.",
            answer=str(answer),
            check="number",
            distractors=tuple(str(answer + d) for d in near),
        )


def _comparisons(first: int, second: int) -> Iterator[Item]:
    low, high = sorted((first, second))
    for phrasings, word, right, wrong in ((_LARGER, "more", high, low), (_SMALLER, "less", low, high)):
        for phrasing in phrasings:
            yield Item(
                prompt=phrasing.format(first, second),
                key=f"{low}?{high}",
                simple=f"{right}.",
                detailed=f"We see that {right} is {word} than {wrong}. The answer is {right}.",
                answer=str(right),
                check="number",
                distractors=(str(wrong), str(right + 10)),
            )


def _sorting(numbers: tuple[int, ...]) -> Iterator[Item]:
    a, b, c = sorted(numbers)
    for phrasing in _SORT:
        yield Item(
            prompt=phrasing.format(*numbers),
            key="<".join(map(str, (a, b, c))),
            simple=f"{a}, {b}, {c}.",
            detailed=f"From small to large we get {a}, {b}, {c}.",
            answer=f"{a}, {b}, {c}",
            check="contains",
            distractors=(f"{b}, {a}, {c}", f"{a}, {c}, {b}", f"{c}, {b}, {a}"),
        )
