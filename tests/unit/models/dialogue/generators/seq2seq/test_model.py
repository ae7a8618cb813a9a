"""The T5 generator on tiny random models: every likelihood against the plain way to compute it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from models.dialogue.data.records import Entity
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.dialogue.generators.trainable import pad_ids
from models.errors import SourceError
from models.params.dialogue import GeneratorParams, PicoT5

TEXTS = [
    "i want a cheap hotel in the north",
    "the golden house is at 12 mill road, phone 01223 351880, postcode cb2 1ab",
    "name golden house ; area centre ; phone 01223 351880 ; the top-1 recalled: with high confidence:",
] * 3
ENTITIES = [
    Entity("a", "hotel", {"name": "golden house", "area": "centre", "phone": "01223 351880"}),
    Entity("b", "hotel", {"name": "the old mill", "area": "north", "phone": "4843", "postcode": "cb2 1ab"}),
    Entity("c", "hotel", {"name": "penes lodge", "area": "south"}),
]


def make(fusion: str = "fid", *, seed: int = 0, **more: object) -> Seq2SeqGenerator:
    cfg = GeneratorParams(
        pico=PicoT5(vocab_size=330, hidden_size=16, num_layers=2, num_heads=2, dropout=0.2), fusion=fusion, **more
    )
    return Seq2SeqGenerator.build(
        cfg, texts=lambda: TEXTS, special_tokens=("<1th-entity>", "<new-entity>"), root=Path(), seed=seed
    ).eval()


@pytest.fixture(scope="module")
def generator() -> Seq2SeqGenerator:
    return make()


@pytest.fixture(scope="module")
def batch(generator: Seq2SeqGenerator) -> SimpleNamespace:
    """Three turns: three entities, one, none."""
    builder = generator.builder
    contexts = [
        builder.context_ids(["i want a hotel", "which area?", "the centre"]),
        builder.context_ids(["a cheap one please"]),
        builder.context_ids(["hello"], {"ref": ("x1y2",)}),
    ]
    entities = [
        [builder.entity_ids(e, "<1th-entity> <new-entity>") for e in ENTITIES],
        [builder.entity_ids(ENTITIES[1], "")],
        [],
    ]
    ids, mask = pad_ids(
        [builder.response_ids(t) for t in ("golden house, 01223 351880.", "the old mill", "goodbye")],
        pad_id=generator.pad_id,
        device="cpu",
    )
    return SimpleNamespace(contexts=contexts, entities=entities, ids=ids, mask=mask)


def plain(generator: Seq2SeqGenerator, passages: list[list[int]], response: Tensor) -> Tensor:
    """Log-probabilities of one response by transformers alone: encode each passage unpadded, join, decode with all logits."""
    model = generator.model
    states = torch.cat([model.encoder(input_ids=torch.tensor([p])).last_hidden_state for p in passages], 1)
    logits = model(encoder_outputs=(states,), labels=response[None]).logits[0]
    return torch.log_softmax(logits, -1).gather(1, response[:, None])[:, 0]


def passages(generator: Seq2SeqGenerator, batch: SimpleNamespace, turn: int, chosen: list[int] | None = None) -> list[list[int]]:
    end = generator.tokenizer.eos_token_id
    entities = batch.entities[turn] if chosen is None else [batch.entities[turn][k] for k in chosen]
    context = batch.contexts[turn]
    if generator.cfg.fusion == "concat":
        return [[*context, *(i for e in entities for i in e), end]]
    return [[*context, *e, end] for e in entities] or [[*context, end]]


def close(ours: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(ours, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["fid", "concat"])
def test_response_logprobs_are_those_of_transformers(fusion: str, batch: SimpleNamespace) -> None:
    generator = make(fusion)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    assert encoded.entity_mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    ours = generator.response_logprobs(encoded, batch.ids, batch.mask)
    assert ours.dtype == torch.float32
    for turn in range(3):
        length = int(batch.mask[turn].sum())
        assert close(ours[turn, :length], plain(generator, passages(generator, batch, turn), batch.ids[turn, :length]))
        assert (ours[turn, length:] == 0).all()


def test_sum_is_minus_loss_times_tokens_for_one_passage(generator: Seq2SeqGenerator, batch: SimpleNamespace) -> None:
    (passage,) = passages(generator, batch, 1)
    labels = batch.ids[1][batch.mask[1]][None]
    loss = generator.model(input_ids=torch.tensor([passage]), labels=labels).loss
    encoded = generator.encode(batch.contexts[1:2], batch.entities[1:2], device="cpu")
    ours = generator.response_logprobs(encoded, labels, torch.ones_like(labels, dtype=torch.bool))
    assert labels[0, -1] == generator.tokenizer.eos_token_id
    assert ours.sum().item() == pytest.approx(-loss.item() * labels.shape[1], rel=1e-5)


@pytest.mark.parametrize("fusion", ["fid", "concat"])
def test_single_logprobs_are_those_of_one_entity(fusion: str, batch: SimpleNamespace) -> None:
    generator = make(fusion)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    single = generator.single_logprobs(encoded, batch.ids, batch.mask)
    assert single.shape == (3, 3, batch.ids.shape[1])
    for turn in range(3):
        length = int(batch.mask[turn].sum())
        for k in range(3):
            if k >= len(batch.entities[turn]):
                assert (single[turn, k] == 0).all()
                continue
            expected = plain(generator, passages(generator, batch, turn, [k]), batch.ids[turn, :length])
            assert close(single[turn, k, :length], expected)
    fused = generator.response_logprobs(encoded, batch.ids, batch.mask)
    assert close(single[1, 0], fused[1])


@pytest.mark.parametrize("fusion", ["fid", "concat"])
def test_keeping_entities_equals_dropping_the_others(fusion: str, batch: SimpleNamespace) -> None:
    generator = make(fusion)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    keep = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    ours = generator.response_logprobs(encoded, batch.ids, batch.mask, keep=keep)
    for turn, chosen in enumerate(([0, 2], [], [])):
        length = int(batch.mask[turn].sum())
        expected = plain(generator, passages(generator, batch, turn, chosen), batch.ids[turn, :length])
        assert close(ours[turn, :length], expected)


@pytest.mark.parametrize("fusion", ["fid", "concat"])
def test_leave_one_out(fusion: str, batch: SimpleNamespace) -> None:
    generator = make(fusion)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    ours = generator.leave_one_out_logprobs(encoded, batch.ids, batch.mask)
    length = int(batch.mask[0].sum())
    for k, rest in enumerate(([1, 2], [0, 2], [0, 1])):
        assert close(ours[0, k, :length], plain(generator, passages(generator, batch, 0, rest), batch.ids[0, :length]))
    bare = generator.context_logprobs(batch.contexts, batch.ids, batch.mask, device="cpu")
    assert close(ours[1, 0], bare[1])
    assert (ours[1, 1:] == 0).all()
    assert (ours[2] == 0).all()


def test_context_logprobs_read_no_entity(generator: Seq2SeqGenerator, batch: SimpleNamespace) -> None:
    ours = generator.context_logprobs(batch.contexts, batch.ids, batch.mask, device="cpu")
    for turn in range(3):
        length = int(batch.mask[turn].sum())
        expected = plain(generator, passages(generator, batch, turn, []), batch.ids[turn, :length])
        assert close(ours[turn, :length], expected)


def test_encoder_runs_once_for_all_likelihoods(generator: Seq2SeqGenerator, batch: SimpleNamespace) -> None:
    calls: list[int] = []
    handle = generator.model.encoder.register_forward_hook(lambda _m, _i, out: calls.append(len(out.last_hidden_state)))
    try:
        encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
        generator.response_logprobs(encoded, batch.ids, batch.mask)
        generator.single_logprobs(encoded, batch.ids, batch.mask)
        generator.passage_attention(encoded, batch.ids, batch.mask)
    finally:
        handle.remove()
    assert calls == [5]


def gradients(generator: Seq2SeqGenerator, value: Callable[[Seq2SeqGenerator], Tensor]) -> dict[str, Tensor]:
    generator.zero_grad()
    value(generator).backward()
    return {n: p.grad.clone() for n, p in generator.named_parameters() if p.grad is not None}


def test_gradients_of_fused_and_single_likelihoods_are_the_plain_ones(batch: SimpleNamespace) -> None:
    generator = make()

    def ours(g: Seq2SeqGenerator) -> Tensor:
        encoded = g.encode(batch.contexts, batch.entities, device="cpu")
        fused = g.response_logprobs(encoded, batch.ids, batch.mask)[0].sum()
        return fused + (torch.tensor([1.0, 2.0, 3.0]) * g.single_logprobs(encoded, batch.ids, batch.mask)[0].sum(1)).sum()

    def theirs(g: Seq2SeqGenerator) -> Tensor:
        response = batch.ids[0][batch.mask[0]]
        total = plain(g, passages(g, batch, 0), response).sum()
        for k in range(3):
            total = total + (k + 1) * plain(g, passages(g, batch, 0, [k]), response).sum()
        return total

    a, b = gradients(generator, ours), gradients(generator, theirs)
    assert a.keys() == b.keys()
    assert all(torch.allclose(a[n], b[n], atol=3e-4, rtol=1e-3) for n in a)
    assert all(grad.abs().sum() > 0 for grad in a.values())


def test_gradient_checkpointing_changes_nothing(batch: SimpleNamespace) -> None:
    def loss(g: Seq2SeqGenerator) -> Tensor:
        encoded = g.encode(batch.contexts, batch.entities, device="cpu")
        single = g.single_logprobs(encoded, batch.ids, batch.mask).sum()
        return single + g.response_logprobs(encoded, batch.ids, batch.mask).sum()

    usual, saving = make().train(), make(gradient_checkpointing=True).train()
    for module in [*usual.modules(), *saving.modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    a, b = gradients(usual, loss), gradients(saving, loss)
    assert saving.model.is_activation_checkpointing
    assert all(torch.allclose(a[n], b[n], atol=1e-4, rtol=1e-3) for n in a)
    encoded = saving.encode(batch.contexts, batch.entities, device="cpu")
    attention = saving.passage_attention(encoded, batch.ids, batch.mask)
    assert torch.allclose(attention, usual.eval().passage_attention(encoded, batch.ids, batch.mask), rtol=1e-4)


def test_autocast_gives_float32_near_the_full_precision(generator: Seq2SeqGenerator, batch: SimpleNamespace) -> None:
    def values() -> list[Tensor]:
        encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
        return [
            generator.response_logprobs(encoded, batch.ids, batch.mask),
            generator.single_logprobs(encoded, batch.ids, batch.mask),
            generator.passage_attention(encoded, batch.ids, batch.mask),
        ]

    exact = values()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = values()
    for a, b in zip(exact, rounded, strict=True):
        assert b.dtype == torch.float32
        assert torch.isfinite(b).all()
        assert (a - b).abs().max() < 0.05 * a.abs().max()
        assert not torch.equal(a, b)


def test_attention_is_probability_times_value_norm(generator: Seq2SeqGenerator, batch: SimpleNamespace) -> None:
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    ours = generator.passage_attention(encoded, batch.ids, batch.mask)
    model, length = generator.model, int(batch.mask[0].sum())
    alone = [model.encoder(input_ids=torch.tensor([p])).last_hidden_state for p in passages(generator, batch, 0)]
    states, ends = torch.cat(alone, 1), torch.tensor([s.shape[1] for s in alone]).cumsum(0).tolist()
    model.set_attn_implementation("eager")
    out = model(encoder_outputs=(states,), labels=batch.ids[:1, :length], output_attentions=True)
    model.set_attn_implementation("sdpa")
    by_token = torch.zeros(states.shape[1])
    for block, probs in zip(model.decoder.block, out.cross_attentions, strict=True):
        values = block.layer[1].EncDecAttention.v(states)[0].unflatten(-1, (2, 8)).norm(dim=-1)
        by_token += (probs[0].sum(1) * values.T).sum(0) / len(model.decoder.block) / length
    expected = [float(by_token[a:b].sum()) for a, b in zip([0, *ends], ends, strict=False)]
    assert ours[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert (ours[1, 1:] == 0).all()
    assert (ours[2] == 0).all()
    with pytest.raises(ValueError, match="fid"):
        make("concat").passage_attention(encoded, batch.ids, batch.mask)


@pytest.mark.parametrize("fusion", ["fid", "concat"])
def test_greedy_generation_is_the_stepwise_argmax(fusion: str, batch: SimpleNamespace) -> None:
    generator = make(fusion, seed=3).train()
    answers = generator.generate(batch.contexts, batch.entities, max_new_tokens=6, device="cpu")
    assert generator.training
    generator.eval()
    for turn, answer in enumerate(answers):
        parts = [generator.model.encoder(input_ids=torch.tensor([p])) for p in passages(generator, batch, turn)]
        states = torch.cat([p.last_hidden_state for p in parts], 1)
        ids = [generator.pad_id]
        while len(ids) < 7 and ids[-1] != generator.tokenizer.eos_token_id:
            logits = generator.model(encoder_outputs=(states,), decoder_input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
        assert answer == generator.builder.text(ids)


def test_beams_in_a_batch_are_those_of_each_turn_alone(batch: SimpleNamespace) -> None:
    generator = make(seed=3)
    beams = {"num_beams": 3, "max_new_tokens": 5}
    answers = generator.generate(batch.contexts, batch.entities, **beams, device="cpu")
    for turn, answer in enumerate(answers):
        parts = [generator.model.encoder(input_ids=torch.tensor([p])) for p in passages(generator, batch, turn)]
        states = BaseModelOutput(last_hidden_state=torch.cat([p.last_hidden_state for p in parts], 1))
        (ids,) = generator.model.generate(encoder_outputs=states, do_sample=False, **beams).tolist()
        assert answer == generator.builder.text(ids)
    assert answers != generator.generate(batch.contexts, batch.entities, max_new_tokens=5, device="cpu")
    assert generator.generate([], [], device="cpu") == []


def test_save_and_load_keep_the_digest_and_the_answers(tmp_path: Path, batch: SimpleNamespace) -> None:
    generator = make("concat", seed=4)
    folder = tmp_path / "deep" / "generator"
    for _ in range(2):  # the second replaces the first
        generator.save(folder)
    files = {p.name for p in folder.iterdir()}
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generator.json"} <= files
    assert [p.name for p in folder.parent.iterdir()] == ["generator"]
    loaded = Seq2SeqGenerator.load(folder, device="cpu")
    assert not loaded.training
    assert loaded.cfg == generator.cfg
    assert loaded.digest() == generator.digest() != make("concat", seed=5).digest() != make(seed=5).digest()
    a, b = (g.generate(batch.contexts, batch.entities, max_new_tokens=5, device="cpu") for g in (generator, loaded))
    assert a == b
    with torch.no_grad():
        loaded.model.lm_head.weight[3, 3] += 1e-3
    assert loaded.digest() != generator.digest()


def test_same_seed_same_generator() -> None:
    assert make(seed=1).digest() == make(seed=1).digest() != make(seed=2).digest()


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"generator\.json"):
        Seq2SeqGenerator.load(tmp_path, device="cpu")
    make().save(tmp_path / "g")
    (tmp_path / "g" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(SourceError, match="cannot be loaded"):
        Seq2SeqGenerator.load(tmp_path / "g", device="cpu")
