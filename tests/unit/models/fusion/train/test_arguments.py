"""The settings FSDP gets, and what torch's own `fully_shard` does with them in one process."""

import pytest
import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM

from models.errors import ParamsError
from models.fusion.train.arguments import check_sharding, make_arguments, precision_policy
from models.fusion.train.batches import FusionBatch
from models.fusion.train.module import FusionModule
from models.params.fusion import FusionParams
from models.params.runtime import Runtime


def params(**changes):
    return FusionParams(targets=("x",), **changes)


@pytest.mark.parametrize(("dtype", "gathered"), [("bfloat16", torch.bfloat16), ("float32", None)])
def test_gradients_are_added_up_in_float32_and_nothing_is_rounded(dtype, gathered, tmp_path, monkeypatch):
    monkeypatch.setattr("models.fusion.train.arguments.check_sharding", lambda *_, **__: None)  # there is no accelerator here
    runtime, cfg = Runtime(fsdp=True, nproc=2), params(dtype=dtype)
    args = make_arguments(cfg, runtime=runtime, device="cpu", layers=["LlamaDecoderLayer"], output_dir=tmp_path)
    assert args.accelerator_config.gradient_accumulation_kwargs == {"sync_each_batch": True}
    plugin = FullyShardedDataParallelPlugin(**args.fsdp_plugin_args)
    plugin.set_mixed_precision("bf16")  # as the accelerator does; what is given stays
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (gathered, torch.float32, None)
    assert (plugin.fsdp_version, plugin.transformer_cls_names_to_wrap) == (2, ["LlamaDecoderLayer"])


def test_sharding_with_adapters_is_allowed_and_on_the_cpu_refused():
    check_sharding(Runtime(fsdp=True, nproc=2), device="cuda")
    with pytest.raises(ParamsError, match=r"`runtime\.fsdp` needs accelerators"):
        check_sharding(Runtime(fsdp=True, nproc=2), device="cpu")


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_sharded_gradients_are_float32_and_wait_nowhere(one_process, pico_folder):
    """Two micro-batches under bfloat16: the loss stays float32, no rank holds a whole gradient between them."""
    torch.manual_seed(0)
    policy = precision_policy(params(dtype="bfloat16"))
    lm = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(pico_folder("llama")))
    vocab = lm.config.vocab_size
    module = FusionModule(lm)
    for layer in lm.model.layers:
        fully_shard(layer, mesh=one_process, mp_policy=policy)
    fully_shard(module, mesh=one_process, mp_policy=policy)
    batch = FusionBatch(
        torch.randint(0, vocab, (2, 9)), torch.arange(3, 13), torch.randint(0, vocab, (10,)), 0, None, None, 0, ("a", "b"), 18
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(2):
            loss = module(batch, scale_infer=0.0, scale_train=0.05, beta=0.0).loss
            assert loss.dtype == torch.float32
            loss.backward()
            assert not any(held(part) for part in module.modules())
    assert {(type(p.grad), p.grad.dtype) for p in module.parameters()} == {(DTensor, torch.float32)}


def held(part):
    """The whole gradients that a sharded module keeps for later."""
    if not isinstance(part, FSDPModule):
        return []
    group = part._get_fsdp_state()._fsdp_param_group
    parameters = group.fsdp_params if group else []
    return [p for p in parameters if p.unsharded_accumulated_grad is not None]
