"""Products with the head: the same numbers by either library, and autograd's own where gradients are wanted."""

import pytest
import torch
import torch.nn.functional as F

from models.errors import SourceError
from models.lm import head as module
from models.lm.head import add_product, head_of, head_product, zeros_for_sum


def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in ((13, 24), (70, 24), (70,), (13, 70))]


@pytest.fixture(params=["as found", "without oneDNN"])
def library(request, monkeypatch):
    if request.param == "without oneDNN":
        monkeypatch.setattr(module, "_has_onednn", lambda: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.usefixtures("library")
def test_products_are_those_of_float64(dtype):
    hidden, weight, bias, slope = tensors(dtype)
    wide = [t.double() for t in (hidden, weight, bias, slope)]
    close = {"rtol": 0.0, "atol": {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 0.15}[dtype]}
    torch.testing.assert_close(head_product(hidden, weight, bias).double(), F.linear(*wide[:3]), **close)
    torch.testing.assert_close(head_product(slope, weight.T).double(), wide[3] @ wide[1], **close)
    total = zeros_for_sum(weight, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    for rows in (slice(0, 8), slice(8, 13)):
        add_product(total, slope[rows], hidden[rows])
    assert total.shape == weight.shape
    torch.testing.assert_close(total.double(), wide[3].T @ wide[0], **close)


@pytest.mark.usefixtures("library")
def test_empty_sides_give_what_linear_gives():
    hidden, weight, bias, _ = tensors()
    assert head_product(hidden[:0], weight, bias).shape == (0, 70)
    assert torch.equal(head_product(hidden[:, :0], weight[:, :0], bias), bias.expand(13, -1))


@pytest.mark.usefixtures("library")
def test_gradients_flow_where_they_are_wanted():
    hidden, weight, _, slope = tensors()
    weight.requires_grad_()
    head_product(hidden, weight).backward(slope)
    torch.testing.assert_close(weight.grad, slope.T @ hidden)
    with torch.no_grad():
        torch.testing.assert_close(head_product(hidden, weight), F.linear(hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["llama", "mistral", "gpt_neox", "mpt"])
def test_head_makes_the_models_logits(pico_folder, arch, dtype):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pico_folder(arch), dtype=dtype).eval()
    backbone, weight, bias = head_of(model)
    ids = torch.tensor([[0, 9, 30, 7], [0, 5, 2, 2]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    with torch.no_grad():
        ours, theirs = F.linear(backbone(ids, mask), weight, bias), model(input_ids=ids, attention_mask=mask).logits
    assert weight is model.get_output_embeddings().weight and bias is None
    torch.testing.assert_close(ours[mask == 1], theirs[mask == 1])


def test_bias_is_part_of_the_head():
    from transformers import PhiConfig, PhiForCausalLM

    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = PhiForCausalLM(PhiConfig(**sizes)).eval()
    torch.nn.init.normal_(model.lm_head.bias)
    assert head_of(model).bias is model.lm_head.bias


def small(config_class, **more):
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return config_class(**sizes, num_key_value_heads=2, pad_token_id=None, bos_token_id=0, eos_token_id=1, **more)


def test_soft_capped_and_scaled_heads_are_refused():
    from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM

    capped = Gemma2ForCausalLM(small(Gemma2Config, head_dim=8, final_logit_softcapping=30.0)).eval()
    scaled = CohereForCausalLM(small(CohereConfig, logit_scale=0.9)).eval()
    for model in (capped, scaled):
        with pytest.raises(SourceError, match=f"The head of {type(model).__name__} must be one linear map"):
            head_of(model)
    assert head_of(Gemma2ForCausalLM(small(Gemma2Config, head_dim=8, final_logit_softcapping=None)).eval())


def test_adapters_are_part_of_the_backbone(pico_folder):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pico_folder("llama"))
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    ids = torch.tensor([[0, 9, 30, 7]])
    backbone, weight, _ = head_of(adapted)
    with torch.no_grad():
        ours, theirs = F.linear(backbone(ids, torch.ones_like(ids)), weight), adapted(input_ids=ids).logits
        with adapted.disable_adapter():
            plain = adapted(input_ids=ids).logits
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(ours, plain, atol=1e-3)


def test_probe_leaves_the_model_as_it_was(pico_folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(pico_folder("llama")).eval()
    ids = torch.tensor([[0, 9, 30]])
    with torch.no_grad():
        before = model(input_ids=ids).logits
        head_of(model)
        assert torch.equal(model(input_ids=ids).logits, before)
    assert not model.model._forward_hooks
