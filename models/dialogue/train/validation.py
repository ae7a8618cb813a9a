"""Validation during joint training: recall, likelihood, agreement of retriever and generator, greedy responses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import Turn
from models.dialogue.data.value_finder import ValueFinder, matchable
from models.dialogue.generators.base import DialogueItem, RetrievedEntity
from models.dialogue.generators.trainable import AnyGenerator, pad_ids
from models.dialogue.generators.trained_responder import TrainedResponder
from models.dialogue.retrieval.embedding import embed_contexts
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.dialogue.retrieval.ranking import Hits
from models.dialogue.train.entity_choice import first
from models.dialogue.train.objectives import entity_log_probs, response_logprobs
from models.dialogue.train.recall_rule import RecallRule


class ValueF1:
    """Micro F1 over the distinct values found, as whole words, in response and reference; the longest values first.

    It chooses between models of one training. The published Entity F1, with its substrings and special rules, is a metric of the
    evaluation.
    """

    def __init__(self, values: Iterable[str]) -> None:
        """Look for these values, in normalised form."""
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


def rank_agreement(scores: Tensor, likelihoods: Tensor, mask: Tensor) -> dict[str, float]:
    """Compare two orders of the same entities, turn by turn.

    Args:
        scores: What the retriever gives, [B, K].
        likelihoods: What the generator gives, log p(r|c, e_i), [B, K].
        mask: bool[B, K], True at entities; turns with fewer than two of them are left out.

    Returns:
        `tau`: Kendall's τ-a, the share of concordant minus that of discordant pairs (a pair tied on either side is neither);
        `top1`: share of turns in which the best entity is the same (ties by place); `inversions`: discordant pairs of a turn.
        All are means over turns, of which there are `num`; 0 where there is none.
    """
    valid = mask.sum(dim=1) >= 2
    num = int(valid.sum())
    if not num:
        return {"tau": 0.0, "top1": 0.0, "inversions": 0.0, "num": 0.0}
    scores, likelihoods, mask = scores[valid].double(), likelihoods[valid].double(), mask[valid]
    pairs = torch.triu(torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device), diagonal=1)
    pairs = pairs & mask[:, :, None] & mask[:, None, :]
    signs = _differences(scores, mask).sign() * _differences(likelihoods, mask).sign()
    signs = signs.masked_fill(~pairs, 0.0)
    tau = signs.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
    best = [values.masked_fill(~mask, -torch.inf).argmax(dim=1) for values in (scores, likelihoods)]
    return {
        "tau": float(tau.mean()),
        "top1": float((best[0] == best[1]).double().mean()),
        "inversions": float((signs < 0).sum(dim=(1, 2)).double().mean()),
        "num": float(num),
    }


def _differences(values: Tensor, mask: Tensor) -> Tensor:
    """Return v_i − v_j, [B, K, K]; masked places count as 0, so that no infinities are subtracted."""
    values = values.masked_fill(~mask, 0.0)
    return values[:, :, None] - values[:, None, :]


RECALL_AT = (1, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """What an evaluation found.

    Attributes:
        metrics: By name (`valid/…`); those that are undefined (without gold values, say) are absent.
        hits: Retrieved entities of every turn.
        texts: Responses to the turns that were answered.
    """

    metrics: dict[str, float]
    hits: Hits
    texts: tuple[str, ...]


class DialogueValidation:
    """Scores a retriever and a generator on the validation split; API turns are left out.

    What the models are given is made from contexts, sessions and retrieved entities alone (`DialogueItem`). The response is read
    only to score.
    """

    def __init__(
        self,
        turns: Sequence[Turn],
        kb: KnowledgeBase,
        *,
        meta: MetaKnowledge,
        value_index: ValueIndex,
        values: Sequence[str],
        num_retrieved: int,
        limit: int | None,
        condensed: bool,
        device: str,
        batch_size: int = 16,
    ) -> None:
        """Select the turns.

        Args:
            turns: The validation split.
            kb: The knowledge base.
            meta: How meta knowledge is written.
            value_index: For the co-occurrence test.
            values: What the F1 looks for.
            num_retrieved: K.
            limit: Number of turns that are answered, spread evenly over the split; None = all. Retrieval is scored on all turns.
            condensed: Whether a turn retrieves from its own session.
            device: Where the models are.
            batch_size: Turns together.
        """
        self.turns = [turn for turn in turns if turn.kind == "response"]
        self._kb, self._meta, self._values_of = kb, meta, value_index
        self._k, self._device, self._batch_size = num_retrieved, device, batch_size
        self._within = [kb.rows(dict.fromkeys(turn.kb)) for turn in self.turns] if condensed else None
        count = len(self.turns) if limit is None else min(limit, len(self.turns))
        self.answered = np.unique(np.linspace(0, len(self.turns) - 1, count).round().astype(int)).tolist() if count else []
        self._rule, self._f1 = RecallRule(kb), ValueF1(values)

    # Not `inference_mode`: what a `to(device)` inside it moves could not be trained afterwards.
    @torch.no_grad()
    def run(self, retriever: Retriever, generator: AnyGenerator, index: SearchIndex, *, temperature: float) -> ValidationResult:
        """Score both models; they are left in evaluation mode.

        Args:
            retriever: Encodes the contexts.
            generator: Answers.
            index: Made by this retriever.
            temperature: τ, for `valid/q_max`.
        """
        retriever.eval()
        generator.eval()
        hits = self.retrieve(retriever, index)
        metrics = self._recall(hits)
        items = self._items(first(hits, self._k))
        responder = TrainedResponder(generator, self._meta, device=self._device, batch_size=self._batch_size)
        texts = tuple(answer.text for answer in responder.respond(items))
        references = [self.turns[place].response for place in self.answered]
        value_f1 = self._f1.score(texts, references)
        if value_f1 is not None:
            metrics["valid/value_f1"] = value_f1
        if items:
            metrics |= self._likelihoods(generator, items, references, temperature=temperature)
        return ValidationResult(metrics, hits, texts)

    def retrieve(self, retriever: Retriever, index: SearchIndex) -> Hits:
        """Return the best entities of every turn: K of them, and at least the largest k of recall@k."""
        contexts = [turn.context for turn in self.turns]
        q_reps = embed_contexts(retriever, contexts, device=self._device)
        return index.search(q_reps, max(self._k, *RECALL_AT), within=self._within, contexts=contexts)

    def _recall(self, hits: Hits) -> dict[str, float]:
        ranks: dict[str, list[int | None]] = {"value": [], "id": []}
        for b, turn in enumerate(self.turns):
            rows = [row for row, _ in hits.of(b)]
            if turn.gold_values:
                ranks["value"].append(self._rule.value_rank(turn, rows))
            if turn.gold_entities:
                ranks["id"].append(self._rule.id_rank(turn, rows))
        return {
            f"valid/recall@{k}_{by}": sum(rank is not None and rank <= k for rank in found) / len(found)
            for by, found in ranks.items()
            for k in sorted({*RECALL_AT, self._k})
            if found
        }

    def _items(self, hits: Hits) -> list[DialogueItem]:
        """Return what the generator is given for the answered turns."""
        chosen = Hits(hits.rows[self.answered], hits.scores[self.answered], hits.counts[self.answered])
        turns = [self.turns[place] for place in self.answered]
        metas = self._meta.annotate(chosen, self._kb, [turn.context for turn in turns], self._values_of)
        return [
            DialogueItem.of(
                turn,
                (RetrievedEntity(row, self._kb[row], m) for (row, _), m in zip(chosen.of(b), metas[b], strict=True)),
            )
            for b, turn in enumerate(turns)
        ]

    def _likelihoods(
        self, generator: AnyGenerator, items: Sequence[DialogueItem], references: Sequence[str], *, temperature: float
    ) -> dict[str, float]:
        """Return NLL per token given all entities, and how retriever and generator agree on single ones."""
        nll = tokens = 0.0
        agreement: dict[str, float] = {}
        q_max: list[float] = []
        taught: list[bool] = []
        for start in range(0, len(items), self._batch_size):
            part = slice(start, start + self._batch_size)
            fused, single, mask, entities = self._force(generator, items[part], references[part])
            nll, tokens = nll - float(fused.sum()), tokens + int(mask.sum())
            scores = _scores(items[part], width=entities.shape[1])
            likelihoods = response_logprobs(single, mask, entities, per_token=False)
            found = rank_agreement(scores, likelihoods, entities)
            taught += self._taught(items[part], self.answered[part], likelihoods)
            for name in ("tau", "top1", "inversions"):
                agreement[name] = agreement.get(name, 0.0) + found[name] * found["num"]
            agreement["num"] = agreement.get("num", 0.0) + found["num"]
            q = entity_log_probs(scores, entities, temperature=temperature).exp().masked_fill(~entities, 0.0)
            q_max += q.max(dim=1).values[entities.any(dim=1)].tolist()
        metrics = {"valid/nll": nll / max(tokens, 1)}
        if taught:
            metrics["valid/teacher_recall@1_value"] = sum(taught) / len(taught)
        if q_max:
            metrics["valid/q_max"] = sum(q_max) / len(q_max)
        if agreement["num"]:
            metrics |= {f"valid/agreement_{n}": agreement[n] / agreement["num"] for n in ("tau", "top1", "inversions")}
        return metrics

    def _taught(self, items: Sequence[DialogueItem], places: Sequence[int], likelihoods: Tensor) -> list[bool]:
        """Return, for turns with gold values, whether the entity that makes the reference likeliest is right (MML's teacher)."""
        right = []
        for item, place, of_turn in zip(items, places, likelihoods.tolist(), strict=True):
            if self.turns[place].gold_values and item.entities:
                best = max(range(len(item.entities)), key=of_turn.__getitem__)
                rank = self._rule.value_rank(self.turns[place], [item.entities[best].row])
                right.append(rank is not None and rank <= 1)
        return right

    def _force(
        self, generator: AnyGenerator, items: Sequence[DialogueItem], references: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return log-probabilities given all entities [B, T] and given each [B, K, T], token mask and entity mask, on the CPU."""
        builder = generator.builder
        ids, mask = pad_ids(list(builder.responses(references)), pad_id=generator.pad_id, device=self._device)
        encoded = generator.encode(
            list(builder.contexts([(item.context, item.dynamic) for item in items])),
            [[builder.entity_ids(e.entity, self._meta.text(e.meta)) for e in item.entities] for item in items],
            device=self._device,
        )
        fused = generator.response_logprobs(encoded, ids, mask)
        single = generator.single_logprobs(encoded, ids, mask)
        return fused.cpu(), single.cpu(), mask.cpu(), encoded.entity_mask.cpu()


def _scores(items: Sequence[DialogueItem], *, width: int) -> Tensor:
    scores = torch.zeros(len(items), width)
    for b, item in enumerate(items):
        for k, entity in enumerate(item.entities):
            scores[b, k] = entity.meta.score
    return scores
