"""The in-batch contrastive loss of the warm start (MK-TOD, App. D), and recall on the validation split."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Turn
from models.dialogue.retrieval.embedding import embed_contexts, embed_entities
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.kb_index import with_lexical
from models.dialogue.retrieval.lexical import LexicalIndex
from models.dialogue.train.recall_rule import RecallRule
from models.params.index import IndexParams

CUTOFFS = (1, 3, 5, 7)
BY_VALUE, BY_ID = "retriever/recall@{}", "retriever/recall_id@{}"


@dataclass(frozen=True, slots=True)
class RecallScores:
    """Recall on the turns that can be scored.

    Attributes:
        by_value: k → share of turns whose gold values all stand in the k best entities (the paper's rule).
        by_id: k → share of turns whose named entities are all among the k best.
        num_by_value: Turns with gold values.
        num_by_id: Turns with named entities.
    """

    by_value: Mapping[int, float]
    by_id: Mapping[int, float]
    num_by_value: int
    num_by_id: int

    @property
    def choice(self) -> float:
        """What the best encoder is chosen by: mean over k = 1, 3, 5, 7 of recall by value (by id where no turn has values).

        One k alone would not do: at 7 most encoders differ by a handful of turns, and 1 is not what the generator is given.
        """
        scores = self.by_value if self.num_by_value else self.by_id
        return float(np.mean(list(scores.values()))) if self.num_by_value or self.num_by_id else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the recalls by metric name; those without a turn are left out."""
        values = {BY_VALUE.format(k): v for k, v in self.by_value.items()} if self.num_by_value else {}
        ids = {BY_ID.format(k): v for k, v in self.by_id.items()} if self.num_by_id else {}
        return values | ids


class WarmValidation:
    """Scores an encoder, and ranks entities for contexts with it."""

    def __init__(
        self, turns: Iterable[Turn], kb: KnowledgeBase, *, device: str, condensed: bool = False, batch_size: int = 64
    ) -> None:
        """Keep the turns that can be scored; `condensed`: each searches its own session, and finds nothing in an empty one."""
        self._turns = [turn for turn in turns if turn.gold_values or turn.gold_entities]
        self._kb, self._rule, self._device, self._batch_size = kb, RecallRule(kb), device, batch_size
        self._sessions = [kb.rows(dict.fromkeys(turn.kb)) for turn in self._turns] if condensed else None
        # The entities of other dialogues need not be embedded.
        self._rows = None if self._sessions is None else sorted({row for rows in self._sessions for row in rows})

    @property
    def num_by_value(self) -> int:
        """Turns with gold values."""
        return sum(bool(turn.gold_values) for turn in self._turns)

    @property
    def num_by_id(self) -> int:
        """Turns with named entities."""
        return sum(bool(turn.gold_entities) for turn in self._turns)

    def score(self, retriever: Retriever, lexical: LexicalIndex | None = None) -> tuple[RecallScores, SearchIndex]:
        """Return the recalls and the exact index they were made with (of the retriever as it is now).

        Args:
            retriever: The retriever.
            lexical: The inverted lists of the knowledge base, where it scores by them.
        """
        vectors = exact_index(retriever, self._kb, rows=self._rows, device=self._device, batch_size=self._batch_size)
        index, turns = with_lexical(vectors, retriever, lexical), self._turns
        if not turns:
            return recall_scores(turns, [], self._rule), index
        contexts = [turn.context for turn in turns]
        q_reps = embed_contexts(retriever, contexts, batch_size=self._batch_size, device=self._device)
        hits = index.search(q_reps, max(CUTOFFS), within=self._sessions, contexts=contexts)
        return recall_scores(turns, [[row for row, _ in hits.of(b)] for b in range(len(turns))], self._rule), index


def exact_index(
    retriever: Retriever, kb: KnowledgeBase, *, rows: Sequence[int] | None, device: str, batch_size: int
) -> EntityIndex:
    """Embed entities (None = all) and index them; the index never leaves the training, so it carries no fingerprint."""
    e_reps = embed_entities(retriever, kb, rows=rows, batch_size=batch_size, device=device)
    ids = np.arange(len(kb), dtype=np.int64) if rows is None else np.array(rows, dtype=np.int64)
    return EntityIndex.build(IndexParams(kind="flat"), e_reps, ids=ids, encoder_digest="", kb_digest=kb.digest)


def recall_scores(turns: Sequence[Turn], ranked: Sequence[Sequence[int]], rule: RecallRule) -> RecallScores:
    """Score the ranked rows of each turn (best first, at least the largest k, or all there are)."""
    values = [rule.value_rank(turn, rows) for turn, rows in zip(turns, ranked, strict=True) if turn.gold_values]
    ids = [rule.id_rank(turn, rows) for turn, rows in zip(turns, ranked, strict=True) if turn.gold_entities]
    return RecallScores(_shares(values), _shares(ids), len(values), len(ids))


def _shares(ranks: Sequence[int | None]) -> dict[int, float]:
    return {k: float(np.mean([rank is not None and rank <= k for rank in ranks])) if ranks else 0.0 for k in CUTOFFS}


def contrastive_loss(
    q_reps: Tensor,
    e_reps: Tensor,
    positives: Tensor,
    *,
    mask: Tensor | None = None,
    also: Tensor | None = None,
    log_q: Tensor | None = None,
    temperature: float,
) -> Tensor:
    """Return L_CL of each context: −log Σ_{j∈P} exp(cos(h_c, h_ej)/τ) / Σ_{j∈P∪N} exp(cos(h_c, h_ej)/τ).

    P is the positive alone (the published loss), or with the columns of `also` (any of them is right); N are the other columns
    that `mask` leaves.

    Negatives that are other turns' positives occur as often as their entity is spoken of; the optimum of the loss is then
    log p(e | c) − log p(e) and disfavours entities that are spoken of often. With `log_q` each logit is lowered by the log of how
    likely its entity is to be in the batch, and the optimum is log p(e | c) (the logQ correction of sampled softmax; Yi et al.,
    RecSys 2019).

    Args:
        q_reps: Contexts, unit vectors [B, D].
        e_reps: Entities, unit vectors [M, D]: the positives of the batch and further ones.
        positives: int64[B], the column of each context's positive.
        mask: bool[B, M], True = not a negative (the same entity, or one that explains the turn equally well). The positive's own
            column may be True.
        also: bool[B, M], True = as good as the positive.
        log_q: float32[M], log probability of each column to be in the batch; None = the published loss.
        temperature: τ.

    Returns:
        float32[B], nats; 0 where no other column is left to compare with.
    """
    scores = q_reps.float() @ e_reps.float().T
    return ranking_loss(scores, positives, mask=mask, also=also, log_q=log_q, temperature=temperature)


def ranking_loss(
    scores: Tensor,
    positives: Tensor,
    *,
    mask: Tensor | None = None,
    also: Tensor | None = None,
    log_q: Tensor | None = None,
    own: Tensor | None = None,
    temperature: float,
) -> Tensor:
    """Return `contrastive_loss` of scores [B, M], which need not be cosines.

    `own` are the scores of further negatives of each context alone, float32[B, L], −inf where it has fewer. Each is taken to be
    as likely in a batch as the positive.
    """
    scores = scores / temperature
    if log_q is not None:
        scores = scores - log_q
    positive = torch.zeros_like(scores, dtype=torch.bool).scatter(1, positives[:, None], True)
    right = positive if also is None else positive | also
    counted = right if mask is None else right | ~mask
    if mask is None:
        counted = torch.ones_like(right)
    top = scores.masked_fill(~right, -torch.inf).logsumexp(dim=1)
    compared = scores.masked_fill(~counted, -torch.inf)
    if own is not None:
        further = own / temperature
        compared = torch.cat([compared, further if log_q is None else further - log_q[positives][:, None]], dim=1)
    return compared.logsumexp(dim=1) - top
