"""The trained target as a folder: reproducible, a source of its own, adapters merged."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from models.errors import ParamsError
from models.fusion.train.export import export_target
from models.fusion.train.run import train_fusion
from models.lm.lora import add_adapters, merged_state
from models.lm.source_file import read_source
from models.lm.weights import folder_digest
from models.params.fusion import FusionParams
from models.params.lora import LoraParams
from models.tokenization.loading import load_tokenizer, tokenizer_digest


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def export(folder, target, *, dtype="float32", scale=1.0):
    folder.mkdir(parents=True)
    model = AutoModelForCausalLM.from_pretrained(target.location)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(scale)
    tokenizer = load_tokenizer(target.location, source="x")
    target = replace(target, dtype=dtype)
    return model, export_target(model, model.state_dict(), folder, target=target, name="fused", tokenizer=tokenizer)


def test_result_is_a_source(fusion_inputs, tmp_path):
    target = fusion_inputs["target"]
    model, result = export(tmp_path / "a", target, scale=1.25)
    stored = json.loads((tmp_path / "a" / "source.json").read_text())
    assert stored["location"] == "." and str(tmp_path) not in json.dumps(stored)
    (tmp_path / "a").rename(tmp_path / "moved")
    source = read_source(tmp_path / "moved")
    assert (source.name, source.location) == ("fused", str(tmp_path / "moved"))
    assert source.digest == result.digest == folder_digest(tmp_path / "moved", where="x") != target.digest
    assert source.chat_template == target.chat_template and source.context_length == target.context_length
    assert tokenizer_digest(load_tokenizer(source.location, source="x")) == target.tokenizer_digest
    loaded = AutoModelForCausalLM.from_pretrained(source.location)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_the_result_stops_where_it_was_trained_to_end(fusion_inputs, tmp_path):
    """Whoever generates with the folder alone stops at the label, and at whatever else ends a turn of the target."""
    target = replace(fusion_inputs["target"], end_ids=(5, 1))
    export(tmp_path / "a", target)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "a").generation_config.eos_token_id == [5, 1]
    assert read_source(tmp_path / "a").end_ids == (5, 1)


def test_equal_weights_give_equal_bytes(fusion_inputs, tmp_path):
    for place in ("a", "deep/b"):
        export(tmp_path / place, fusion_inputs["target"])
    assert files(tmp_path / "a") == files(tmp_path / "deep" / "b")
    assert all(str(tmp_path).encode() not in data for data in files(tmp_path / "a").values())


def test_weights_are_written_in_the_targets_dtype_and_tied_ones_once(fusion_inputs, tmp_path):
    model, _ = export(tmp_path / "a", fusion_inputs["target"], dtype="bfloat16")
    with safe_open(tmp_path / "a" / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in stored and "model.embed_tokens.weight" in stored
    assert json.loads((tmp_path / "a" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not list((tmp_path / "a").glob("*.bin"))


@pytest.fixture
def untied(pico_folder):
    """A factory of one Llama whose head is a matrix of its own."""
    pytest.importorskip("peft")

    def make():
        torch.manual_seed(0)
        config = AutoConfig.from_pretrained(pico_folder("llama"), tie_word_embeddings=False)
        return AutoModelForCausalLM.from_config(config)

    return make


# --- adapters ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["llama", "gpt_neox", "mpt"])
def test_merged_state_answers_as_the_adapted_model(pico_folder, arch):
    pytest.importorskip("peft")
    adapted = add_adapters(AutoModelForCausalLM.from_pretrained(pico_folder(arch)), LoraParams(rank=3, alpha=6.0))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = adapted.eval()(input_ids=ids).logits

    plain = AutoModelForCausalLM.from_pretrained(pico_folder(arch))
    untouched = plain(input_ids=ids).logits
    plain.load_state_dict(merged_state(adapted.get_base_model()), strict=True)
    torch.testing.assert_close(plain(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    assert (untouched - expected).abs().max() > 0.05
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())


def randomised(model, **params):
    adapted = add_adapters(model, LoraParams(rank=3, alpha=6.0, **params))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return adapted


ENDS = ("q_proj", "embed_tokens", "lm_head")


def test_adapters_of_embedding_and_head_are_merged(untied):
    adapted, ids = randomised(untied(), target_modules=ENDS), torch.tensor([[5, 6, 7, 8]])
    expected = adapted.eval()(input_ids=ids).logits
    causal = adapted.get_base_model()
    plain = untied()
    plain.load_state_dict(merged_state(causal), strict=True)
    torch.testing.assert_close(plain(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)
    # From a state gathered elsewhere: what the model itself holds is not read.
    state = {name: tensor.clone() for name, tensor in causal.state_dict().items()}
    with torch.no_grad():
        for parameter in causal.parameters():
            parameter.zero_()
    for name, tensor in merged_state(causal, state).items():
        assert torch.equal(tensor, plain.state_dict()[name]), name


@pytest.mark.parametrize(("layer", "named"), [("lm_head", "head"), ("embed_tokens", "input embedding")])
def test_adapters_on_a_shared_matrix_are_refused(pico_folder, layer, named):
    pytest.importorskip("peft")
    model = AutoModelForCausalLM.from_pretrained(pico_folder("llama"))
    with pytest.raises(ParamsError, match=f"`fusion.lora.target_modules` must not name the {named} of .* one matrix.*all-linear"):
        add_adapters(model, LoraParams(target_modules=("q_proj", layer)))


def test_frozen_weights_may_be_bfloat16(fusion_call, recording_sink):
    """Adapters are float32 and take the same way as beside float32 weights, within rounding."""
    pytest.importorskip("peft")
    losses = {}
    for base in ("float32", "bfloat16"):
        lora = {"rank": 4, "target_modules": ["q_proj", "v_proj"], "base_dtype": base}
        call, sink = fusion_call(base, lora=lora, epochs=1.0, method="simul", dtype="bfloat16"), recording_sink()
        train_fusion(sink=sink, log_every=1, **call)
        losses[base] = [row["train/loss"] for row in sink.rows.values()]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.05)
    start = AutoModelForCausalLM.from_pretrained(call["target"].location).state_dict()
    end = AutoModelForCausalLM.from_pretrained(call["out"] / "model").state_dict()
    assert {n for n in start if (start[n].bfloat16() != end[n].bfloat16()).any()} <= {n for n in start if "_proj" in n}
    assert any((start[n].bfloat16().float() != end[n]).any() for n in start if "q_proj" in n)


def test_bfloat16_weights_need_bfloat16_training():
    with pytest.raises(ValueError, match=r"`lora\.base_dtype` must be float32 unless `dtype` is bfloat16"):
        FusionParams(targets=("x",), lora=LoraParams(base_dtype="bfloat16"))


def test_training_with_adapters_changes_adapted_layers_only(fusion_call, recording_sink):
    pytest.importorskip("peft")
    lora = {"rank": 4, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}
    call, sink = fusion_call(lora=lora, epochs=2.0), recording_sink()
    train_fusion(sink=sink, log_every=1, **call)
    start = AutoModelForCausalLM.from_pretrained(call["target"].location).state_dict()
    end = AutoModelForCausalLM.from_pretrained(call["out"] / "model").state_dict()
    assert start.keys() == end.keys()
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed == {name for name in start if "q_proj" in name or "v_proj" in name}
    assert not list(call["out"].rglob("adapter*"))


def test_missing_peft_names_the_extra(fusion_call, recording_sink, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ParamsError, match=r"`fusion.lora` needs the package peft.*extra `lora`"):
        train_fusion(sink=recording_sink(), **fusion_call(lora={}))


def test_unknown_layers_are_named(fusion_call, recording_sink):
    pytest.importorskip("peft")
    with pytest.raises(ParamsError, match=r"`fusion.lora.target_modules` must name layers of LlamaForCausalLM.*nowhere"):
        train_fusion(sink=recording_sink(), **fusion_call(lora={"target_modules": ["nowhere"]}))
