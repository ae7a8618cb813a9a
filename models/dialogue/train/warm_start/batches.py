"""The batches of the warm start: a function of seed and step, so that a resumed run draws the same."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.train.warm_start.examples import WarmExample, WarmExamples
from models.params.retriever import WarmStartParams

Ints = npt.NDArray[np.int64]
# Steps whose turns are sorted by length together: saves padding.
_WINDOW = 8
_ORDER, _NEGATIVES, _DROPOUT = 1, 2, 3
# Hard negatives are looked for among so many more, as those that explain the turn are passed over.
HARD_MARGIN = 16


@dataclass(frozen=True, slots=True)
class WarmBatch:
    """What one step trains on; B turns, M entities.

    Attributes:
        examples: The turns.
        columns: KB rows of the entities, distinct, int64[M].
        positives: Column of each turn's positive, int64[B].
        explains: bool[B, M], True where an entity has all values of the response that the positive has.
        not_wrong: bool[B, M], True where an entity has just as many of them, or another value of the response: not a negative.
        log_q: float32[M], log probability of each entity to be in a batch, as positive or random negative.
    """

    examples: list[WarmExample]
    columns: Ints
    positives: Ints
    explains: npt.NDArray[np.bool_]
    not_wrong: npt.NDArray[np.bool_]
    log_q: npt.NDArray[np.float32]


class WarmBatches:
    """Draws turns and negatives."""

    def __init__(self, examples: WarmExamples, index: ValueIndex, cfg: WarmStartParams) -> None:
        """Draw from `examples`, deterministically by `cfg.seed` and step."""
        self._examples, self._index, self._cfg = examples, index, cfg
        # A window longer than an epoch would put copies of a turn side by side, into one batch.
        self._steps = max(1, min(_WINDOW, len(examples) // cfg.batch_size))
        self._window: tuple[int, Ints] = (-1, np.empty(0, dtype=np.int64))
        self._log_q = log_inclusion(examples.positives, len(index.kb), cfg)

    def turns_at(self, step: int) -> list[WarmExample]:
        """Return the turns of a step (counted from 0): epochs without replacement, turns of similar length together."""
        number, place = divmod(step, self._steps)
        if self._window[0] != number:
            self._window = (number, self._draw_window(number))
        return [self._examples[int(i)] for i in self._window[1][place]]

    def batch(self, step: int, turns: list[WarmExample], *, hard: Ints | None = None) -> WarmBatch:
        """Add the entities: positives, hard negatives, and random ones.

        Args:
            step: The step, counted from 0.
            turns: `turns_at(step)`.
            hard: The best rows of each turn by the present encoder, int64[B, k], −1 where there are fewer; not read for turns
                with a knowledge base of their own.
        """
        positives = np.array([turn.positive for turn in turns], dtype=np.int64)
        chosen = dict.fromkeys(positives.tolist())
        rng = np.random.default_rng([self._cfg.seed, _NEGATIVES, step])
        if self._cfg.hard_negatives:
            for i, turn in enumerate(turns):
                # A dialogue's own knowledge base is small: all that competes is in it, and all of it is hard.
                ranked = rng.permutation(turn.session) if turn.session else hard[i] if hard is not None else ()
                chosen |= dict.fromkeys(self._hard_negatives(turn, np.array([r for r in ranked if r >= 0], dtype=np.int64)))
        chosen |= dict.fromkeys(self._random_negatives(rng, turns, known=chosen))
        columns = np.fromiter(chosen, dtype=np.int64)
        place = {row: i for i, row in enumerate(chosen)}
        explains, not_wrong = (np.stack(part) for part in zip(*(self.judge(turn, columns) for turn in turns), strict=True))
        places = np.array([place[int(row)] for row in positives])
        return WarmBatch(turns, columns, places, explains, not_wrong, self._log_q[columns])

    def dropout_seed(self, step: int) -> int:
        """Return the seed of torch's generator at a step."""
        return int(np.random.SeedSequence([self._cfg.seed, _DROPOUT, step]).generate_state(1)[0])

    def _draw_window(self, number: int) -> Ints:
        size, steps, total = self._cfg.batch_size, self._steps, len(self._examples)
        places = np.arange(number * steps * size, (number + 1) * steps * size)
        epochs = np.unique(places // total)
        orders = {int(e): np.random.default_rng([self._cfg.seed, _ORDER, int(e)]).permutation(total) for e in epochs}
        flat = np.array([orders[int(p // total)][p % total] for p in places], dtype=np.int64)
        batches = flat[np.argsort(self._examples.lengths[flat], kind="stable")].reshape(steps, size)
        # Short and long batches take turns.
        rng = np.random.default_rng([self._cfg.seed, _ORDER, number, 1])
        return np.asarray(batches[rng.permutation(steps)])

    def _hard_negatives(self, turn: WarmExample, rows: Ints) -> list[int]:
        wrong = rows[~self.judge(turn, rows)[1]]
        return [int(row) for row in wrong[: self._cfg.hard_negatives]]

    def _random_negatives(self, rng: np.random.Generator, turns: list[WarmExample], *, known: dict[int, None]) -> list[int]:
        """Draw from the turns' own knowledge bases if they have any (nothing else competes there), else from all entities."""
        sessions = sorted({row for turn in turns for row in turn.session})
        if sessions:
            drawn = rng.permutation(np.array(sessions, dtype=np.int64))
        else:
            total = len(self._index.kb)
            drawn = rng.choice(total, size=min(total, self._cfg.negatives + len(known)), replace=False)
        return [int(row) for row in drawn if int(row) not in known][: self._cfg.negatives]

    def judge(self, turn: WarmExample, rows: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return `explains` and `not_wrong` of some rows.

        With P and N the values of the response that the positive and another entity have: the other explains the turn as well
        if P ⊆ N, and is wrong only if N ⊂ P. So neither of two entities that a response names is a negative, nor any that has one
        of the kinds of food it lists.
        """
        owned: list[npt.NDArray[np.bool_]] = []
        others = [np.zeros(len(rows), dtype=np.bool_)]
        for value in turn.said:
            has = self._index.hits(np.append(rows, turn.positive), np.array([value])) > 0
            (owned if has[-1] else others).append(has[:-1])
        explains = np.all(owned, axis=0) if owned else np.ones(len(rows), dtype=np.bool_)
        return explains, explains | np.any(others, axis=0)


def log_inclusion(positives: Ints, num_entities: int, cfg: WarmStartParams) -> npt.NDArray[np.float32]:
    """Return log q, float32[num_entities]: how likely an entity is in a batch, as a positive or a random negative.

    q = 1 − (1 − p)^B · (1 − r) with p its share of the turns, B turns in a batch and r = `negatives` / N. Hard negatives are left
    out: which they are changes with the encoder. An entity that can come in no other way counts as drawn by one turn.
    """
    share = np.bincount(positives, minlength=num_entities) / max(1, len(positives))
    at_random = min(1.0, cfg.negatives / num_entities) if num_entities else 0.0
    q = 1 - (1 - share) ** cfg.batch_size * (1 - at_random)
    floor = 1 / max(1, len(positives))
    return np.asarray(np.log(np.maximum(q, floor)), dtype=np.float32)
