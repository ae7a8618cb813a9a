"""Trainer's arguments, and how an optimiser step is cut into micro-batches."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainingArguments

from models.errors import ParamsError, Problem
from models.training.checkpoints import CheckpointFolder, Execution
from models.training.guard import wait_for_all


class StepSettings(Protocol):
    """What both wings' sections say about an optimiser step."""

    @property
    def dtype(self) -> str:
        """Autocast dtype, `float32` or `bfloat16`."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    @property
    def max_grad_norm(self) -> float:
        """Gradients are clipped to this norm."""

    @property
    def batch_size(self) -> int:
        """Samples of a step, over all processes."""

    @property
    def micro_batch_size(self) -> int:
        """Most samples of a forward pass."""


def training_arguments(
    cfg: StepSettings, *, lr: float, seed: int, device: str, output_dir: Path, **more: Any
) -> TrainingArguments:
    """Return arguments that leave saving, logging and reporting to us; this also starts the process group under torchrun.

    `set_steps` fills in steps, micro-batch and accumulation.

    Args:
        cfg: Optimiser and precision.
        lr: Peak learning rate.
        seed: Of Trainer's random state.
        device: What `pick_device` chose.
        output_dir: Where Trainer writes checkpoints: `CheckpointFolder.writing`.
        more: Further arguments of `TrainingArguments`.
    """
    args = TrainingArguments(
        output_dir=str(output_dir),
        use_cpu=device == "cpu",
        bf16=cfg.dtype == "bfloat16",
        learning_rate=lr,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        **more,
    )
    _pin(args, torch.device(device))
    return args


def _pin(args: TrainingArguments, device: torch.device) -> None:
    """Keep a single process on one device: Trainer would use `DataParallel` over all GPUs, and always start at the first."""
    if args.world_size > 1 or device.type != "cuda":
        return
    args._n_gpu = 1
    if device.index is not None:
        torch.cuda.set_device(device)
        args.__dict__["_setup_devices"] = device


def micro_batch_size(cfg: StepSettings, *, section: str, world_size: int) -> int:
    """Return the samples per forward pass and process: `cfg.micro_batch_size`, or less where a process has fewer.

    Args:
        cfg: Batch sizes.
        section: Where `batch_size` is set, such as `fusion`; for errors.
        world_size: Processes.

    Raises:
        ParamsError: The processes cannot share a step evenly.
    """
    share, left = divmod(cfg.batch_size, world_size)
    if left:
        problem = Problem(f"`{section}.batch_size`", f"must be a multiple of the {world_size} processes", str(cfg.batch_size))
        raise ParamsError("The training cannot be distributed as asked", [problem])
    return max(size for size in range(1, min(share, cfg.micro_batch_size) + 1) if share % size == 0)


def set_steps(args: TrainingArguments, *, total_steps: int, batch_size: int, micro: int) -> None:
    """Fill in the number of optimiser steps, and how each step of `batch_size` samples is cut into `micro` at a time."""
    args.max_steps = total_steps
    args.per_device_train_batch_size = micro
    args.gradient_accumulation_steps = batch_size // (micro * args.world_size)


def agree_on_execution(
    checkpoints: CheckpointFolder, args: TrainingArguments, cfg: StepSettings, *, section: str, threads: int | None
) -> Execution:
    """Return how all processes execute: as the first run of this training did, where that is possible.

    Every process must call this. The main one first removes what a killed run left half-written.

    Args:
        checkpoints: Hold the first run's way of execution, or get the present one.
        args: Processes and device.
        cfg: Batch sizes and precision.
        section: Where they are set, for errors.
        threads: torch threads per process; None = torch's own number.

    Raises:
        ParamsError: The processes cannot share a step evenly.
    """
    world = int(args.world_size)
    present = Execution(
        fingerprint=checkpoints.fingerprint,
        threads=threads or torch.get_num_threads(),
        micro_batch_size=micro_batch_size(cfg, section=section, world_size=world),
        world_size=world,
        dtype=cfg.dtype,
        device=args.device.type,
    )
    if args.process_index == 0:
        checkpoints.discard_torn()
        checkpoints.execution(present)
    wait_for_all()
    first = checkpoints.execution(present)
    fits = cfg.batch_size // world % first.micro_batch_size == 0
    return first if fits else replace(first, micro_batch_size=present.micro_batch_size)
