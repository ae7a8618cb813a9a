import shutil

import pytest

from models import adapters
from models.adapters import refuse_adapter
from models.errors import SourceError
from models.generation.loading import load_model
from models.generation.resolve import resolve_reward_model, resolve_source
from models.generation.t5_loading import load_t5
from models.params.sources import RewardModelSpec, SourceSpec
from models.retrieval.encoder_folder import load_encoder

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
        with pytest.raises(SourceError, match=rf"must name a model whose weights are whole, but .*{name} is part of an adapter"):
            use()


def test_an_adapter_alone_and_one_on_the_hub(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SourceError, match="Merge it first"):
        refuse_adapter(str(tmp_path), revision=None, where="`x`")
    monkeypatch.setattr(adapters, "find_adapter_config_file", lambda name, revision: "/cache/adapter_config.json")
    with pytest.raises(SourceError, match=r"`x` must .*but org/model/adapter_config\.json is part"):
        refuse_adapter("org/model", revision="abc", where="`x`")
    monkeypatch.setattr(adapters, "find_adapter_config_file", lambda name, revision: None)
    refuse_adapter("org/model", revision="abc", where="`x`")
