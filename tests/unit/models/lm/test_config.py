"""Configs that do not say what the pipeline relies on: refused with file, key, value and rule."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.quantizers.auto import AutoHfQuantizer

from models.errors import SourceError
from models.lm.loading import load_model
from models.lm.resolve import resolve_reward_model, resolve_source
from models.params.sources import RewardModelSpec, SourceSpec
from models.schema import ResolvedSource


@pytest.fixture
def folder(pico_folder: Callable[..., Path], tmp_path: Path) -> Path:
    return shutil.copytree(pico_folder("llama"), tmp_path / "m")


def resolve(folder: Path, **settings: object) -> ResolvedSource:
    spec = SourceSpec(name="owl", model=str(folder), **{"chat_template": "plain", **settings})  # type: ignore[arg-type]
    return resolve_source(spec, root=folder)


def change(folder: Path, name: str = "config.json", **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "text",
    [
        b"[]", b"", b"null", b"3", b"{}", b"{", b"\xef\xbb\xbf{}", b"\xff\xfe{}", b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"model_type": "llama", "architectures": ["\\ud800"]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_file_that_is_no_object_of_whole_characters(folder: Path, name: str, text: bytes) -> None:
    (folder / name).write_bytes(text)
    if name == "generation_config.json" and text == b"{}":
        assert resolve(folder).name == "owl"
        return
    with pytest.raises(
        SourceError, match=rf"^`sources\.models\[owl\]`: the config of .* cannot be loaded: {name} must "
    ) as caught:
        resolve(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[
            (key, value)
            for key in ("vocab_size", "hidden_size", "num_attention_heads")
            for value in ("9", -1, 0, True, 3.0, [], {})
        ],
        *[("max_position_embeddings", value) for value in (0, -1, 15, 10**12, True, "512", 512.0, [512])],
        *[("num_hidden_layers", value) for value in (0, 10**9, "2")],
        *[("pad_token_id", value) for value in (-1, 10**6, 1.0, True, "x", [1])],
        *[("eos_token_id", value) for value in ([], [1, -1], [10**6], [True], "x")],
        *[("torch_dtype", value) for value in ("float99", 3, "int8", "nn")],
        *[("rms_norm_eps", value) for value in (-1.0, 2.0, "x")],
        *[("rope_theta", value) for value in (0, "x", True)],
        ("hidden_act", "nonsense"),
        ("model_type", "nonsense"),
        ("model_type", None),
        ("model_type", 3),
        ("architectures", "LlamaForCausalLM"),
        ("architectures", [3]),
        ("architectures", ["NonsenseForCausalLM"]),
        ("architectures", ["LlamaModel"]),
        *[("quantization_config", value) for value in ({}, [], "x", {"quant_method": "nonsense"}, {"quant_method": ["fp8"]})],
        *[("output_hidden_states", value) for value in ("x", 1, [])],
        ("return_dict", False),
        ("is_encoder_decoder", True),
        ("num_hidden_layers", 1),
        ("text_config", 3),
    ],
)
def test_a_value_that_the_pipeline_cannot_rely_on(folder: Path, key: str, value: object) -> None:
    change(folder, **{key: value})
    with pytest.raises(SourceError, match=rf"^`sources\.models\[owl\]`: `{key}` must .*, but is .*/config\.json\)\. ") as caught:
        resolve(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rope", "key"),
    [
        (3, "rope_scaling"),
        ({"rope_type": "nonsense"}, "rope_scaling.rope_type"),
        ({"type": ["linear"]}, "rope_scaling.rope_type"),
        ({"type": "linear", "factor": 0}, "rope_scaling.factor"),
        ({"type": "linear", "factor": "2"}, "rope_scaling.factor"),
        ({"full_attention": {"rope_type": "default", "rope_theta": -1}}, "rope_scaling.full_attention.rope_theta"),
    ],
)
def test_positions(folder: Path, rope: object, key: str) -> None:
    change(folder, rope_scaling=rope)
    with pytest.raises(SourceError, match=f"`{key}` must "):
        resolve(folder)


@pytest.mark.parametrize("value", [-1, 340_000, True, [1, 340_000], "x"])
def test_ends_of_the_generation_config(folder: Path, value: object) -> None:
    change(folder, "generation_config.json", eos_token_id=value)
    with pytest.raises(SourceError, match=r"`eos_token_id` must be a row of the embedding .*generation_config\.json"):
        resolve(folder)
    change(folder, "generation_config.json", eos_token_id=[1, 2])
    assert resolve(folder).name == "owl"


def test_what_may_be_absent(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    for key in ("architectures", "torch_dtype", "dtype", "pad_token_id", "transformers_version"):
        values.pop(key, None)
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "generation_config.json").unlink(missing_ok=True)
    assert resolve(folder).architecture == "LlamaForCausalLM"


def test_a_reward_model_that_pads_with_no_row(folder: Path) -> None:
    change(folder, pad_token_id=-1)
    with pytest.raises(SourceError, match=r"^`sources\.reward_models\[rm\]`: `pad_token_id` must be a row .*, but is -1"):
        resolve_reward_model(RewardModelSpec(name="rm", model=str(folder)), root=folder)


def test_tokens_without_a_row(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(SourceError, match=r"every token must have a row .*, but '<extra>' has the id \d+ and there are \d+ rows"):
        resolve(folder)


@pytest.mark.parametrize("longest", ["x", -1, True])
def test_the_tokenizers_own_limit(folder: Path, longest: object) -> None:
    change(folder, "tokenizer_config.json", model_max_length=longest)
    with pytest.raises(SourceError):
        resolve(folder)


def test_an_encoder_decoder_given_as_causal(folder: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    BartForConditionalGeneration(BartConfig(vocab_size=340, **sizes, **heads)).save_pretrained(folder)
    with pytest.raises(SourceError, match=r"`is_encoder_decoder` must be false|`architectures` must name"):
        resolve(folder)


def test_weights_of_other_sizes_and_torn_ones(folder: Path, pico_folder: Callable[..., Path]) -> None:
    good = (folder / "model.safetensors").read_bytes()
    shutil.copy(pico_folder("llama", 400) / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(SourceError, match=r"has the shape \[400, 32\] instead of \[\d+, 32\] \(`vocab_size` is \d+\)"):
        resolve(folder)
    (folder / "model.safetensors").write_bytes(good[: len(good) // 2])
    with pytest.raises(SourceError, match=r"model\.safetensors must be whole safetensors, but cannot be read"):
        resolve(folder)


def quantise(folder: Path) -> None:
    """Store the linear weights as float8 with one scale a block, as published FP8 checkpoints are."""
    whole = load_file(folder / "model.safetensors")
    stored: dict[str, torch.Tensor] = {}
    for name, weight in whole.items():
        if name.endswith("proj.weight"):
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale.expand([-(-size // 128) for size in weight.shape]).contiguous()
        else:
            stored[name] = weight
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    how = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    change(folder, quantization_config=how)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU reads float8 as it is")
def test_quantised_weights_that_transformers_reads_here(folder: Path) -> None:
    whole = load_model(resolve(folder), device="cpu")
    quantise(folder)
    model = load_model(resolve(folder), device="cpu")
    for (name, weight), own in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert torch.allclose(weight, own, atol=0.07 * float(own.detach().abs().max())), name


def test_quantised_weights_that_nothing_reads_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object, **__: object) -> None:
        raise ImportError("needs a package that is not installed\nand more")

    monkeypatch.setattr(AutoHfQuantizer, "from_config", lacking)
    change(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(
        SourceError, match=r"`quantization_config` must be of a method that can be loaded here \(needs a"
    ) as caught:
        resolve(folder)
    assert "\n" not in str(caught.value)
