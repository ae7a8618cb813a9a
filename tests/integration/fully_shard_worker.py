"""Run by torchrun in two processes: loss and gradients of a sharded module against the whole one, for every kind of step.

torchrun --nproc-per-node 2 fully_shard_worker.py MODEL TRAIN_STORE INFER_STORE RESULT
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import AutoModelForCausalLM

from models.fusion.schedule import ResolvedPhase, plan_steps
from models.fusion.signals.store import SignalStore
from models.fusion.train.batches import FusionCollator, MicroBatchSampler
from models.fusion.train.module import FusionModule
from models.fusion.train.prompt_signals import PairedSignals
from models.fusion.train.window import StepTotals
from models.lm.lora import add_adapters, merged_state
from models.params.lora import LoraParams


def main(model: str, train: str, infer: str, result: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    signals = PairedSignals(SignalStore.open(Path(train)), SignalStore.open(Path(infer)), max_length=64)
    phases = [ResolvedPhase(1.0, 0.0, 0.3, 1.0, 1e-3), ResolvedPhase(0.1, 1.0, 0.3, 1.0, 1e-3)]
    plan = plan_steps(phases, num_prompts=len(signals), batch_size=8)

    mesh, report = init_device_mesh("cpu", (world,)), {"world": world}
    for kind, lora in (("full", None), ("adapters", LoraParams(rank=2, target_modules=("q_proj", "down_proj")))):
        whole, sharded = build(model, lora), build(model, lora)
        for layer in sharded.causal_lm.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        assert isinstance(sharded, FSDPModule)
        rows = compare(whole, sharded, signals, plan, rank=rank, world=world)
        gathered = get_model_state_dict(sharded, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        types = sorted({type(p).__name__ for p in sharded.parameters()})
        report[kind] = {"parameters": types, "steps": rows, "merged": 0.0}
        if rank == 0:
            ours = merged_state(sharded.causal_lm, sharded.causal_state(gathered))
            theirs = merged_state(whole.causal_lm)
            assert ours.keys() == theirs.keys() == AutoModelForCausalLM.from_pretrained(model).state_dict().keys()
            report[kind]["merged"] = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
    if rank == 0:
        Path(result).write_text(json.dumps(report))
    dist.destroy_process_group()


def build(model, lora):
    """Return the module, with adapters that are no longer zero if there are any; the same on every rank."""
    lm = AutoModelForCausalLM.from_pretrained(model)
    if lora is not None:
        lm = add_adapters(lm, lora)
        torch.manual_seed(0)
        for name, parameter in lm.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return FusionModule(lm)


def compare(whole, sharded, signals, plan, *, rank, world):
    """Return loss and largest difference of the gradients at every step."""
    rows = []
    for step in range(plan.total_steps):
        reference, one = run_step(whole, signals, plan, step, rank=0, world=1)
        loss, totals = run_step(sharded, signals, plan, step, rank=rank, world=world)
        assert totals == one, (totals, one)
        shared = torch.tensor(loss)
        dist.all_reduce(shared)
        expected = {name: p.grad for name, p in whole.named_parameters() if p.requires_grad}
        gathered = {name: p.grad.full_tensor() for name, p in sharded.named_parameters() if p.requires_grad}
        assert expected.keys() == gathered.keys()
        worst = max((expected[name] - gathered[name]).abs().max().item() for name in expected)
        size = max(g.abs().max().item() for g in expected.values())
        rows.append({"loss": reference, "sharded": shared.item() / world, "worst": worst, "size": size})
    return rows


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
