import hashlib
import json
import shutil
from pathlib import Path

import pytest

from models.dialogue.generators.seq2seq.loading import load_t5
from models.errors import SourceError
from models.lm import weights
from models.lm.loading import load_model
from models.lm.resolve import resolve_reward_model, resolve_source
from models.lm.sentence_encoder import load_encoder
from models.lm.weights import folder_digest, refuse_adapter, weight_files
from models.params.sources import RewardModelSpec, SourceSpec


def make(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".").replace("_of_", "-of-")).write_text(text)
    return folder


def test_digest_is_over_sorted_names_and_hashes(tmp_path):
    folder = make(tmp_path, config__json="{}", model__safetensors="w", tokenizer__json="t")
    lines = [f"{n} {hashlib.sha256(t.encode()).hexdigest()}\n" for n, t in [("config.json", "{}"), ("model.safetensors", "w")]]
    assert folder_digest(folder, where="x") == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors", "modeling_own.py"])
def test_digest_changes_with_what_defines_the_model(tmp_path, name):
    folder = make(tmp_path, config__json="{}", model__safetensors="w")
    before = folder_digest(folder, where="x")
    (folder / name).write_text("other")
    assert folder_digest(folder, where="x") != before


def test_digest_ignores_the_rest(tmp_path):
    folder = make(tmp_path, config__json="{}", model__safetensors="w")
    before = folder_digest(folder, where="x")
    make(folder, README__md="r", tokenizer__json="t", pytorch_model__bin="not loaded beside safetensors")
    assert folder_digest(folder, where="x") == before


def test_index_and_its_shards_are_the_weights(tmp_path):
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "m-1.safetensors").write_text("1")
    with pytest.raises(SourceError, match=r"names 2 shards, but 1 are missing: m-2\.safetensors"):
        weight_files(tmp_path, where="x")
    (tmp_path / "m-2.safetensors").write_text("2")
    names = [p.name for p in weight_files(tmp_path, where="x")]
    assert names == ["model.safetensors.index.json", "m-1.safetensors", "m-2.safetensors"]


def test_pickles_count_where_there_is_no_safetensors(tmp_path):
    make(tmp_path, config__json="{}", pytorch_model__bin="w")
    assert [p.name for p in weight_files(tmp_path, where="x")] == ["pytorch_model.bin"]
    assert len(folder_digest(tmp_path, where="x")) == 64


def test_errors_name_owner_folder_and_cure(tmp_path):
    with pytest.raises(SourceError, match=r"`sources\.models\[a\]`: the folder .* must hold config\.json"):
        folder_digest(tmp_path, where="`sources.models[a]`")
    make(tmp_path, config__json="{}")
    with pytest.raises(SourceError, match=r"must hold model\.safetensors or pytorch_model\.bin"):
        folder_digest(tmp_path, where="x")
    make(tmp_path, model__safetensors__index__json="[1")
    with pytest.raises(SourceError, match="cannot be read"):
        folder_digest(tmp_path, where="x")


FILES = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "adapter_model-00001-of-00002.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_every_user_of_a_folder_refuses_an_adapter_beside_full_weights(pico_folder, tmp_path, name):
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    spec = SourceSpec(name="owl", model=str(folder), chat_template="plain")
    source = resolve_source(spec, root=tmp_path)
    (folder / name).write_text("{}")
    uses = [
        lambda: resolve_source(spec, root=tmp_path),
        lambda: resolve_reward_model(RewardModelSpec(name="rm", model=str(folder)), root=tmp_path),
        lambda: load_model(source, device="cpu"),
        lambda: load_t5(str(folder), revision=None, special_tokens=(), root=tmp_path, seed=0),
        lambda: load_encoder(str(folder), revision=None),
    ]
    for use in uses:
        with pytest.raises(SourceError, match=rf"must name a model with merged weights, but .*{name} belongs to an adapter"):
            use()


def test_an_adapter_alone_and_one_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SourceError, match="Merge it first"):
        refuse_adapter(str(tmp_path), revision=None, where="`x`")
    monkeypatch.setattr(weights, "find_adapter_config_file", lambda name, revision: "/cache/adapter_config.json")
    with pytest.raises(SourceError, match=r"`x` must .*but org/model/adapter_config\.json belongs"):
        refuse_adapter("org/model", revision="abc", where="`x`")
    monkeypatch.setattr(weights, "find_adapter_config_file", lambda name, revision: None)
    refuse_adapter("org/model", revision="abc", where="`x`")
