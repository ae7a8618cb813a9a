"""Trainer's arguments of a joint training."""

from pathlib import Path

from transformers import TrainingArguments

from models.params.dialogue import DialogueParams
from models.training.arguments import training_arguments


def make_dialogue_arguments(cfg: DialogueParams, *, device: str, output_dir: Path) -> TrainingArguments:
    """Return `training_arguments` of the section `dialogue`; DDP accepts steps that leave the retriever out.

    Args:
        cfg: Optimiser, precision, seed.
        device: What `pick_device` chose.
        output_dir: Where Trainer writes checkpoints.
    """
    lr = cfg.joint.generator_lr  # the optimiser's groups have rates of their own
    return training_arguments(
        cfg.joint, lr=lr, seed=cfg.seed, device=device, output_dir=output_dir, ddp_find_unused_parameters=True
    )
