"""A target whose weights are quantised is refused on every device before anything is trained."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.errors import SourceError
from models.fusion.train.run import train_fusion
from models.lm.resolve import resolve_source
from models.params.sources import SourceSpec


@pytest.fixture
def quantised(pico_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """A Llama whose linear weights are float8 with one scale a block, as published FP8 checkpoints are."""
    folder = tmp_path / "fp8"
    shutil.copytree(pico_folder("llama"), folder)
    stored: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored[name] = weight
        if name.endswith("proj.weight"):
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale.expand([-(-size // 128) for size in weight.shape]).contiguous()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    how = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": how}))
    return folder


def test_a_quantised_target_is_refused(fusion_call: Callable[..., dict[str, Any]], recording_sink, quantised: Path) -> None:
    call, sink = fusion_call(), recording_sink()
    target = resolve_source(SourceSpec(name="tiny", model=str(quantised), chat_template="plain"), root=quantised.parent)
    call["target"] = replace(target, tokenizer_digest=call["target"].tokenizer_digest)
    rule = r"The target `tiny` must have weights that can be trained, but has quantised ones \(.*fp8\)\. Name the model"
    with pytest.raises(SourceError, match=rule):
        train_fusion(sink=sink, **call)
    assert not sink.rows and not call["out"].exists()
