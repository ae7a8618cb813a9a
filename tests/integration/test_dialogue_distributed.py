"""A step of joint training is the same however it is cut: 8 × 1 = 1 × 8 turns, one process = two (gloo on the CPU)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import town

from models.dialogue.train.run import train_dialogue

_PATH = Path(town.__file__)

PICO = {"vocab_size": 320, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
JOINT = {
    "steps": 4,
    "generator_steps": 1,
    "every_evaluation": 3,
    "every_checkpoint": 4,
    "negative_entity": "random",
    "generator": {"pico": PICO, "max_context_tokens": 24, "max_entity_tokens": 40, "max_response_tokens": 16},
}
NAMES = ("train/loss", "train/nll", "train/mml", "train/ctr", "train/grad_norm_generator", "train/grad_norm_retriever")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Data and a warm start without dropout: the masks that two processes draw would differ from one's."""
    root = tmp_path_factory.mktemp("town")
    data = town.write_data(root / "data")
    warm = town.write_warm(root / "warm", data)
    path = warm / "retriever" / "retriever.json"
    settings = json.loads(path.read_text())
    settings["architecture"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(settings))
    return {"data": data, "warm": warm}


def run(root, name, inputs, *, micro, variant):
    call = town.make_call(root, name, **inputs, variant=variant, micro_batch_size=micro, **JOINT)
    sink, out = town.RecordingSink(), call["out"]
    train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink, log_every=1, **call)
    return sink.rows, out


def assert_equal(got, expected, out, expected_out):
    assert got.keys() == expected.keys()
    for step, row in expected.items():
        assert got[step].keys() == row.keys()
        for name in NAMES:
            assert got[step].get(name, 0.0) == pytest.approx(row.get(name, 0.0), rel=2e-5, abs=2e-5), f"{name} of step {step}"
    for part in ("retriever", "generator"):
        path = Path("best_generator") / part / "model.safetensors"
        weights, others = load_file(out / path), load_file(expected_out / path)
        for name, tensor in others.items():
            torch.testing.assert_close(weights[name], tensor, atol=5e-4, rtol=0)


@pytest.mark.parametrize("variant", ["prompt", "contrastive"])
def test_accumulation_changes_nothing(inputs, tmp_path, variant):
    whole, whole_out = run(tmp_path, "whole", inputs, micro=8, variant=variant)
    single, single_out = run(tmp_path, "single", inputs, micro=1, variant=variant)
    assert len(whole) == 6 and ("train/ctr" in whole[5]) == (variant == "contrastive")
    assert_equal(single, whole, single_out, whole_out)


def test_two_processes_equal_one(inputs, tmp_path):
    one, one_out = run(tmp_path, "one", inputs, micro=4, variant="contrastive")
    rows = tmp_path / "rows.json"
    arguments = [str(_PATH), str(tmp_path), str(inputs["data"]), str(inputs["warm"]), json.dumps(JOINT), str(rows)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [*torchrun, sys.executable, "-c", WORKER, *arguments]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = {int(step): row for step, row in json.loads(rows.read_text()).items()}
    assert_equal(two, one, tmp_path / "two" / "out", one_out)
    execution = json.loads((tmp_path / "two" / "resume" / "execution.json").read_text())
    assert (execution["world_size"], execution["wrapper"]) == (2, "DistributedDataParallel")
    checkpoint = tmp_path / "two" / "resume" / "checkpoint-4"
    assert {"rng_state_0.pth", "rng_state_1.pth", "complete.json"} <= {p.name for p in checkpoint.iterdir()}


WORKER = """
import importlib.util, json, os, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("town", sys.argv[1])
town = importlib.util.module_from_spec(spec)
spec.loader.exec_module(town)
from models.dialogue.train.run import train_dialogue

root, data, warm = map(Path, sys.argv[2:5])
call = town.make_call(root, "two", data=data, warm=warm, variant="contrastive", micro_batch_size=4, **json.loads(sys.argv[5]))
sink = town.RecordingSink()
train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink, log_every=1, **call)
if os.environ["RANK"] == "0":
    Path(sys.argv[6]).write_text(json.dumps(sink.rows))
else:
    assert not sink.rows
"""
