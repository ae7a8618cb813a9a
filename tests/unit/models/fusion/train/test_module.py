"""The loss inside the module, for every kind of head."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, Gemma2Config

from models.fusion.buckets import TeacherRows
from models.fusion.losses import fusion_loss_from_logits
from models.fusion.train.batches import FusionBatch
from models.fusion.train.module import FusionModule
from models.lm.lora import add_adapters
from models.params.lora import LoraParams

V, K = 40, 3


def softcapped():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 8}
    config = Gemma2Config(vocab_size=V, num_key_value_heads=1, final_logit_softcapping=2.0, sliding_window=64, **sizes)
    return AutoModelForCausalLM.from_config(config)


def from_folder(folder):
    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.fixture(params=["llama", "mistral", "gpt_neox", "mpt", "softcapped"])
def model(request, pico_folder):
    return softcapped() if request.param == "softcapped" else from_folder(pico_folder(request.param))


def teacher(rows, rng):
    logits = rng.normal(0, 2, (rows, V))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = np.argsort(-log_p, axis=1)[:, :K].copy()
    top = np.take_along_axis(log_p, ids, axis=1)
    tail = np.log1p(-np.exp(top).sum(1))
    arrays = (torch.from_numpy(ids), torch.from_numpy(top).float(), torch.from_numpy(tail).float())
    return TeacherRows(*arrays, torch.from_numpy(rng.random(rows) < 0.7))


def make_batch(*, infer=True):
    """Rows of unequal length: [P P r r] and [P r r r r], the first of inference mode."""
    rng = np.random.default_rng(5)
    rows = [rng.integers(3, V, 4), rng.integers(3, V, 6)]
    ids = np.zeros((2, 6), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    positions, labels = [1, 2, 3, 6, 7, 8, 9, 10], rng.integers(3, V, 8)
    split = 3 if infer else 0
    return FusionBatch(
        input_ids=torch.from_numpy(ids),
        positions=torch.tensor(positions),
        labels=torch.from_numpy(labels),
        num_infer=split,
        infer_teacher=teacher(3, rng) if infer else None,
        train_teacher=teacher(8 - split, rng),
        step=0,
        row_ids=("x", "y"),
        num_inputs=10,
    )


def dense(logits, labels, rows, beta):
    """L_SFT + β·KL of rows [N, V], by definition in float64."""
    log_q = F.log_softmax(logits.double(), dim=-1)
    total = F.nll_loss(log_q, labels, reduction="sum")
    for n in torch.nonzero(rows.has)[:, 0]:
        tail = rows.tail[n].double().exp()
        p = torch.cat([F.softmax(rows.logprobs[n].double(), 0) * (1 - tail), tail[None]])
        q = torch.cat([log_q[n].exp()[rows.ids[n]], 1 - log_q[n].exp()[rows.ids[n]].sum()[None]])
        total = total + beta * (p * (p.log() - q.log())).sum()
    return total


def test_loss_and_gradient_of_a_batch(model):
    batch, module = make_batch(), FusionModule(model, chunk=2)
    assert module.fused == (type(model).__name__ != "Gemma2ForCausalLM")
    out = module(batch, scale_infer=0.25, scale_train=2.0, beta=0.3)
    out.loss.backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    parts = []
    for row, length in ((0, 4), (1, 6)):  # each row by itself, unpadded
        parts.append(model(batch.input_ids[row : row + 1, :length]).logits[0])
    logits = [parts[0][1:4], parts[1][0:5]]
    expected = 0.25 * dense(logits[0], batch.labels[:3], batch.infer_teacher, 0.3)
    expected = expected + 2.0 * dense(logits[1], batch.labels[3:], batch.train_teacher, 0.3)
    expected.backward()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (out.infer.num_tokens, out.train.num_tokens) == (3, 5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(got[name], p.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_one_mode_alone(model):
    out = FusionModule(model)(make_batch(infer=False), scale_infer=9.0, scale_train=1.0, beta=0.0)
    assert out.infer is None and out.train.num_tokens == 8
    torch.testing.assert_close(out.loss, out.train.sft_sum)


def test_batch_without_positions_gives_every_parameter_a_zero_gradient(model):
    nothing = torch.zeros(0, dtype=torch.long)
    batch = FusionBatch(torch.zeros(1, 1, dtype=torch.long), nothing, nothing, 0, None, None, 0, (), 0)
    out = FusionModule(model)(batch, scale_infer=1.0, scale_train=1.0, beta=0.1)
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("modules", [("q_proj", "lm_head"), ("q_proj", "embed_tokens"), "all-linear"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_adapters_take_part_in_the_loss(pico_folder, modules, dropout):
    """Loss and gradients are those of the adapted model's own logits, wherever the adapters are."""
    pytest.importorskip("peft")
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(pico_folder("llama"), tie_word_embeddings=False)
    lora = LoraParams(rank=3, dropout=dropout, target_modules=modules)
    lm = add_adapters(AutoModelForCausalLM.from_config(config).double(), lora).double()
    module, batch = FusionModule(lm), make_batch()
    assert module.fused
    for name, parameter in lm.named_parameters():  # as after some steps
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    module.train(dropout == 0.0)  # in evaluation mode dropout does nothing, on both sides
    out = module(batch, scale_infer=0.5, scale_train=0.25, beta=0.3)
    out.loss.backward()
    ours = {name: p.grad.clone() for name, p in lm.named_parameters() if p.requires_grad}
    lm.zero_grad()
    logits = lm(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
    split = batch.num_infer
    parts = [(slice(0, split), batch.infer_teacher, 0.5), (slice(split, None), batch.train_teacher, 0.25)]
    expected = sum(s * fusion_loss_from_logits(logits[r], batch.labels[r], t, beta=0.3).objective for r, t, s in parts)
    expected.backward()
    torch.testing.assert_close(out.loss, expected, atol=1e-9, rtol=1e-9)
    assert ours and ("lm_head" in modules) == any("lm_head" in name for name in ours)
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-8, rtol=1e-6, msg=name)
            assert parameter.grad.abs().sum() > 0, name


def test_dropout_of_a_heads_adapter_is_drawn(pico_folder):
    pytest.importorskip("peft")
    config = AutoConfig.from_pretrained(pico_folder("llama"), tie_word_embeddings=False)
    lm = add_adapters(AutoModelForCausalLM.from_config(config), LoraParams(dropout=0.5, target_modules=("lm_head",)))
    module, batch = FusionModule(lm).train(), make_batch()
    torch.nn.init.normal_(lm.get_base_model().lm_head.lora_B["default"].weight)
    losses = {module(batch, scale_infer=1.0, scale_train=1.0, beta=0.0).loss.item() for _ in range(4)}
    assert len(losses) == 4
