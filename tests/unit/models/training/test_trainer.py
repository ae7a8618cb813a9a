import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler

from models.errors import ArtifactError
from models.metrics_sink import NullSink
from models.params.fusion import FusionParams
from models.training.arguments import set_steps, training_arguments
from models.training.checkpoints import CheckpointFolder
from models.training.trainer import ResumableTrainer, listed
from models.training.window import Component, StepWindow


class Plain(ResumableTrainer):
    def train_sampler(self):
        return BatchSampler(SequentialSampler(self.train_dataset), 1, drop_last=False)

    def lr_factors(self, optimiser):
        return [lambda step: 1.0] * len(optimiser.param_groups)


class Columns(nn.Module):
    """Its weight is stored column by column, as that of a transposed view is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).reshape(3, 2).T)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


def trainer(tmp_path, module=None):
    cfg = FusionParams(targets=("x",))
    checkpoints = CheckpointFolder(tmp_path, fingerprint="f", keep=1)
    args = training_arguments(cfg, lr=0.1, seed=0, device="cpu", output_dir=checkpoints.writing)
    set_steps(args, total_steps=2, batch_size=1, micro=1)
    window = StepWindow(NullSink(), [Component("train/loss")], total_steps=2, every=1)
    return Plain(module or Columns(), args, data=[0, 1], collator=list, checkpoints=checkpoints, window=window)


def test_weights_that_are_not_contiguous_are_restored(tmp_path):
    made = trainer(tmp_path)
    expected = made.model.weight.detach().clone()
    assert not made.model.weight.is_contiguous()
    made.save_model(str(tmp_path / "checkpoint"))
    nn.init.zeros_(made.model.weight)
    made._load_from_checkpoint(str(tmp_path / "checkpoint"))
    assert torch.equal(made.model.weight, expected)


def test_weights_of_another_model_are_refused(tmp_path):
    trainer(tmp_path).save_model(str(tmp_path / "checkpoint"))
    with pytest.raises(ArtifactError, match=r"must hold the trained weights of this model, but differs in .*bias"):
        trainer(tmp_path, nn.Linear(2, 2))._load_from_checkpoint(str(tmp_path / "checkpoint"))


def test_a_trainer_without_micro_batches_cannot_be_made():
    with pytest.raises(TypeError, match="train_sampler"):
        ResumableTrainer(Columns(), None)


def test_long_lists_of_ids_are_cut():
    assert listed([]) == "none" and listed(["a", "b"]) == "`a`, `b`"
    assert listed([str(n) for n in range(70)]).endswith("`63` … and 6 more")
