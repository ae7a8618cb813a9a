"""Run by torchrun in two processes: loss and gradients of a sharded module against the whole one, for every kind of step.

torchrun --nproc-per-node 2 fully_shard_worker.py MODEL TRAIN_STORE INFER_STORE RESULT
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModelForCausalLM

from models.fusion.schedule import ResolvedPhase, plan_steps
from models.fusion.signal import SignalStore
from models.training.batches import FusionCollator, MicroBatchSampler
from models.training.fusion_module import FusionModule
from models.training.loss_window import StepTotals
from models.training.prompt_signals import PairedSignals


def main(model: str, train: str, infer: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    signals = PairedSignals(SignalStore.open(Path(train)), SignalStore.open(Path(infer)), max_length=64)
    phases = [ResolvedPhase(1.0, 0.0, 0.3, 1.0, 1e-3), ResolvedPhase(0.1, 1.0, 0.3, 1.0, 1e-3)]
    plan = plan_steps(phases, num_prompts=len(signals), batch_size=8)

    whole = FusionModule(AutoModelForCausalLM.from_pretrained(model))
    sharded = FusionModule(AutoModelForCausalLM.from_pretrained(model))
    mesh = init_device_mesh("cpu", (world,))
    for layer in sharded.causal_lm.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    assert isinstance(sharded, FSDPModule)

    rows = []
    for step in range(plan.total_steps):
        reference, one = run_step(whole, signals, plan, step, rank=0, world=1)
        loss, totals = run_step(sharded, signals, plan, step, rank=rank, world=world)
        assert totals == one, (totals, one)
        shared = torch.tensor(loss)
        dist.all_reduce(shared)
        expected = {name: p.grad for name, p in whole.named_parameters()}
        gathered = {name: p.grad.full_tensor() for name, p in sharded.named_parameters()}
        assert expected.keys() == gathered.keys()
        worst = max((expected[name] - gathered[name]).abs().max().item() for name in expected)
        size = max(g.abs().max().item() for g in expected.values())
        rows.append({"loss": reference, "sharded": shared.item() / world, "worst": worst, "size": size})
    if rank == 0:
        kinds = sorted({type(p).__name__ for p in sharded.parameters()})
        Path(result).write_text(json.dumps({"world": world, "parameters": kinds, "steps": rows}))
    dist.destroy_process_group()


def run_step(module, signals, plan, step, *, rank, world):
    """Accumulate one step's gradient in micro-batches of 2; return this rank's loss (times `world`) and the totals."""
    accumulation = 4 // world
    sampler = MicroBatchSampler(plan, seed=0, micro_batch_size=2, accumulation=accumulation, rank=rank, world_size=world)
    mine = list(sampler)[step * accumulation : (step + 1) * accumulation]
    batches = [FusionCollator(signals, plan)(planned) for planned in mine]
    counts = torch.tensor([sum(b.num_infer for b in batches), sum(b.num_train for b in batches)])
    if world > 1:
        dist.all_reduce(counts)
    weights = plan.weights_at(step)
    totals = StepTotals(step, int(counts[0]), int(counts[1]), weights)
    module.zero_grad()
    loss = 0.0
    for batch in batches:
        out = module(batch, scale_infer=totals.scale_infer, scale_train=totals.scale_train, beta=weights.beta)
        (out.loss * world).backward()
        loss += out.loss.item() * world
    return loss, totals


if __name__ == "__main__":
    main(*sys.argv[1:])
