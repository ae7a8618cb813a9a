import json
import shutil
from pathlib import Path

import pytest

from models.errors import SourceError
from models.lm.resolve import resolve_reward_model, resolve_source
from models.lm.weights import folder_digest
from models.params.sources import RewardModelSpec, SourceSpec


def spec(model: object, **settings: object) -> SourceSpec:
    return SourceSpec(name="owl", model=str(model), **{"chat_template": "plain", **settings})


@pytest.mark.parametrize("arch", ["llama", "mistral", "gpt_neox", "mpt"])
def test_sizes_and_context_of_every_architecture(pico_folder, pico_tokenizer, arch):
    from transformers import AutoModelForCausalLM

    folder = pico_folder(arch)
    source = resolve_source(spec(folder), root=Path("/nowhere"))
    real = AutoModelForCausalLM.from_pretrained(folder)
    assert source.num_parameters == sum(p.numel() for p in real.parameters())
    assert source.head_size == source.vocab_size == len(pico_tokenizer)
    assert source.context_length == 128
    assert source.architecture == type(real).__name__
    assert source.digest == folder_digest(folder, where="")
    assert source.revision is None and Path(source.location) == folder


def test_folder_is_relative_to_root(pico_folder):
    folder = pico_folder("llama")
    source = resolve_source(spec(folder.name), root=folder.parent)
    assert source.location == str(folder)


def test_head_wider_than_tokenizer(pico_folder, pico_tokenizer):
    source = resolve_source(spec(pico_folder("llama", 400)), root=Path())
    assert (source.head_size, source.vocab_size) == (400, len(pico_tokenizer))


def test_context_length_is_the_users_up_to_the_models(pico_folder):
    folder = pico_folder("llama")
    assert resolve_source(spec(folder, context_length=64), root=Path()).context_length == 64
    with pytest.raises(SourceError, match=r"`sources\.models\[owl\]`: `context_length` must be at most 128.*but is 129"):
        resolve_source(spec(folder, context_length=129), root=Path())


def test_config_without_context_length_needs_one(pico_folder, tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    shutil.copytree(pico_folder("llama"), tmp_path / "bloom", ignore=shutil.ignore_patterns("config.json", "model.*"))
    config = BloomConfig(vocab_size=340, hidden_size=32, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path / "bloom")
    with pytest.raises(SourceError, match=r"names no context length\. Set `context_length`"):
        resolve_source(spec("bloom"), root=tmp_path)
    assert resolve_source(spec("bloom", context_length=99), root=tmp_path).context_length == 99


@pytest.mark.parametrize("model", ["./gone", "a/b/c", "/gone/for/ever"])
def test_missing_folder_names_key_and_path(tmp_path, model):
    with pytest.raises(SourceError, match=r"`sources\.models\[owl\]` names the folder .*, but it does not exist"):
        resolve_source(spec(model), root=tmp_path)


def test_missing_external_folder_hints_at_its_readme(tmp_path):
    with pytest.raises(SourceError, match="data/external is not part of the repository: the README"):
        resolve_source(spec("data/external/lms/none"), root=tmp_path)


def test_hub_name_needs_a_revision(tmp_path):
    with pytest.raises(SourceError, match=r"`sources\.models\[owl\]` names `org/model`.*needs `revision`, but that is null"):
        resolve_source(spec("org/model"), root=tmp_path)


def test_hub_offline_is_one_clear_error(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match=r"the config of org/model cannot be loaded: .*HF_HOME") as caught:
        resolve_source(spec("org/model", revision="abc"), root=tmp_path)
    assert "\n" not in str(caught.value)


def test_embedded_is_not_resolved_before_training(tmp_path):
    embedded = SourceSpec(name="owl", model="embedded", pico={})
    with pytest.raises(SourceError, match=r"is `embedded`: .* Run the `sources` stage first"):
        resolve_source(embedded, root=tmp_path)


def test_not_a_language_model(pico_folder, tmp_path):
    shutil.copytree(pico_folder("llama"), tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(SourceError, match="must be a causal language model, but cannot be built from its config"):
        resolve_source(spec("m"), root=tmp_path)
    (tmp_path / "m" / "config.json").write_text("{")
    with pytest.raises(SourceError, match=r"the config of .* cannot be loaded"):
        resolve_source(spec("m"), root=tmp_path)


def test_no_template(pico_folder):
    with pytest.raises(SourceError, match="`owl` has no chat template"):
        resolve_source(spec(pico_folder("llama"), chat_template=None), root=Path())


def test_reward_model_has_one_output_and_reads_plain(pico_folder, pico_tokenizer, tmp_path):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    sizes = {"vocab_size": 340, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for labels in (1, 2):
        LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=labels)).save_pretrained(tmp_path / str(labels))
        pico_tokenizer.save_pretrained(tmp_path / str(labels))
    source = resolve_reward_model(RewardModelSpec(name="rm", model="1"), root=tmp_path)
    assert source.head_size == 1 and "Q: " in source.chat_template
    with pytest.raises(SourceError, match=r"`sources\.reward_models\[rm\]` must give one score \(`num_labels` 1\), but gives 2"):
        resolve_reward_model(RewardModelSpec(name="rm", model="2"), root=tmp_path)
