"""Trainer's arguments for joint training."""

from pathlib import Path

import torch
from transformers import TrainingArguments

from models.errors import ParamsError, Problem
from models.params.dialogue import DialogueParams


def make_dialogue_arguments(cfg: DialogueParams, *, device: str, output_dir: Path) -> TrainingArguments:
    """Return arguments with everything off that we do ourselves; this also starts the process group under torchrun.

    Steps, micro-batch and accumulation are filled in by `set_dialogue_steps`.

    Args:
        cfg: Optimiser, precision, seed.
        device: What `pick_device` chose.
        output_dir: Where Trainer writes checkpoints.
    """
    args = TrainingArguments(
        output_dir=str(output_dir),
        use_cpu=device == "cpu",
        bf16=cfg.joint.dtype == "bfloat16",
        learning_rate=cfg.joint.generator_lr,
        weight_decay=cfg.joint.weight_decay,
        max_grad_norm=cfg.joint.max_grad_norm,
        seed=cfg.seed,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        # A step of the generator alone leaves the retriever out.
        ddp_find_unused_parameters=True,
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


def dialogue_micro_batch(cfg: DialogueParams, *, world_size: int) -> int:
    """Return the turns per forward pass and process: `dialogue.joint.micro_batch_size`, or less where a process has fewer.

    Raises:
        ParamsError: The processes cannot share a step evenly.
    """
    share, left = divmod(cfg.joint.batch_size, world_size)
    if left:
        rule = f"must be a multiple of the {world_size} processes"
        problem = Problem("`dialogue.joint.batch_size`", rule, str(cfg.joint.batch_size))
        raise ParamsError("The training cannot be distributed as asked", [problem])
    return max(size for size in range(1, min(share, cfg.joint.micro_batch_size) + 1) if share % size == 0)


def set_dialogue_steps(args: TrainingArguments, *, total_steps: int, batch_size: int, micro: int) -> None:
    """Fill in the number of optimiser steps and how each is cut."""
    args.max_steps = total_steps
    args.per_device_train_batch_size = micro
    args.gradient_accumulation_steps = batch_size // (micro * args.world_size)
