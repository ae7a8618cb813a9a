"""Trainer's arguments of a fusion training: what both wings share, and FSDP."""

from pathlib import Path
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import TrainingArguments

from models.errors import ParamsError, Problem
from models.params.fusion import FusionParams
from models.params.runtime import Runtime
from models.training.arguments import training_arguments


def make_arguments(cfg: FusionParams, *, runtime: Runtime, device: str, layers: list[str], output_dir: Path) -> TrainingArguments:
    """Return `training_arguments` of the section `fusion`, sharded on demand.

    Args:
        cfg: Optimiser and precision.
        runtime: Whether to shard.
        device: What `pick_device` chose.
        layers: Class names of the transformer layers, which FSDP wraps one by one.
        output_dir: Where Trainer writes checkpoints.

    Raises:
        ParamsError: `runtime.fsdp` where it is not possible.
    """
    check_sharding(runtime, device=device)
    args = training_arguments(
        cfg,
        lr=cfg.lr,
        seed=cfg.seed,
        device=device,
        output_dir=output_dir,
        adam_beta1=cfg.adam_beta1,
        adam_beta2=cfg.adam_beta2,
        ddp_find_unused_parameters=False,
        **(sharding(layers) if runtime.fsdp else {}),
    )
    if args.fsdp_plugin_args is not None:
        args.fsdp_plugin_args["mixed_precision_policy"] = precision_policy(cfg)
    return args


def sharding(layers: list[str]) -> dict[str, Any]:
    """Return Trainer's arguments of FSDP 2.

    Every micro-batch is reduced: gradients kept until the last one would be unsharded on every rank.
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
    """Refuse settings that would silently mean something else: accelerate turns FSDP on the CPU into DDP.

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
