"""First weights of hybrid scoring: fitted to training turns before the encoder is trained, and not worse than word matching."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.retrieval.embedding import embed_contexts, embed_entities
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import LEAST_DENSE
from models.dialogue.retrieval.lexical import FEATURES, LexicalIndex, lexical_features
from models.dialogue.train.warm_start.examples import WarmExample

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
Judge = Callable[[WarmExample, Rows], tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
# Turns that are looked at: enough for six weights.
_TURNS = 512
# Of a larger knowledge base, the entities of a turn are the best by each rule of word matching, and random ones.
_WHOLE, _BEST, _RANDOM = 256, 48, 48
_PENALTY = 1e-3  # of the squared weights, in nats: keeps those finite that separate perfectly
_CUTOFFS = (1, 7)
# Word matching as it is used untrained: names and values found, or BM25.
RULES = {"frequency": ("name", "value"), "bm25": ("bm25",)}


def initialise_weights(
    retriever: Retriever,
    examples: Sequence[WarmExample],
    contexts: Callable[[WarmExample], Sequence[str]],
    kb: KnowledgeBase,
    *,
    lexical: LexicalIndex,
    judge: Judge,
) -> None:
    """Set the weights of the retriever's score to those under which the positives of a sample of turns are likeliest.

    The likelihood is that of the warm start, softmax(s/τ) over the positive and what is wrong. Where a rule of word matching puts
    more positives first, or among the best seven, the weights are those of the rule.

    Args:
        retriever: Its scorer is changed; the encoder is not.
        examples: Training turns with positives, at least one.
        contexts: Utterances of an example.
        kb: The knowledge base.
        lexical: Its inverted lists.
        judge: Returns for rows which explain an example as well as its positive, and which are not wrong (`WarmBatches.judge`).
    """
    scorer = retriever.scorer
    assert scorer is not None
    chosen = [examples[int(i)] for i in np.unique(np.linspace(0, len(examples) - 1, _TURNS).round())]
    said = [contexts(example) for example in chosen]
    pools = _pools(chosen, said, lexical, num=len(kb))
    right, wrong = _judged(chosen, pools, judge)
    temperature = float(scorer.unit)
    cosines = _cosines(retriever, said, pools, kb) / temperature
    table = np.concatenate([cosines[..., None], lexical_features(lexical, said, pools)], axis=2).astype(np.float64)
    inputs, pool = torch.from_numpy(table), torch.from_numpy(pools >= 0)
    best = _fitted(inputs, right[0], wrong)
    hits = _hits(inputs @ best, right[1], pool)
    for name, features in RULES.items():
        rule = torch.tensor([LEAST_DENSE, *(float(f in features) for f in FEATURES)], dtype=torch.float64)
        by_rule = _hits(inputs @ rule, right[1], pool)
        if any(ours < theirs for ours, theirs in zip(hits, by_rule, strict=True)) and sum(by_rule) >= sum(hits):
            logger.info("The score starts as the rule `%s`, which a fit to %d turns does not reach.", name, len(chosen))
            best, hits = _scaled(inputs, rule, right[0], wrong), by_rule
    with torch.no_grad():
        scorer.dense.fill_(float(best[0]))
        scorer.lexical.copy_(best[1:].float())


def _pools(chosen: Sequence[WarmExample], said: Sequence[Sequence[str]], lexical: LexicalIndex, *, num: int) -> Rows:
    """Return the rows that compete in each turn, int64[S, C], padded with −1."""
    drawn = np.random.default_rng(0).permutation(num)[:_RANDOM]
    pools = []
    for example, context in zip(chosen, said, strict=True):
        if example.session:
            rows = np.unique(example.session)
        elif num <= _WHOLE:
            rows = np.arange(num)
        else:
            query = lexical.query(context)
            weights = [np.array([f in features for f in FEATURES], dtype=np.float32) for features in RULES.values()]
            rows = np.unique(
                np.concatenate([drawn, [example.positive], *(lexical.best(query, w, _BEST)[:_BEST] for w in weights)])
            )
        pools.append(rows.astype(np.int64))
    table = np.full((len(pools), max(map(len, pools))), -1, dtype=np.int64)
    for line, rows in zip(table, pools, strict=True):
        line[: len(rows)] = rows
    return table


def _judged(chosen: Sequence[WarmExample], pools: Rows, judge: Judge) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return bool[S, C]: the positive, what explains the turn as well as it, and what is wrong."""
    positive = pools == np.array([example.positive for example in chosen])[:, None]
    explains, wrong = np.zeros_like(positive), np.zeros_like(positive)
    for s, (example, rows) in enumerate(zip(chosen, pools, strict=True)):
        real = rows >= 0
        explains[s, real], not_wrong = judge(example, rows[real])
        wrong[s, real] = ~not_wrong
    explains |= positive
    return (torch.from_numpy(positive), torch.from_numpy(explains)), torch.from_numpy(wrong & ~positive)


def _cosines(retriever: Retriever, said: Sequence[Sequence[str]], pools: Rows, kb: KnowledgeBase) -> npt.NDArray[np.float32]:
    distinct, place = np.unique(np.maximum(pools, 0), return_inverse=True)
    e_reps = embed_entities(retriever, kb, rows=distinct.tolist())
    q_reps = embed_contexts(retriever, said)
    place = place.reshape(pools.shape)
    return np.stack([e_reps[line] @ q for line, q in zip(place, q_reps, strict=True)])


def _fitted(inputs: Tensor, positive: Tensor, wrong: Tensor) -> Tensor:
    """Return the likeliest weights (d, v), float64[1 + F]; d is at least `LEAST_DENSE`."""
    weights = torch.zeros(inputs.shape[2], dtype=torch.float64, requires_grad=True)
    _maximise(weights, lambda: inputs @ weights, positive, wrong)
    if weights[0] >= LEAST_DENSE:
        return weights.detach()
    rest = torch.zeros(inputs.shape[2] - 1, dtype=torch.float64, requires_grad=True)
    _maximise(rest, lambda: LEAST_DENSE * inputs[..., 0] + inputs[..., 1:] @ rest, positive, wrong)
    return torch.cat([torch.tensor([LEAST_DENSE], dtype=torch.float64), rest.detach()])


def _scaled(inputs: Tensor, rule: Tensor, positive: Tensor, wrong: Tensor) -> Tensor:
    """Return a rule times the likeliest factor, which changes no order."""
    log_factor = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    scores = inputs @ rule
    _maximise(log_factor, lambda: scores * log_factor.exp(), positive, wrong)
    return rule * log_factor.detach().exp()


def _maximise(weights: Tensor, scores: Callable[[], Tensor], positive: Tensor, wrong: Tensor) -> None:
    """Maximise the likelihood of the positives over `weights` in place; turns without a positive or a competitor are left out."""
    counted = positive.any(dim=1) & wrong.any(dim=1)
    if not counted.any():
        return
    optimiser = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        found = scores()[counted]
        own = found.masked_fill(~positive[counted], -torch.inf).logsumexp(dim=1)
        every = found.masked_fill(~(positive | wrong)[counted], -torch.inf).logsumexp(dim=1)
        loss = (every - own).mean() + _PENALTY * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)


def _hits(scores: Tensor, right: Tensor, pool: Tensor) -> list[float]:
    """Return the share of turns with something right among the k best, for each k of `_CUTOFFS`."""
    order = scores.masked_fill(~pool, -torch.inf).argsort(dim=1, descending=True, stable=True)
    found = right.gather(1, order)
    return [float(found[:, :k].any(dim=1).double().mean()) for k in _CUTOFFS]
