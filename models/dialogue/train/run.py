"""Joint training of retriever and response generator (MK-TOD §3.3–3.5): the entry."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import TrainingArguments, set_seed

from models.dialogue.data.pseudo_positive import pseudo_positive
from models.dialogue.generators.trainable import AnyGenerator
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.dialogue.train.arguments import make_dialogue_arguments
from models.dialogue.train.batches import DialogueCollator
from models.dialogue.train.index_refresh import IndexRefresher
from models.dialogue.train.module import DialogueModule
from models.dialogue.train.record import META, DialogueJob, DialogueRecord
from models.dialogue.train.schedule import DialogueSchedule
from models.dialogue.train.selection import KINDS, Selection, ValidationStep, chosen_in
from models.dialogue.train.setup import DialogueData, make_chooser, make_generator, make_meta, measured_edges
from models.dialogue.train.trainer import DialogueTrainer, StepEvents
from models.dialogue.train.turns import DialogueTurns, TokenRows, in_chunks
from models.dialogue.train.validation import DialogueValidation
from models.dialogue.train.window import DialogueWindow
from models.files import tree_digest
from models.lm.loading import pick_device
from models.metrics_sink import MetricsSink, NullSink
from models.params.dialogue import DialogueParams, Variant
from models.params.dialogues import Setting
from models.params.index import IndexParams
from models.params.runtime import Runtime
from models.training.arguments import agree_on_execution, set_steps
from models.training.checkpoints import CheckpointFolder, Execution, place_folder, write_json
from models.training.guard import ONE_AT_A_TIME, exclusive, use_threads, wait_for_all

logger = logging.getLogger(__name__)

_KEPT_CHECKPOINTS = 2


def train_dialogue(
    cfg: DialogueParams,
    index: IndexParams,
    *,
    variant: Variant,
    setting: Setting,
    data: Path,
    warm: Path,
    root: Path,
    runtime: Runtime,
    out: Path,
    resume_dir: Path,
    sink: MetricsSink,
    log_every: int = 5,
    generator: Path | None = None,
) -> DialogueRecord:
    """Train retriever and generator jointly (eq. 7 and 11), or resume an interrupted run of the same training.

    The result depends on the params, the variant, the data and the warm start alone: on the CPU bit for bit, interrupted or not,
    at equal thread count, micro-batch and number of processes; elsewhere within rounding. It runs in this process; under torchrun
    every process calls it with the same arguments.

    Args:
        cfg: The section `dialogue`.
        index: The section `index`.
        variant: How the generator gets meta knowledge: `none`, `prefix`, `prompt`, or `contrastive` (eq. 10 instead of text).
        setting: `large_scale`: retrieve from the whole knowledge base; `condensed`: from each dialogue's own rows.
        data: Dialogue artifact of `prepare`.
        warm: Output of `warm_start`.
        root: What relative folders in the params are relative to.
        runtime: Device and threads.
        out: Gets `best_generator/{retriever,generator}`, `best_retriever/retriever`, `meta.json`, and last `record.json`.
        resume_dir: Training state; may be deleted once the result is safe.
        sink: Gets `train/*` every `log_every` optimiser steps, and `valid/*` at every evaluation, step 0 included.
        log_every: Optimiser steps between two reports.
        generator: Folder of the generator, if its params name it by anything but its place (a package, a fused model).

    Raises:
        ParamsError: The processes cannot share a step evenly.
        DataError: A split or the knowledge base is empty.
        SourceError: The generator cannot be loaded.
        NumericsError: A loss or gradient is not finite; the last checkpoint is kept.
        ArtifactError: An input is damaged, or another process trains in `resume_dir`.
    """
    job = DialogueJob(cfg, index, variant, setting, data, warm, root, runtime, out, resume_dir, log_every, generator)
    with ONE_AT_A_TIME:
        return _JointTraining(job, sink=sink).train()


class _JointTraining:
    """One process's part in a training."""

    def __init__(self, job: DialogueJob, *, sink: MetricsSink) -> None:
        """Read the data and lay out the steps; no model is loaded."""
        self._job, self._cfg, self._sink = job, job.cfg, sink
        self._data = DialogueData.read(job.data)
        self._schedule = DialogueSchedule(job.cfg.joint)
        mark = job.fingerprint()
        self._checkpoints = CheckpointFolder(job.resume_dir, fingerprint=mark, keep=_KEPT_CHECKPOINTS)
        self._selection = Selection(job.resume_dir / f"best-{mark[:12]}", num_retrieved=job.cfg.num_retrieved)

    def train(self) -> DialogueRecord:
        """Train to the end, write the results and return their record."""
        set_seed(self._cfg.seed)
        device = pick_device(self._job.runtime.device)
        args = make_dialogue_arguments(self._cfg, device=device, output_dir=self._checkpoints.writing)
        with exclusive(self._job.resume_dir, wanted=args.process_index == 0):
            joint, threads = self._cfg.joint, self._job.runtime.threads
            execution = agree_on_execution(self._checkpoints, args, joint, section="dialogue.joint", threads=threads)
            steps, micro = self._schedule.total_steps, execution.micro_batch_size
            set_steps(args, total_steps=steps, batch_size=joint.batch_size, micro=micro)
            with use_threads(execution.threads):
                self._train(args, execution)
            wait_for_all()
        return DialogueRecord.read(self._job.out)

    def _train(self, args: TrainingArguments, execution: Execution) -> None:
        # accelerate's `cpu:0` and `cpu` compare as different devices.
        device = "cpu" if args.device.type == "cpu" else str(args.device)
        main = args.process_index == 0
        retriever = Retriever.load(self._job.warm / "retriever", device=device)
        meta = self._meta(retriever, device=device)
        generator = make_generator(self._cfg, self._data, meta, root=self._job.root, folder=self._job.generator).to(device)
        generator.prepare_training(device)
        refresher = IndexRefresher(retriever, self._data.kb, cfg=self._job.index, device=device)
        module = self._module(retriever, generator, meta=meta, refresher=refresher)
        step = self._validation_step(module, meta=meta, main=main, device=device)
        window = self._window(self._sink if main else NullSink())
        trainer = self._trainer(module, args, window=window, step=step)
        saved = partial(step.prune, self._job.resume_dir)
        trainer.add_callback(StepEvents(self._schedule, refresher, evaluate=step.run, saved=saved))
        newest = self._newest()
        if newest is None:
            refresher.refresh()
            step.run(0)
        else:
            logger.info("Resuming from `%s` of %d steps (`%s`).", newest.name, self._schedule.total_steps, newest.parent)
        if self._schedule.total_steps:
            trainer.resume(newest)
        if main:
            self._checkpoints.record(replace(execution, wrapper=type(trainer.model_wrapped).__name__))
            self._finish(module, meta=meta, start=step.start, final=window.last)

    def _meta(self, retriever: Retriever, *, device: str) -> MetaKnowledge:
        job = self._job
        edges = measured_edges(job.cfg, self._data, retriever=retriever, index=job.index, setting=job.setting, device=device)
        return make_meta(job.cfg, variant=job.variant, edges=edges)

    def _module(
        self, retriever: Retriever, generator: AnyGenerator, *, meta: MetaKnowledge, refresher: IndexRefresher
    ) -> DialogueModule:
        cfg, data = self._cfg, self._data
        chooser = make_chooser(cfg, data, meta, builder=generator.builder)
        texts = (retriever.entity_text(entity) for entity in data.kb.entities)
        return DialogueModule(
            retriever,
            generator,
            cfg=cfg.joint,
            contrastive=self._job.variant == "contrastive",
            chooser=chooser,
            index=lambda: refresher.index,
            entity_ids=TokenRows(ids for chunk in in_chunks(texts) for ids in retriever.tokenise_entities(chunk)),
            contexts=lambda turn: data.train[turn].context,
            trains_retriever=self._schedule.trains_retriever,
            positives=self._positives() if "with_positive" in (cfg.joint.generator_entities, cfg.joint.objective_turns) else (),
        )

    def _positives(self) -> list[int | None]:
        data = self._data
        condensed = self._job.setting == "condensed"
        sessions = [data.kb.rows(dict.fromkeys(turn.kb)) if condensed else None for turn in data.train]
        return [pseudo_positive(turn, data.value_index, rows=rows) for turn, rows in zip(data.train, sessions, strict=True)]

    def _validation_step(self, module: DialogueModule, *, meta: MetaKnowledge, main: bool, device: str) -> ValidationStep:
        cfg, data = self._cfg, self._data
        validation = DialogueValidation(
            data.valid,
            data.kb,
            meta=meta,
            value_index=data.value_index,
            values=data.values,
            num_retrieved=cfg.num_retrieved,
            limit=cfg.joint.validation_limit,
            condensed=self._job.setting == "condensed",
            device=device,
        )
        return ValidationStep(validation, self._selection, module, sink=self._sink, main=main)

    def _window(self, sink: MetricsSink) -> DialogueWindow:
        joint, steps = self._cfg.joint, self._schedule.total_steps
        names = {"nll": "train/nll", "q_max": "train/q_max", "score_gap": "train/score_gap"}
        contrastive = self._job.variant == "contrastive" and joint.gamma > 0
        if joint.beta > 0:
            names["objective"] = f"train/{joint.objective}"
        if contrastive:
            names["ctr"] = "train/ctr"
        if joint.beta > 0 or contrastive:
            names["agreement_top1"] = "train/agreement_top1"
        return DialogueWindow(sink, total_steps=steps, every=self._job.log_every, names=names)

    def _trainer(
        self, module: DialogueModule, args: TrainingArguments, *, window: DialogueWindow, step: ValidationStep
    ) -> DialogueTrainer:
        data, generator = self._data, module.generator
        turns = DialogueTurns(
            data.train,
            data.kb,
            retriever=module.retriever,
            builder=generator.builder,
            condensed=self._job.setting == "condensed",
        )
        trainer = DialogueTrainer(
            module,
            args,
            turns=turns,
            collator=DialogueCollator(turns, retriever=module.retriever, pad_id=generator.pad_id),
            schedule=self._schedule,
            window=window,
            checkpoints=self._checkpoints,
            seed=self._cfg.seed,
            extra=(step.state, step.restore),
        )
        if args.process_index:  # Trainer gives every process the same seed: they would draw the same dropout
            torch.manual_seed(self._cfg.seed + args.process_index)
        return trainer

    def _newest(self) -> Path | None:
        """Return the newest checkpoint whose chosen models are intact."""
        return self._checkpoints.newest(lacks=lambda path: self._selection.missing(chosen_in(path)))

    def _finish(
        self, module: DialogueModule, *, meta: MetaKnowledge, start: Mapping[str, float], final: Mapping[str, float]
    ) -> None:
        """Fill `out`, the record last."""
        out, cfg, selection = self._job.out, self._cfg, self._selection
        for kind in KINDS:
            place_folder(selection.folder(kind), out / kind)
        meta_row = {
            "style": meta.style,
            "kinds": list(meta.kinds),
            "edges": list(meta.edges),
            "num_retrieved": cfg.num_retrieved,
            "setting": self._job.setting,
        }
        write_json(out / META, meta_row)
        DialogueRecord(
            variant=self._job.variant,
            setting=self._job.setting,
            objective=cfg.joint.objective if self._schedule.trains_retriever else "",
            num_turns=len(self._data.train),
            num_entities=len(self._data.kb),
            num_retrieved=cfg.num_retrieved,
            generator_steps=cfg.joint.generator_steps,
            total_steps=self._schedule.total_steps,
            temperature=float(module.temperature.detach()),
            edges=meta.edges,
            start=start,
            best_generator=selection.chosen["best_generator"],
            best_retriever=selection.chosen["best_retriever"],
            digests={kind: tree_digest(out / kind) for kind in KINDS},
            final=final,
        ).write(out)
