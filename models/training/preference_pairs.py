"""Pairs of a better and a worse answer for embedded reward models: what sources really answer, and what rules make.

Rules put a wrong value into a right answer, or garble it; a reward model that saw nothing else ranks real answers, which are
fluent and often wrong, by chance. Real pairs come from prompts of the sources' pre-training, which no reward model ever judges.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

from models.data.corpus import read_examples
from models.schema import Example, Response
from models.training.reward_model import Pair

IsRight = Callable[[Example, str], bool | None]
_MOST = 4  # pairs of one prompt, so that none outweighs the others


@dataclass(frozen=True, slots=True)
class PairGroup:
    """Pairs that are drawn from together, with their weight."""

    pairs: tuple[Pair, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class PairSets:
    """Pairs of both origins.

    Attributes:
        made: By rules.
        real: From answers of sources.
        share: Share of the training pairs that are real; all or none where there are no others.
    """

    made: Sequence[Pair]
    real: Sequence[Pair]
    share: float

    def groups(self) -> dict[str, PairGroup]:
        """Return the pairs by family and origin; families weigh the same within an origin."""
        found: dict[str, PairGroup] = {}
        for origin, pairs, weight in (("made", self.made, 1 - self.share), ("real", self.real, self.share)):
            families: dict[str, list[Pair]] = {}
            for pair in pairs:
                families.setdefault(pair.family, []).append(pair)
            share = weight if self.made and self.real else 1.0
            for family, members in sorted(families.items()):
                if share > 0:
                    found[f"{origin}/{family}"] = PairGroup(tuple(members), share / len(families))
        return found


def answered_prompts(folder: Path, *, num_prompts: int, seed: int) -> list[Example]:
    """Choose pre-training rows with a check whose prompts the sources answer, evenly over the families of `folder`."""
    files = sorted(folder.glob("*.jsonl"))
    chosen: list[Example] = []
    for place, file in enumerate(files):
        rows = [row for row in read_examples(file) if row.check != "none"]
        wanted = num_prompts // len(files) + (place < num_prompts % len(files))
        chosen += random.Random(f"preferences/{seed}/{file.stem}").sample(rows, min(wanted, len(rows)))
    return chosen


def answer_pairs(examples: Iterable[Example], answers: Mapping[str, Sequence[Response]], *, is_right: IsRight) -> Iterator[Pair]:
    """Yield pairs of a right and a wrong answer to the same prompt.

    Args:
        examples: Prompts with what a right answer holds.
        answers: Example id → answers of any sources; an empty or cut one makes no pair.
        is_right: The check.

    Yields:
        At most four pairs a prompt.
    """
    for example in examples:
        finished = dict.fromkeys(a.text for a in answers.get(example.id, ()) if a.finish == "eos" and a.text.strip())
        judged = [(text, is_right(example, text)) for text in finished]
        right = [text for text, verdict in judged if verdict is True]
        wrong = [text for text, verdict in judged if verdict is False]
        for better, worse in islice(_crossed(right, wrong), _MOST):
            yield Pair(example.family, example.messages, better, worse)


def _crossed(right: Sequence[str], wrong: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every combination, those of another partner each first."""
    pairs = list(product(range(len(right)), range(len(wrong))))
    pairs.sort(key=lambda pair: abs(pair[0] - pair[1]))
    return ((right[i], wrong[j]) for i, j in pairs)
