"""Training the target on the aligned signals of the two modes: the entry."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainingArguments, set_seed

from models.errors import FusedialError, SourceError
from models.files import replacing_folder, tree_digest
from models.fusion.exposure import exposure
from models.fusion.schedule import Schedule, has_truth, has_winners, plan_steps, resolve_schedule
from models.fusion.signals.store import SignalStore
from models.fusion.train.arguments import check_sharding, make_arguments
from models.fusion.train.distributed import EventSink, FusionJob, launch, launched, leave_error
from models.fusion.train.export import export_target, no_progress_bars
from models.fusion.train.module import FusionModule
from models.fusion.train.prompt_signals import Mode, PairedSignals
from models.fusion.train.record import FusionRecord, fingerprint, phase_records
from models.fusion.train.trainer import CheckpointClock, FusionTrainer, PhaseSwitch
from models.fusion.train.window import LossWindow
from models.lm.config import CONFIG, ConfigFile, is_quantised
from models.lm.loading import load_model, pick_device
from models.lm.lora import add_adapters, merged_state
from models.metrics_sink import MetricsSink, NullSink
from models.params.fusion import FusionParams
from models.params.runtime import Runtime
from models.schema import ResolvedSource
from models.tokenization.loading import load_tokenizer
from models.training.arguments import agree_on_execution, micro_batch_size, set_steps
from models.training.checkpoints import CheckpointFolder, place_folder, seal
from models.training.guard import ONE_AT_A_TIME, exclusive, use_threads, wait_for_all

logger = logging.getLogger(__name__)


def train_fusion(
    cfg: FusionParams,
    *,
    method: str,
    target: ResolvedSource,
    train_store: Path,
    infer_store: Path,
    out: Path,
    resume_dir: Path,
    runtime: Runtime,
    sink: MetricsSink,
    log_every: int = 5,
) -> FusionRecord:
    """Train the target by one method (eq. 6 and 7 of ProFuser), or resume an interrupted run of the same training.

    The result depends on `cfg`, `method`, `target` and the stores alone: on the CPU bit for bit, interrupted or not, at equal
    thread count, micro-batch and number of processes; elsewhere within rounding.

    Args:
        cfg: The section `fusion`.
        method: A preset of `models.fusion.schedule`, or a name of `fusion.schedules`.
        target: The model to be trained.
        train_store: Aligned signals of the ground truth with the Min-CE winner's distribution (training mode).
        infer_store: Aligned signals of the winning responses with their generators' distributions (inference mode).
        out: Gets `model/` (a source of its own), `phase-1/` … for every phase but the last, and `record.json`, written last.
        resume_dir: Training state; may be deleted once the result is safe.
        runtime: Device, threads, processes.
        sink: Gets `train/*` every `log_every` optimiser steps.
        log_every: Optimiser steps between two reports.

    Raises:
        ParamsError: An impossible schedule or distribution over processes.
        SignalError: A store is incomplete or of another tokenizer.
        SourceError: The target cannot be loaded, or has quantised weights.
        NumericsError: A loss or gradient is not finite; the last checkpoint is kept.
        ArtifactError: Another process trains in `resume_dir`.
    """
    device = pick_device(runtime.device)
    check_sharding(runtime, device=device)
    job = FusionJob(cfg, method, target, train_store, infer_store, out, resume_dir, runtime, log_every)
    if runtime.nproc > 1 and not launched():
        micro_batch_size(cfg, section="fusion", world_size=runtime.nproc)
        threads = runtime.threads or max(1, torch.get_num_threads() // runtime.nproc)
        launch(replace(job, runtime=runtime.model_copy(update={"threads": threads})), sink)
        return FusionRecord.read(out)
    with ONE_AT_A_TIME:
        return _FusionTraining(job, device=device, sink=sink).train()


def run_rank(job: Path) -> None:
    """Train a written job as one of torchrun's processes (see `models.fusion.train.distributed.launch_command`)."""
    read = FusionJob.read(job)
    try:
        _FusionTraining(read, device=pick_device(read.runtime.device), sink=EventSink(read.resume_dir)).train()
    except FusedialError as err:
        leave_error(read.resume_dir, dist.get_rank() if dist.is_initialized() else 0, err)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _trained_modes(schedule: Schedule) -> set[Mode]:
    uses: dict[Mode, Callable[[Schedule, int], bool]] = {"train": has_truth, "infer": has_winners}
    return {mode for mode, used in uses.items() if any(used(schedule, i) for i in range(len(schedule)))}


def _refuse_quantised(target: ResolvedSource) -> None:
    # By the config: where a device lacks the kernels, transformers restores rounded weights and no longer calls them quantised.
    config = ConfigFile(target.location, CONFIG, revision=target.revision, where=f"The target `{target.name}`")
    if is_quantised(config):
        raise SourceError(
            f"The target `{target.name}` must have weights that can be trained, but has quantised ones ({target.location}). "
            "Name the model's own weights for it."
        )


class _FusionTraining:
    """One process's part in a training."""

    def __init__(self, job: FusionJob, *, device: str, sink: MetricsSink) -> None:
        """Open the stores and lay out the plan; no model is loaded."""
        cfg, target = job.cfg, job.target
        self._job, self._cfg, self._device, self._sink = job, cfg, device, sink
        expect = {"kind": "aligned", "tokenizer_digest": target.tokenizer_digest}
        folders = (job.train_store, job.infer_store)
        train, infer = (SignalStore.open(folder, expect=expect) for folder in folders)
        schedule = resolve_schedule(job.method, cfg)
        longest = min(cfg.max_length, target.context_length)
        self._signals = PairedSignals(train, infer, max_length=longest, trained=_trained_modes(schedule))
        self._plan = plan_steps(schedule, pools=self._signals.pools, batch_size=cfg.batch_size, budget=cfg.budget)
        self._phases = phase_records(self._plan, self._signals, cfg)
        digests = [tree_digest(folder) for folder in folders]
        mark = fingerprint(cfg, method=job.method, target_digest=target.digest, store_digests=digests)
        self._checkpoints = CheckpointFolder(job.resume_dir, fingerprint=mark, keep=cfg.checkpoints.keep)
        self._tokenizer = load_tokenizer(
            target.location, revision=target.revision, trust_remote_code=target.trust_remote_code, source=target.name
        )

    def train(self) -> FusionRecord:
        """Train to the end, write the results and return their record."""
        set_seed(self._cfg.seed)  # adapters are initialised at random: the same on every rank and in every run
        module = self._module()
        layers = sorted(getattr(module.causal_lm, "_no_split_modules", None) or [])
        runtime, writing = self._job.runtime, self._checkpoints.writing
        args = make_arguments(self._cfg, runtime=runtime, device=self._device, layers=layers, output_dir=writing)
        with exclusive(self._job.resume_dir, wanted=args.process_index == 0):
            execution = agree_on_execution(self._checkpoints, args, self._cfg, section="fusion", threads=runtime.threads)
            steps, batch = self._plan.total_steps, self._cfg.batch_size
            set_steps(args, total_steps=steps, batch_size=batch, micro=execution.micro_batch_size)
            with use_threads(execution.threads):
                trainer, window = self._trainer(module, args)
                ends = {phase.last_step: phase.number for phase in self._phases[:-1]}
                newest = self._checkpoints.newest(phase_ends=ends)
                if newest is not None:
                    logger.info("Resuming from `%s` of %d steps (`%s`).", newest.name, self._plan.total_steps, newest.parent)
                trainer.resume(newest)
                if args.process_index == 0:
                    self._checkpoints.record(replace(execution, wrapper=type(trainer.model_wrapped).__name__))
                    self._checkpoints.discard_torn()
                self._finish(trainer, window)
            wait_for_all()
        return FusionRecord.read(self._job.out)

    def _module(self) -> FusionModule:
        cfg = self._cfg
        _refuse_quantised(self._job.target)
        with no_progress_bars():
            dtype = "float32" if cfg.lora is None else cfg.lora.base_dtype
            model = load_model(self._job.target, device="cpu", dtype=dtype)
        if cfg.gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        lm = model if cfg.lora is None else add_adapters(model, cfg.lora)
        return FusionModule(lm, temperature=cfg.temperature, tail=cfg.tail, chunk=cfg.loss_chunk)

    def _trainer(self, module: FusionModule, args: TrainingArguments) -> tuple[FusionTrainer, LossWindow]:
        cfg = self._cfg
        sink = self._sink if args.process_index == 0 else NullSink()
        window = LossWindow(sink, total_steps=self._plan.total_steps, every=self._job.log_every)
        clock = CheckpointClock(cfg.checkpoints)
        trainer = FusionTrainer(
            module,
            args,
            signals=self._signals,
            plan=self._plan,
            cfg=cfg,
            window=window,
            checkpoints=self._checkpoints,
            clock=clock,
        )
        if args.process_index:  # Trainer gives every rank the same seed: they would draw the same dropout
            torch.manual_seed(cfg.seed + args.process_index)
        ends = {phase.last_step: phase.number for phase in self._phases[:-1]}
        switch = PhaseSwitch(
            ends,
            save_phase=lambda number: self._export(trainer, self._checkpoints.phase(number)),
            restart_optimiser=cfg.optimiser_at_switch == "restart",
        )
        trainer.add_callback(switch)
        return trainer, window

    def _export(self, trainer: FusionTrainer, folder: Path) -> ResolvedSource | None:
        """Write the present model to `folder`; the main process returns it as a source."""
        gathered = trainer.full_state()
        if trainer.args.process_index != 0:
            return None
        module: Any = trainer.model
        target, suffix = self._job.target, "" if folder.name == "model" else f"-{folder.name}"
        with replacing_folder(folder) as place:
            source = export_target(
                module.causal_lm,
                merged_state(module.causal_lm, gathered),
                place,
                target=target,
                name=f"{target.name}-{self._job.method}{suffix}",
                tokenizer=self._tokenizer,
            )
        if folder.parent == self._checkpoints.phases:
            seal(folder)
        return source

    def _finish(self, trainer: FusionTrainer, window: LossWindow) -> None:
        """Fill `out`, the record last."""
        out, signals, plan, cfg = self._job.out, self._signals, self._plan, self._cfg
        result = self._export(trainer, out / "model")
        if result is None:
            return
        for phase in self._phases[:-1]:
            place_folder(self._checkpoints.phase(phase.number), out / phase.model)
        FusionRecord(
            method=self._job.method,
            target=self._job.target.name,
            result=result.name,
            digest=result.digest,
            num_prompts=len(signals),
            batch_size=cfg.batch_size,
            total_steps=plan.total_steps,
            budget=cfg.budget,
            normalise=cfg.normalise,
            phases=self._phases,
            exposure=exposure(plan, cfg),
            infer_tokens=sum(phase.infer_tokens for phase in self._phases),
            train_tokens=sum(phase.train_tokens for phase in self._phases),
            response=signals.infer.counts,
            ground_truth=signals.train.counts,
            final=window.last,
        ).write(out)
