"""The warm start of the retriever: in-batch contrastive learning on pseudo positives (MK-TOD, App. D).

A plain loop: the batch is a table of contexts × distinct entities, which the Hugging Face Trainer has no notion of, and one
process is enough for encoders of this size.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import KB, TurnFile, read_turns, splits_of
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.dialogue.retrieval.entity_text import context_text, entity_text
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.retrieval.kb_index import make_lexical
from models.dialogue.retrieval.lexical import lexical_features
from models.dialogue.train.warm_start.batches import HARD_MARGIN, WarmBatch, WarmBatches
from models.dialogue.train.warm_start.examples import WarmExample, warm_examples
from models.dialogue.train.warm_start.look_alikes import LookAlikes
from models.dialogue.train.warm_start.score_weights import initialise_weights
from models.dialogue.train.warm_start.state import WarmRecord, WarmState, load_state, make_optimiser, save_state
from models.dialogue.train.warm_start.validation import WarmValidation, ranking_loss
from models.errors import DataError, NumericsError, Problem
from models.files import file_digest
from models.lm.loading import pick_device
from models.memory import release_memory_after
from models.metrics_sink import MetricsSink
from models.params.dialogues import Setting
from models.params.retriever import RetrieverParams
from models.params.runtime import Runtime
from models.training.checkpoints import CheckpointFolder, Execution, place_folder
from models.training.guard import use_threads
from models.training.learning_rate import linear_factor

logger = logging.getLogger(__name__)

RETRIEVER = "retriever"
_LOG_EVERY = 5
_KEPT_CHECKPOINTS = 2  # the one before, should the newest turn out to be damaged


def warm_start(
    cfg: RetrieverParams,
    data: Path,
    *,
    setting: Setting = "large_scale",
    root: Path,
    runtime: Runtime,
    out: Path,
    resume_dir: Path,
    sink: MetricsSink,
) -> WarmRecord:
    """Train the retriever and keep the encoder with the best validation recall (`RecallScores.choice`).

    Args:
        cfg: The section `retriever`.
        data: Dialogue artifact: `kb.jsonl`, `train.jsonl`, `valid.jsonl`.
        setting: `large_scale`: entities compete in the whole knowledge base; `condensed`: in each dialogue's own rows, and a turn
            of a dialogue without rows is neither taught nor found.
        root: What a relative encoder folder starts at.
        runtime: Device and threads.
        out: Gets `retriever/` and, last, `record.json`.
        resume_dir: Keeps a checkpoint; a killed run goes on from there and ends with the same bits on the same CPU settings.
        sink: Receives `train/warm_loss` (nats a turn), `train/warm_lr`, `retriever/recall@k` and `retriever/recall_id@k`
            (validation split, shares), and the steps done.

    Returns:
        The record, also written to `out`.

    Raises:
        DataError: No training turn speaks of an entity, or a turn names unknown entities.
        NumericsError: A loss is not finite; names the turns.
        ParamsError: The encoder needs a revision, or the lengths do not fit it.
        SourceError: The encoder cannot be loaded.
    """
    digests = [file_digest(path) for path in (data / KB, *(splits_of(data)[s] for s in ("train", "valid")))]
    device = pick_device(runtime.device)
    folder = CheckpointFolder(resume_dir, fingerprint=_fingerprint(cfg, digests, setting), keep=_KEPT_CHECKPOINTS)
    threads = folder.execution(
        Execution(
            fingerprint=folder.fingerprint,
            threads=runtime.threads or torch.get_num_threads(),
            micro_batch_size=cfg.warm_start.batch_size,
            world_size=1,
            dtype=cfg.warm_start.dtype,
            device=torch.device(device).type,
        )
    ).threads
    with use_threads(threads), torch.random.fork_rng(devices=[]):
        return _WarmStart(cfg, data, setting=setting, root=root, device=device, folder=folder, sink=sink).run(out)


class _WarmStart:
    """One training in memory."""

    def __init__(
        self,
        cfg: RetrieverParams,
        data: Path,
        *,
        setting: Setting,
        root: Path,
        device: str,
        folder: CheckpointFolder,
        sink: MetricsSink,
    ) -> None:
        condensed = setting == "condensed"
        self._cfg, self._device, self._folder, self._sink = cfg.warm_start, device, folder, sink
        self._kb = KnowledgeBase.load(data / KB)
        train = splits_of(data)["train"]
        self._retriever = build_retriever(cfg, texts=_texts(cfg, self._kb, train), root=root).to(device)
        index = ValueIndex(self._kb)
        self._num_turns = sum(1 for _ in read_turns(train))
        self._examples = warm_examples(
            read_turns(train), self._kb, index=index, retriever=self._retriever, cfg=cfg.warm_start, condensed=condensed
        )
        if cfg.warm_start.steps and not len(self._examples):
            rule = "must have a turn whose response holds a value of an entity"
            raise DataError("The warm start has nothing to learn from", [Problem(str(train), rule, f"{self._num_turns} without")])
        self._batches = WarmBatches(self._examples, index, cfg.warm_start)
        self._look_alikes = LookAlikes(self._kb, cfg)
        self._train = TurnFile(train)
        self._lexical = make_lexical(self._retriever, self._kb)
        self._validation = WarmValidation(read_turns(splits_of(data)["valid"]), self._kb, device=device, condensed=condensed)
        self._optimiser = make_optimiser(self._retriever, cfg.warm_start)
        self._state = WarmState()
        self._best: Path | None = None
        self._index: SearchIndex | None = None
        self._warned = False

    def run(self, out: Path) -> WarmRecord:
        """Train to the end and fill `out`."""
        self._resume()
        total = self._cfg.steps
        for step in range(self._state.done, total):
            self._step(step)
            if (step + 1) % self._cfg.every_evaluation == 0 or step + 1 == total:
                self._evaluate()
        return self._finish(out)

    def _resume(self) -> None:
        self._folder.discard_torn()
        newest = self._folder.newest()
        if newest is None:
            if self._lexical is not None and len(self._examples):
                initialise_weights(
                    self._retriever,
                    self._examples,
                    lambda example: self._train[example.place].context,
                    self._kb,
                    lexical=self._lexical,
                    judge=self._batches.judge,
                )
            self._evaluate()
            return
        self._state, self._best = load_state(newest, self._retriever, self._optimiser)
        logger.info("Resuming the warm start after step %d.", self._state.done)
        # Hard negatives of the next steps are looked for with the encoder of the checkpoint, as they would have been.
        _, self._index = self._validation.score(self._retriever, self._lexical)

    def _step(self, step: int) -> None:
        cfg, retriever = self._cfg, self._retriever.train()
        torch.manual_seed(self._batches.dropout_seed(step))
        lr = cfg.lr * linear_factor(step, num_steps=cfg.steps, warmup=round(cfg.warmup_ratio * cfg.steps))
        for group in self._optimiser.param_groups:
            group["lr"] = lr * group["factor"]
        turns = self._batches.turns_at(step)
        with torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=cfg.dtype == "bfloat16"):
            q_reps = retriever.encode_contexts(*retriever.pad([turn.tokens for turn in turns]))
            batch = self._batches.batch(step, turns, hard=self._hard(q_reps, turns))
            e_reps = retriever.encode_entities(*retriever.pad(self._entity_tokens(batch.columns)))
            own = self._own_negatives(step, q_reps, turns)
        losses = self._losses(q_reps, e_reps, batch, own)
        self._check(losses, batch, step)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(retriever.parameters(), cfg.max_grad_norm)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        release_memory_after(torch.device(self._device).type)
        self._state.done = step + 1
        self._state.losses.append(float(losses.detach().mean()))
        self._report(lr)

    def _own_negatives(self, step: int, q_reps: Tensor, turns: list[WarmExample]) -> Tensor | None:
        """Return the cosines of each turn and its look-alikes, float32[B, `look_alikes`]; −inf where it has none."""
        retriever, most = self._retriever, self._cfg.look_alikes
        if not most:
            return None
        made = self._look_alikes.at(step, [turn.positive for turn in turns], self._contexts(turns))
        cosines = torch.full((len(turns), most), -torch.inf, device=q_reps.device)
        texts = [retriever.entity_text(entity) for mine in made for entity in mine]
        if not texts:
            return cosines
        reps = retriever.encode_entities(*retriever.pad(retriever.tokenise_entities(texts))).float()
        owner = torch.tensor([i for i, mine in enumerate(made) for _ in mine], device=q_reps.device)
        place = torch.tensor([j for mine in made for j in range(len(mine))], device=q_reps.device)
        return cosines.index_put((owner, place), (q_reps.float()[owner] * reps).sum(dim=1))

    def _losses(self, q_reps: Tensor, e_reps: Tensor, batch: WarmBatch, own: Tensor | None = None) -> Tensor:
        """Return the loss of each turn, float32[B]; with hybrid scoring that of the cosines and that of the scores.

        The cosines have a loss of their own, since turns that word matching explains would teach the encoder little; `own` are
        those of look-alikes, which are negatives of their turn alone.
        """
        cfg, scorer = self._cfg, self._retriever.scorer
        positives = torch.from_numpy(batch.positives).to(q_reps.device)
        explains = torch.from_numpy(batch.explains).to(q_reps.device)
        mask = torch.from_numpy(batch.not_wrong).to(q_reps.device) if cfg.mask_duplicates else None
        log_q = cfg.logq_correction * torch.from_numpy(batch.log_q).to(q_reps.device) if cfg.logq_correction else None
        cosines = q_reps.float() @ e_reps.float().T

        def loss_of(scores: Tensor, own: Tensor | None = None) -> Tensor:
            loss = ranking_loss(scores, positives, mask=mask, log_q=log_q, own=own, temperature=cfg.temperature)
            if not cfg.any_positive:
                return loss
            either = ranking_loss(scores, positives, also=explains, log_q=log_q, own=own, temperature=cfg.temperature)
            return (1 - cfg.any_positive) * loss + cfg.any_positive * either

        if scorer is None or self._lexical is None:
            return loss_of(cosines, own)
        rows = np.broadcast_to(batch.columns, (len(batch.examples), len(batch.columns)))
        features = lexical_features(self._lexical, self._contexts(batch.examples), rows)
        return loss_of(cosines, own) + loss_of(scorer(cosines, torch.from_numpy(features).to(q_reps.device)))

    def _contexts(self, turns: Sequence[WarmExample]) -> list[tuple[str, ...]]:
        return [self._train[turn.place].context for turn in turns]

    def _hard(self, q_reps: Tensor, turns: list[WarmExample]) -> npt.NDArray[np.int64] | None:
        """Return the best rows of each turn by the present contexts and the entities as of the last evaluation."""
        if not self._cfg.hard_negatives or self._index is None or all(turn.session for turn in turns):
            return None
        queries = q_reps.detach().float().cpu().numpy()
        k = self._cfg.hard_negatives + HARD_MARGIN
        contexts = self._contexts(turns) if self._lexical is not None else None
        return self._index.search(queries, k, contexts=contexts).rows

    def _entity_tokens(self, rows: npt.NDArray[np.int64]) -> list[list[int]]:
        retriever = self._retriever
        return retriever.tokenise_entities([retriever.entity_text(self._kb[int(row)]) for row in rows])

    def _check(self, losses: Tensor, batch: WarmBatch, step: int) -> None:
        if len(batch.columns) == 1 and not self._warned:
            self._warned = True
            logger.warning(
                "Step %d of the warm start has one distinct entity, so that it teaches nothing. "
                "Raise `retriever.warm_start.negatives` or `batch_size`.",
                step + 1,
            )
        finite = torch.isfinite(losses).tolist()
        if not all(finite):
            names = [turn.id for turn, good in zip(batch.examples, finite, strict=True) if not good]
            raise NumericsError(
                f"The warm-start loss of step {step + 1} must be finite, but is not for the turns {', '.join(names[:5])}"
                f"{', …' if len(names) > 5 else ''}. Lower `retriever.warm_start.lr`."
            )

    def _report(self, lr: float) -> None:
        state, total = self._state, self._cfg.steps
        if state.done % _LOG_EVERY == 0 or state.done == total:
            self._sink.log({"train/warm_loss": float(np.mean(state.losses)), "train/warm_lr": lr}, step=state.done)
            self._sink.progress(state.done, total, unit="steps")
            state.losses = []

    def _evaluate(self) -> None:
        """Score the encoder, keep it if it is the best, and write a checkpoint."""
        scores, self._index = self._validation.score(self._retriever, self._lexical)
        scorer = self._retriever.scorer
        weights = {} if scorer is None else {f"retriever/weight_{name}": value for name, value in scorer.figures().items()}
        self._sink.log(scores.metrics() | weights, step=self._state.done)
        # Without a turn to score by, later is better.
        better = scores.choice > self._state.best_choice or not (scores.num_by_value or scores.num_by_id)
        if better:
            self._state.best_step, self._state.best_choice = self._state.done, scores.choice
            self._state.best_recall = scores.metrics()
        place = None if better else self._best
        self._best = save_state(self._folder, self._state, self._retriever, self._optimiser, best=place)

    def _finish(self, out: Path) -> WarmRecord:
        assert self._best is not None
        out.mkdir(parents=True, exist_ok=True)
        place_folder(self._best, out / RETRIEVER)
        kept = Retriever.load(out / RETRIEVER)
        record = WarmRecord(
            digest=kept.digest(),
            encoder=kept.cfg.encoder,
            kb_digest=self._kb.digest,
            dim=kept.dim,
            num_turns=self._num_turns,
            num_examples=len(self._examples),
            steps=self._cfg.steps,
            best_step=self._state.best_step,
            recall=self._state.best_recall,
            num_by_value=self._validation.num_by_value,
            num_by_id=self._validation.num_by_id,
            weights=kept.scorer.figures() if kept.scorer is not None else {},
        )
        record.write(out)
        return record


def _fingerprint(cfg: RetrieverParams, digests: list[str], setting: Setting) -> str:
    row = [cfg.model_dump(mode="json"), digests, setting]
    return hashlib.sha256(json.dumps(row, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _texts(cfg: RetrieverParams, kb: KnowledgeBase, train: Path) -> Iterator[str]:
    """What a tokenizer from scratch is trained on: entities and training contexts, as they will be read."""
    for entity in kb.entities:
        yield entity_text(entity, attributes=cfg.attributes, domain=cfg.domain, normalised=cfg.normalise)
    for turn in read_turns(train):
        # The last exchange alone: each utterance then counts once, and not once for every later turn.
        yield context_text(turn.context[-2:], role_marks=cfg.role_marks, normalised=cfg.normalise)
