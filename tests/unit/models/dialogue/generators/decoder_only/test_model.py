"""The causal generator on tiny random models: every likelihood against the plain way to compute it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from models.dialogue.data.records import Entity
from models.dialogue.generators.decoder_only.branches import BranchReader
from models.dialogue.generators.decoder_only.loading import CausalParts
from models.dialogue.generators.decoder_only.model import CausalGenerator
from models.dialogue.generators.kinds import load_generator
from models.dialogue.generators.trainable import pad_ids
from models.dialogue.train.objectives import log_marginal
from models.errors import ParamsError
from models.lm.pico.models import build_pico_model
from models.lm.resolve import resolve_source
from models.params.dialogue import GeneratorParams, PicoT5
from models.params.lora import LoraParams
from models.params.sources import PicoSpec, SourceSpec

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
META = "The top-1 recalled: with high confidence:"


def make(*, seed: int = 0, **more: object) -> CausalGenerator:
    cfg = GeneratorParams(kind="causal", pico=PicoT5(vocab_size=330, hidden_size=16, num_layers=2, num_heads=2), **more)
    return CausalGenerator.build(cfg, texts=lambda: TEXTS, special_tokens=(), root=Path(), seed=seed).eval()


def of_architecture(name: str, **config: object) -> CausalGenerator:
    made = make()
    codec = made.builder.codec
    spec = PicoSpec(architecture=name, vocab_size=330, hidden_size=16, num_layers=2, num_heads=2, seed=3)  # type: ignore[arg-type]
    model = build_pico_model(spec, codec).eval()
    for key, value in config.items():
        setattr(model.config, key, value)
    return CausalGenerator(made.cfg, CausalParts(model, codec, "{{ messages[0].content }}", 512, instructed=False))


@pytest.fixture(scope="module")
def generator() -> CausalGenerator:
    return make()


def batch_of(generator: CausalGenerator, *, meta: str = META) -> SimpleNamespace:
    """Three turns: three entities, one, none."""
    builder = generator.builder
    contexts = [
        builder.context_ids(["i want a hotel", "which area?", "the centre"]),
        builder.context_ids(["a cheap one please"]),
        builder.context_ids(["hello"], {"ref": ("x1y2",)}),
    ]
    entities = [[builder.entity_ids(e, meta) for e in ENTITIES], [builder.entity_ids(ENTITIES[1], "")], []]
    texts = ("golden house, 01223 351880.", "the old mill", "goodbye")
    ids, mask = pad_ids([builder.response_ids(t) for t in texts], pad_id=generator.pad_id, device="cpu")
    return SimpleNamespace(contexts=contexts, entities=entities, ids=ids, mask=mask)


def plain(generator: CausalGenerator, batch: SimpleNamespace, turn: int, entities: list[list[int]]) -> Tensor:
    """Log-probabilities of a turn's response by transformers alone: one unpadded row, all logits."""
    frame, response = generator.builder.frame, batch.ids[turn][batch.mask[turn]]
    prompt = [*frame.head, *batch.contexts[turn], *frame.middle, *(i for e in entities for i in e), *frame.tail]
    logits = generator.model(torch.tensor([[*prompt, *response.tolist()]])).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits, -1).gather(1, response[:, None])[:, 0]


def check_likelihoods(generator: CausalGenerator) -> None:
    batch = batch_of(generator)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    assert encoded.entity_mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    fused = generator.response_logprobs(encoded, batch.ids, batch.mask)
    single = generator.single_logprobs(encoded, batch.ids, batch.mask)
    bare = generator.context_logprobs(batch.contexts, batch.ids, batch.mask, device="cpu")
    keep = torch.tensor([[True, False, True], [False, False, False], [False, False, False]])
    some = generator.response_logprobs(encoded, batch.ids, batch.mask, keep=keep)
    assert fused.dtype == single.dtype == bare.dtype == torch.float32 and single.shape == (3, 3, batch.ids.shape[1])
    for turn in range(3):
        inside, entities = batch.mask[turn], batch.entities[turn]
        torch.testing.assert_close(
            fused[turn][inside], plain(generator, batch, turn, [e.whole for e in entities]), atol=1e-4, rtol=0
        )
        torch.testing.assert_close(bare[turn][inside], plain(generator, batch, turn, []), atol=1e-4, rtol=0)
        chosen = [e.whole for e, k in zip(entities, keep[turn].tolist(), strict=False) if k]
        torch.testing.assert_close(some[turn][inside], plain(generator, batch, turn, chosen), atol=1e-4, rtol=0)
        for k in range(3):
            if k < len(entities):
                wanted = plain(generator, batch, turn, [entities[k].pairs])
                torch.testing.assert_close(single[turn, k][inside], wanted, atol=1e-4, rtol=0)
            else:
                assert (single[turn, k] == 0).all()
        assert (fused[turn][~inside] == 0).all() and (single[turn, :, ~inside] == 0).all()
    assert (single[0, 0] - single[0, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "config", "shares"),
    [
        ("llama", {}, True),
        ("llama", {"_attn_implementation": "eager"}, True),
        ("gpt_neox", {}, True),
        ("mistral", {}, True),
        ("mistral", {"sliding_window": 64}, False),
        ("mpt", {}, False),
    ],
)
def test_likelihoods_are_those_of_rows_of_their_own(name: str, config: dict[str, object], *, shares: bool) -> None:
    generator = of_architecture(name, **config)
    assert generator._reader.shares == shares
    check_likelihoods(generator)


def test_a_head_that_is_no_matrix_product_gives_full_logits() -> None:
    generator = make()
    reader = BranchReader(generator.model, pad_id=0, longest=64)
    reader._head, reader.shares = None, False
    generator.__dict__["_reader"] = reader
    check_likelihoods(generator)


def test_branches_of_a_turn_take_one_row(generator: CausalGenerator) -> None:
    batch = batch_of(generator)
    seen: list[torch.Size] = []
    handle = generator.model.model.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(given["input_ids"].shape), with_kwargs=True
    )
    try:
        encoded = generator.encode(batch.contexts[:1], batch.entities[:1], device="cpu")
        generator.single_logprobs(encoded, batch.ids[:1], batch.mask[:1])
    finally:
        handle.remove()
    frame, response = generator.builder.frame, int(batch.mask[0].sum()) - 1
    prefix = len(frame.head) + len(batch.contexts[0]) + len(frame.middle)
    branches = sum(len(e.pairs) + len(frame.tail) + response for e in batch.entities[0])
    assert seen[-1] == (1, prefix + branches)


def test_meta_knowledge_is_read_with_all_entities_and_never_with_one(generator: CausalGenerator) -> None:
    """The likelihoods of single entities teach the retriever: what the retriever says of itself must not reach them."""
    values = []
    for meta in ("", META, "The negative entity recalled: with low confidence: newly recalled:"):
        batch = batch_of(generator, meta=meta)
        encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
        fused, single = (f(encoded, batch.ids, batch.mask) for f in (generator.response_logprobs, generator.single_logprobs))
        values.append((fused[0], single))
    assert torch.equal(values[0][1], values[1][1]) and torch.equal(values[1][1], values[2][1])
    assert (values[0][0] - values[1][0]).abs().max() > 1e-4 and (values[1][0] - values[2][0]).abs().max() > 1e-4


def test_a_long_entity_loses_the_same_pairs_whatever_is_said_of_it() -> None:
    builder = make(max_entity_tokens=24).builder
    bare, described = builder.entity_ids(ENTITIES[1], ""), builder.entity_ids(ENTITIES[1], META)
    assert bare.pairs == described.pairs and len(bare.pairs) <= 24 and not bare.meta and described.meta
    text = builder.text(bare.pairs)
    assert text.startswith("name the old mill") and "postcode" not in text


def gradients(generator: CausalGenerator, value: Callable[[CausalGenerator], Tensor]) -> dict[str, Tensor]:
    generator.zero_grad()
    value(generator).backward()
    return {n: p.grad.clone() for n, p in generator.named_parameters() if p.grad is not None}


SCORES = torch.tensor([[0.4, -0.1, 0.2], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])


def mml(generator: CausalGenerator, batch: SimpleNamespace, scores: Tensor = SCORES) -> Tensor:
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    single = generator.single_logprobs(encoded, batch.ids, batch.mask)
    return -log_marginal(scores, single, batch.mask, entity_mask=encoded.entity_mask, temperature=0.5, form="token").sum()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_of_mml_is_that_of_rows_of_their_own(*, checkpointing: bool) -> None:
    usual, ours = make(), make(gradient_checkpointing=checkpointing).train()
    batch = batch_of(ours)

    def naive(g: CausalGenerator) -> Tensor:
        single, mask = torch.zeros(3, 3, batch.ids.shape[1]), torch.zeros(3, 3, dtype=torch.bool)
        for turn, entities in enumerate(batch.entities):
            for k, entity in enumerate(entities):
                single = single.index_put(
                    (torch.tensor(turn), torch.tensor(k), batch.mask[turn].nonzero()[:, 0]), plain(g, batch, turn, [entity.pairs])
                )
                mask[turn, k] = True
        return -log_marginal(SCORES, single, batch.mask, entity_mask=mask, temperature=0.5, form="token").sum()

    a, b = gradients(ours, lambda g: mml(g, batch)), gradients(usual, naive)
    assert ours.model.is_gradient_checkpointing == checkpointing and a.keys() == b.keys()
    for name, grad in a.items():
        torch.testing.assert_close(grad, b[name], atol=1e-5, rtol=1e-3)
    assert all(grad.abs().sum() > 0 for grad in a.values())


def test_gradient_of_mml_by_finite_differences() -> None:
    """Of weights and of scores, in float64 but for the log-probabilities, which are float32."""
    generator, random = make(), torch.Generator().manual_seed(1)
    batch, scores = batch_of(generator), SCORES.clone().requires_grad_()
    found = gradients(generator, lambda g: mml(g, batch, scores))
    direction = {n: torch.randn(p.shape, generator=random) for n, p in generator.named_parameters()}
    slope = sum(float((found[n] * d).sum()) for n, d in direction.items())

    def shifted(size: float) -> float:
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                parameter.add_(direction[name], alpha=size)
            value = float(mml(generator, batch).double())
            for name, parameter in generator.named_parameters():
                parameter.sub_(direction[name], alpha=size)
        return value

    step = 2e-3
    assert (shifted(step) - shifted(-step)) / (2 * step) == pytest.approx(slope, rel=0.02)
    with torch.no_grad():
        for k in range(3):
            moved = torch.zeros_like(SCORES)
            moved[0, k] = 1e-2
            difference = float(mml(generator, batch, SCORES + moved) - mml(generator, batch, SCORES - moved)) / 2e-2
            assert difference == pytest.approx(float(scores.grad[0, k]), abs=2e-3)  # type: ignore[index]


def test_autocast_gives_float32_near_the_full_precision(generator: CausalGenerator) -> None:
    batch = batch_of(generator)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    exact = generator.single_logprobs(encoded, batch.ids, batch.mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = generator.single_logprobs(encoded, batch.ids, batch.mask)
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()


def test_leave_one_out_reads_the_others(generator: CausalGenerator) -> None:
    batch = batch_of(generator)
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    left_out = generator.leave_one_out_logprobs(encoded, batch.ids, batch.mask)
    others = plain(generator, batch, 0, [batch.entities[0][0].whole, batch.entities[0][2].whole])
    torch.testing.assert_close(left_out[0, 1][batch.mask[0]], others, atol=1e-4, rtol=0)


def test_answers_are_greedy_and_do_not_depend_on_the_batch() -> None:
    generator = make()
    batch = batch_of(generator)
    with torch.no_grad():  # else a model with tied embeddings repeats the last token
        for layer in generator.model.model.layers:
            layer.self_attn.o_proj.weight.mul_(200)
    together = generator.generate(batch.contexts, batch.entities, max_new_tokens=6, device="cpu")
    turns = zip(batch.contexts, batch.entities, strict=True)
    alone = [generator.generate([c], [e], max_new_tokens=6, device="cpu")[0] for c, e in turns]
    prompt = generator._prompt(batch.contexts[0], batch.entities[0])
    for _ in range(6):
        prompt.append(int(generator.model(torch.tensor([prompt])).logits[0, -1].argmax()))
    assert together == alone and len(set(together)) > 1
    assert together[0] == generator.builder.text(prompt[-6:])
    assert generator.num_prompt_tokens(batch.contexts[0], batch.entities[0]) == len(prompt) - 6
    assert generator.generate([], [], device="cpu") == []
    assert len(generator.generate(batch.contexts[:1], batch.entities[:1], num_beams=2, device="cpu")) == 1


def test_saved_and_loaded_it_is_the_same_and_a_source(tmp_path: Path) -> None:
    generator = make(seed=4, chat_template="chatml")
    generator.save(tmp_path / "g")
    loaded, batch = load_generator(tmp_path / "g", device="cpu"), batch_of(generator)
    assert isinstance(loaded, CausalGenerator) and not loaded.training and loaded.digest() == generator.digest()
    assert loaded.builder.frame == generator.builder.frame
    encoded = generator.encode(batch.contexts, batch.entities, device="cpu")
    assert torch.equal(*(g.single_logprobs(encoded, batch.ids, batch.mask) for g in (generator, loaded)))
    source = resolve_source(SourceSpec(name="agent", model=str(tmp_path / "g")), root=tmp_path)
    assert source.end_ids == generator.builder.codec.end.stops and "im_start" in source.chat_template


def test_adapters_alone_are_trained_and_merged_when_saved(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    generator = make(lora=LoraParams(rank=2, alpha=8.0), gradient_checkpointing=True).train()
    batch = batch_of(generator)
    found = gradients(generator, lambda g: mml(g, batch))
    assert found and all("lora_" in name for name in found)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    generator.eval().save(tmp_path / "g")
    loaded, encoded = load_generator(tmp_path / "g", device="cpu"), generator.encode(batch.contexts, batch.entities, device="cpu")
    ours, theirs, untouched = (g.single_logprobs(encoded, batch.ids, batch.mask) for g in (generator, loaded, make()))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert (ours - untouched).abs().max() > 1e-2 and not any("lora" in name for name, _ in loaded.named_parameters())


def test_budgets_that_the_model_cannot_read_are_refused(generator: CausalGenerator) -> None:
    generator.require_room(1, ["", META])
    with pytest.raises(ParamsError, match=r"5 entities in training, \d+ tokens\) fit into the 512 tokens"):
        generator.require_room(5, ["", META])
