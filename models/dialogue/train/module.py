"""Retriever and generator in one module whose forward pass is the loss of a micro-batch (eq. 7 and 11 of MK-TOD)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.dialogue.generators.trainable import AnyGenerator, EncodedTurns
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.train.batches import DialogueBatch
from models.dialogue.train.entity_choice import Choice, EntityChooser
from models.dialogue.train.objectives import (
    TARGETS,
    contrastive_margins,
    entity_log_probs,
    response_logprobs,
    retriever_losses,
)
from models.dialogue.train.schedule import StepMode
from models.params.dialogue import JointParams

# Components of a step's report: sums over turns, but for `nll`, which is one over response tokens.
COMPONENTS = ("nll", "objective", "ctr", "q_max", "score_gap", "agreement_top1")


class Scales(NamedTuple):
    """What sums are multiplied by: one over the response tokens, and one over the turns, of the whole optimiser step."""

    per_token: float
    per_turn: float


class DialogueOutput(NamedTuple):
    """The losses of one micro-batch.

    Attributes:
        loss: Scalar, to be differentiated.
        sums: float32[6], the sums named by `COMPONENTS`, detached.
        by_turn: Unscaled loss of each turn, float32[B], detached: names the turn of a loss that is not finite.
    """

    loss: Tensor
    sums: Tensor
    by_turn: Tensor


class DialogueModule(nn.Module):
    """Encodes contexts, searches the index, re-encodes the retrieved entities with gradient, and lets the generator judge them.

    All of it happens in `forward`, so that DDP sees one module from inputs to loss. The index is stale between refreshes: it
    decides which entities are retrieved and their meta knowledge, while the scores in the loss are fresh.

    Attributes:
        retriever: Scores entities.
        generator: Writes responses.
        log_temperature: log τ of q = softmax(s/τ); trained if `learn_temperature`.
        index: Gives the present index.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: AnyGenerator,
        *,
        cfg: JointParams,
        contrastive: bool,
        chooser: EntityChooser,
        index: Callable[[], SearchIndex],
        entity_ids: Sequence[list[int]],
        contexts: Callable[[int], Sequence[str]],
        trains_retriever: bool,
        positives: Sequence[int | None] = (),
    ) -> None:
        """Wrap both models.

        Args:
            retriever: Frozen unless `trains_retriever`.
            generator: Always trained.
            cfg: Weights and objective.
            contrastive: Whether eq. 10 is part of the loss.
            chooser: Searches.
            index: Gives the present index.
            entity_ids: Token ids of every KB row for the retriever.
            contexts: Utterances of a turn by its index.
            trains_retriever: Whether any step trains the retriever.
            positives: KB row by turn of its pseudo positive, None = none; read only where `cfg` asks for them.
        """
        super().__init__()
        self.retriever, self.generator = retriever, generator
        trained = trains_retriever and cfg.learn_temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(cfg.score_temperature)), requires_grad=trained)
        retriever.requires_grad_(trains_retriever)
        self.index = index
        self._cfg, self._chooser = cfg, chooser
        self._entity_ids, self._contexts, self._positives = entity_ids, contexts, positives
        self._contrasts = contrastive and cfg.gamma > 0
        # Only `mml` has a gradient for the generator; the others read its likelihoods.
        self._objective_trains_generator = cfg.objective == "mml" and not cfg.stop_generator

    @property
    def temperature(self) -> Tensor:
        """τ, scalar."""
        return self.log_temperature.exp()

    def forward(self, batch: DialogueBatch, *, mode: StepMode, scales: Scales) -> DialogueOutput:
        """Return α · NLL + β · objective (+ γ · L_CTR) of a micro-batch.

        Args:
            batch: B turns.
            mode: What the step trains.
            scales: The NLL is a mean over response tokens, the others are means over turns, each over the whole step.
        """
        # 1. The context is encoded [B, D] and W entities are chosen by the index, which may be stale.
        self.retriever.train(self.training and mode.retriever)
        with torch.set_grad_enabled(mode.retriever and torch.is_grad_enabled()):
            q_reps = self.retriever.encode_contexts(batch.query_ids, batch.query_mask)
        choice = self._choose(q_reps, batch, mode=mode)
        # 2. The generator reads all of them at once and tells the response, T tokens.
        device = batch.response_ids.device
        encoded = self.generator.encode(batch.contexts, choice.passages, device=device)
        nll = -self.generator.response_logprobs(encoded, batch.response_ids, batch.response_mask).sum(dim=1)  # [B]
        loss, by_turn = self._cfg.alpha * scales.per_token * nll.sum(), self._cfg.alpha * nll.detach()
        # 3. The chosen entities are scored again [B, W], with gradient where the retriever trains.
        scores = self._scores(q_reps, choice, fresh=mode.retriever)
        report = {"nll": nll.detach().sum()} | _score_report(scores, encoded.entity_mask, self.temperature)
        # 4. The response given each entity alone says what the scores should have been.
        if mode.joint and self._judges(mode):
            losses, judged = self._judge(batch, encoded, choice, scores, mode=mode)
            loss = loss + scales.per_turn * losses.sum()
            by_turn = by_turn + losses.detach()
            report |= judged
        zero = loss.new_zeros(())
        sums = torch.stack([report.get(name, zero).detach().float() for name in COMPONENTS])
        return DialogueOutput(loss, sums, by_turn)

    def _judges(self, mode: StepMode) -> bool:
        """Whether a step needs likelihoods of single entities."""
        return self._contrasts or self._has_objective(mode)

    def _has_objective(self, mode: StepMode) -> bool:
        return self._cfg.beta > 0 and (mode.retriever or self._objective_trains_generator)

    def _choose(self, q_reps: Tensor, batch: DialogueBatch, *, mode: StepMode) -> Choice:
        return self._chooser.choose(
            self.index(),
            q_reps.detach().float().cpu().numpy(),
            contexts=[self._contexts(turn) for turn in batch.turns],
            within=batch.within,
            seeds=[(batch.step, place) for place in batch.places],
            positives=self._positives_of(batch) if self._cfg.generator_entities == "with_positive" and not mode.joint else (),
        )

    def _positives_of(self, batch: DialogueBatch) -> list[int | None]:
        return [self._positives[turn] for turn in batch.turns]

    def _scores(self, q_reps: Tensor, choice: Choice, *, fresh: bool) -> Tensor:
        """Return s, float32[B, W]: with the gradient of the present encoder, or from the index; 0 where there is no entity."""
        if not fresh:
            return torch.from_numpy(choice.scores).to(q_reps.device)
        distinct, place = np.unique(choice.rows, return_inverse=True)
        # Each entity is encoded once, however many turns of the micro-batch have it. Row −1 stands first, if at all.
        known = [self._entity_ids[int(row)] for row in distinct if row >= 0]
        missing = len(distinct) - len(known)
        if not known:
            return torch.zeros(choice.rows.shape, device=q_reps.device)
        e_reps = self.retriever.encode_entities(*self.retriever.pad(known, q_reps.device))  # [distinct, D]
        places = torch.from_numpy(np.maximum(place.reshape(choice.rows.shape) - missing, 0)).to(q_reps.device)
        scores = (q_reps.float()[:, None, :] * e_reps.float()[places]).sum(dim=2)  # [B, 1, D] · [B, W, D]
        if self.retriever.scorer is not None and choice.features is not None:
            scores = self.retriever.scorer(scores, torch.from_numpy(choice.features).to(q_reps.device))
        return scores.masked_fill(torch.from_numpy(choice.rows < 0).to(q_reps.device), 0.0)

    def _judge(
        self, batch: DialogueBatch, encoded: EncodedTurns, choice: Choice, scores: Tensor, *, mode: StepMode
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return β · objective + γ · L_CTR of each turn, and sums for the report."""
        cfg, mask = self._cfg, encoded.entity_mask
        response = batch.response_ids, batch.response_mask
        trains = self._contrasts or self._objective_trains_generator
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            single = self.generator.single_logprobs(encoded, *response)  # [B, W, T]
        likelihoods = response_logprobs(single, batch.response_mask, mask, per_token=False)  # [B, W]
        agree = mask.any(1) & (_best(scores, mask) == _best(likelihoods, mask))
        losses, report = torch.zeros_like(scores[:, 0]), {"agreement_top1": agree.sum()}
        if self._has_objective(mode):
            objective = self._objective(batch, encoded, scores, single)
            if cfg.objective_turns == "with_positive":
                counted = torch.tensor([row is not None for row in self._positives_of(batch)], device=objective.device)
                objective = objective * counted
            losses, report["objective"] = losses + cfg.beta * objective, objective.sum()
        if self._contrasts:
            ctr = self._contrast(batch, single, mask & ~torch.from_numpy(choice.negative).to(mask.device))
            losses, report["ctr"] = losses + cfg.gamma * ctr, ctr.sum()
        return losses, report

    def _objective(self, batch: DialogueBatch, encoded: EncodedTurns, scores: Tensor, single: Tensor) -> Tensor:
        cfg, mask = self._cfg, encoded.entity_mask
        response = batch.response_ids, batch.response_mask
        utility = TARGETS[cfg.objective].utility if cfg.objective in TARGETS else None
        without, attention = None, None
        with torch.no_grad():
            if utility == "leave_one_out":
                left_out = self.generator.leave_one_out_logprobs(encoded, *response)
                without = response_logprobs(left_out, batch.response_mask, mask, per_token=True)
            elif utility == "attention":
                attention = self.generator.passage_attention(encoded, *response)
        return retriever_losses(
            cfg,
            scores=scores,
            token_logprobs=single,
            token_mask=batch.response_mask,
            entity_mask=mask,
            temperature=self.temperature,
            leave_one_out=without,
            attention=attention,
        )

    def _contrast(self, batch: DialogueBatch, single: Tensor, mask: Tensor) -> Tensor:
        device = batch.response_ids.device
        bare = self.generator.context_logprobs(batch.contexts, batch.response_ids, batch.response_mask, device=device)
        lengths = batch.response_mask.sum(dim=1).clamp(min=1)
        given_one = response_logprobs(single, batch.response_mask, mask, per_token=True)
        return contrastive_margins(
            given_one, bare.sum(dim=1) / lengths, margin=self._cfg.margin, top=self._cfg.contrastive_top, mask=mask
        )


def _best(values: Tensor, mask: Tensor) -> Tensor:
    return values.detach().masked_fill(~mask, -torch.inf).argmax(dim=1)


@torch.no_grad()
def _score_report(scores: Tensor, mask: Tensor, temperature: Tensor) -> dict[str, Tensor]:
    """Return sums over turns of the largest q, and of how far the best score lies above the mean of the others."""
    some = mask.any(dim=1)
    q = entity_log_probs(scores, mask, temperature=temperature).exp().masked_fill(~mask, 0.0)
    best = scores.masked_fill(~mask, -torch.inf).max(dim=1).values
    others = (mask.sum(dim=1) - 1).clamp(min=1)
    mean = (scores.masked_fill(~mask, 0.0).sum(dim=1) - best) / others
    gap = torch.where(mask.sum(dim=1) >= 2, best - mean, torch.zeros_like(best))
    return {"q_max": q.max(dim=1).values[some].sum(), "score_gap": gap.sum()}
