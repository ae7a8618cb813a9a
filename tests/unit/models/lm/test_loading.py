import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.errors import ParamsError, SourceError
from models.lm.loading import load_codec, load_model, load_reward_classifier, load_source, pick_device
from models.lm.resolve import resolve_source
from models.params.sources import SourceSpec


def resolved(folder: Path, **settings: object):
    return resolve_source(SourceSpec(name="owl", model=str(folder), chat_template="plain", **settings), root=Path())


def test_loads_in_evaluation_mode_and_own_dtype(pico_folder):
    model = load_model(resolved(pico_folder("llama"), dtype="bfloat16"), device="cpu")
    assert not model.training and model.dtype == torch.bfloat16
    assert load_model(resolved(pico_folder("llama")), device="cpu", dtype="float16").dtype == torch.float16


def test_truncated_weights(pico_folder, tmp_path):
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    source = resolved(folder)
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=f"The model of `owl` cannot be loaded from {folder}"):
        load_model(source, device="cpu")


def test_weights_of_another_shape(pico_folder, tmp_path):
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    source = resolved(folder)
    shutil.copy(pico_folder("llama", 400) / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(SourceError, match="The model of `owl` cannot be loaded"):
        load_model(source, device="cpu")


def test_missing_weights_are_refused_not_made_up(pico_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lacks 1: model\.norm\.weight"):
        load_model(resolved(folder), device="cpu")


def test_language_model_is_no_reward_model(pico_folder):
    with pytest.raises(SourceError, match=r"lacks 1: score\.weight"):
        load_reward_classifier(resolved(pico_folder("llama")), device="cpu")


def test_pickled_weights_load_without_code(pico_folder, tmp_path):
    from safetensors.torch import load_file

    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    source = resolved(folder)
    model = load_model(source, device="cpu")
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({**weights, "evil": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(SourceError, match="cannot be loaded"):
        load_model(source, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_changed_tokenizer_is_noticed(pico_folder):
    source = resolved(pico_folder("llama"))
    assert load_codec(source).digest == source.tokenizer_digest
    with pytest.raises(SourceError, match=r"The tokenizer of source `owl` .* changed after the source was resolved"):
        load_codec(replace(source, tokenizer_digest="0" * 64))


def test_loaded_source_knows_the_shared_vocabulary(pico_folder, pico_tokenizer):
    loaded = load_source(resolved(pico_folder("llama", 400)), device="cpu")
    assert loaded.vocab_rows == len(pico_tokenizer) and loaded.device.type == "cpu" and loaded.pad_id == 2


def test_pick_device():
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in {"cpu", "cuda", "mps"}
    with pytest.raises(ParamsError, match=r"`runtime\.device` must be `auto` or a torch device.*but is 'gpu'"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ParamsError, match=r"but is 'cuda:3'"):
            pick_device("cuda:3")
