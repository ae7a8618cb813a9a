import pytest
import torch
import torch.nn.functional as F

from models.errors import SourceError
from models.generation.head import head_of


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
