"""Trainer's arguments, and how a step is cut into micro-batches."""

from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from models.errors import ParamsError, Problem
from models.params.fusion import FusionParams
from models.params.runtime import Runtime


def make_arguments(cfg: FusionParams, *, runtime: Runtime, device: str, layers: list[str], output_dir: Path) -> TrainingArguments:
    """Return arguments with everything off that we do ourselves; this also starts the process group under torchrun.

    Steps, micro-batch and accumulation are filled in by `set_steps`.

    Args:
        cfg: Optimiser and precision.
        runtime: Whether to shard.
        device: What `pick_device` chose.
        layers: Class names of the transformer layers, which FSDP wraps one by one.
        output_dir: Where Trainer writes checkpoints.

    Raises:
        ParamsError: `runtime.fsdp` where it cannot be.
    """
    check_sharding(runtime, device=device)
    args = TrainingArguments(
        output_dir=str(output_dir),
        use_cpu=device == "cpu",
        bf16=cfg.dtype == "bfloat16",
        learning_rate=cfg.lr,
        weight_decay=cfg.weight_decay,
        adam_beta1=cfg.adam_beta1,
        adam_beta2=cfg.adam_beta2,
        max_grad_norm=cfg.max_grad_norm,
        seed=cfg.seed,
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        **(sharding(layers) if runtime.fsdp else {}),
    )
    if args.fsdp_plugin_args is not None:
        args.fsdp_plugin_args["mixed_precision_policy"] = precision_policy(cfg)
    _pin(args, torch.device(device))
    return args


def sharding(layers: list[str]) -> dict[str, Any]:
    """Return Trainer's arguments of FSDP 2.

    Every micro-batch is reduced: gradients that wait for the last one would stay whole on every rank.
    """
    return {
        "fsdp": True,
        "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": layers, "state_dict_type": "FULL_STATE_DICT"},
        "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
    }


def precision_policy(cfg: FusionParams) -> MixedPrecisionPolicy:
    """Return the dtypes of FSDP 2: gathered weights in `fusion.dtype`, gradients added up in float32, outputs as they are.

    (What accelerate makes of `bf16` adds them up in bfloat16, and rounds the loss to it.)
    """
    gathered = torch.bfloat16 if cfg.dtype == "bfloat16" else None
    return MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, output_dtype=None)


def check_sharding(runtime: Runtime, *, device: str) -> None:
    """Refuse what would silently be something else: accelerate turns FSDP on the CPU into DDP.

    Raises:
        ParamsError: FSDP on the CPU or in one process; an indexed device for several processes.
    """
    problems = []
    if runtime.fsdp and torch.device(device).type == "cpu":
        rule = "needs accelerators: on the CPU accelerate does not shard but runs plain DDP"
        problems.append(Problem("`runtime.fsdp`", rule, "true with the device `cpu`", "Set it to false."))
    elif runtime.fsdp and runtime.nproc < 2 and not torch.distributed.is_torchelastic_launched():
        problems.append(Problem("`runtime.fsdp`", "needs `runtime.nproc` of 2 or more", f"true with {runtime.nproc}"))
    if runtime.nproc > 1 and torch.device(device).index is not None:
        rule = "must have no index with `runtime.nproc` above 1: each process takes the device of its rank"
        problems.append(Problem("`runtime.device`", rule, repr(device)))
    if problems:
        raise ParamsError("The training cannot be distributed as asked", problems)


def _pin(args: TrainingArguments, device: torch.device) -> None:
    """Keep a single process on one device: Trainer would use `DataParallel` over all GPUs, and always start at the first."""
    if args.world_size > 1 or device.type != "cuda":
        return
    args._n_gpu = 1
    if device.index is not None:
        torch.cuda.set_device(device)
        args.__dict__["_setup_devices"] = device


def micro_batch_size(cfg: FusionParams, *, world_size: int) -> int:
    """Return the prompts per forward pass and process: `fusion.micro_batch_size`, or less where a process has fewer.

    Raises:
        ParamsError: The processes cannot share a step evenly.
    """
    share, left = divmod(cfg.batch_size, world_size)
    if left:
        problem = Problem("`fusion.batch_size`", f"must be a multiple of the {world_size} processes", str(cfg.batch_size))
        raise ParamsError("The training cannot be distributed as asked", [problem])
    return max(size for size in range(1, min(share, cfg.micro_batch_size) + 1) if share % size == 0)


def set_steps(args: TrainingArguments, *, total_steps: int, batch_size: int, micro: int) -> None:
    """Fill in the number of optimiser steps and how each is cut."""
    args.max_steps = total_steps
    args.per_device_train_batch_size = micro
    args.gradient_accumulation_steps = batch_size // (micro * args.world_size)
