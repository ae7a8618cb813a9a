"""Two processes (gloo on the CPU) train as one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from models.fusion.train.run import train_fusion

LOSSES = ("train/loss", "train/sft_gt", "train/kl_gt", "train/sft_response", "train/kl_response", "train/grad_norm")


def test_two_processes_equal_one(fusion_call, recording_sink):
    """Micro-batches of 2: the last step of an epoch (6 of 8 prompts) leaves one process an empty one.

    Both modes share one denominator, whose tokens lie on both processes; with two denominators: the sharded module, below.
    """
    sinks, results = {}, {}
    for nproc in (1, 2):
        call = fusion_call(
            f"n{nproc}", micro_batch_size=2, runtime={"nproc": nproc}, checkpoints={"every_steps": 5}, normalise="tokens"
        )
        sinks[nproc] = recording_sink()
        results[nproc] = train_fusion(sink=sinks[nproc], log_every=1, **call), call
    (one, one_call), (two, two_call) = results[1], results[2]
    execution = json.loads((two_call["resume_dir"] / "execution.json").read_text())
    assert (execution["world_size"], execution["wrapper"]) == (2, "DistributedDataParallel")
    assert json.loads((one_call["resume_dir"] / "execution.json").read_text())["wrapper"] == "FusionModule"

    assert sinks[1].rows.keys() == sinks[2].rows.keys() == set(range(1, 13))
    for step, row in sinks[1].rows.items():
        for name in LOSSES:
            assert (name in row) == (name in sinks[2].rows[step])
            np.testing.assert_allclose(sinks[2].rows[step].get(name, 0), row.get(name, 0), atol=1e-5, err_msg=f"{step} {name}")
    assert sinks[2].done == sinks[1].done

    for folder in ("phase-1", "model"):
        a, b = (AutoModelForCausalLM.from_pretrained(c["out"] / folder).state_dict() for c in (one_call, two_call))
        for name in a:
            torch.testing.assert_close(a[name], b[name], atol=2e-4, rtol=0)
    assert (two.phases, two.infer_tokens, two.train_tokens) == (one.phases, one.infer_tokens, one.train_tokens)
    checkpoint = two_call["resume_dir"] / "checkpoint-10"
    assert {"rng_state_0.pth", "rng_state_1.pth", "complete.json"} <= {p.name for p in checkpoint.iterdir()}


def test_sharded_module_equals_the_whole_one(fusion_inputs, tmp_path):
    """Loss and collator under torch's own `fully_shard` on a ("cpu", 2) mesh, in full and with adapters."""
    pytest.importorskip("peft")
    worker, result = Path(__file__).with_name("fully_shard_worker.py"), tmp_path / "result.json"
    stores = [str(fusion_inputs[name]) for name in ("train_store", "infer_store")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(worker), fusion_inputs["target"].location, *stores, str(result)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(result.read_text())
    assert report["world"] == 2
    for kind in ("full", "adapters"):
        found = report[kind]
        assert found["parameters"] == ["DTensor"] and len(found["steps"]) == 6
        for step in found["steps"]:
            assert step["sharded"] == pytest.approx(step["loss"], abs=1e-5)
            assert step["worst"] < 1e-5 < step["size"]
        assert found["merged"] < 1e-6  # what is written: gathered, adapters added in
