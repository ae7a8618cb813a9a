"""Counted operations of a tiny causal LM against the formulas."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.dialogue.generators.decoder_only.model import CausalGenerator
from models.dialogue.generators.decoder_only.prompt import EntityTokens
from models.params.dialogue import DialogueParams, GeneratorParams, PicoT5
from models.params.retriever import RetrieverParams
from models.planning import causal_footprint
from models.planning.dialogue_footprint import DialogueModels, DialogueSize, Reading
from models.planning.dialogue_training_cost import JointCost, StepMode
from models.planning.footprint import ModelSize

READING = Reading(passages=4, passage_tokens=30 + 12, context_tokens=30, response_tokens=9)
SMOLLM2 = ModelSize(134_515_008, 49_152, 576, 30, gated=True, kv_width=192)
SIZE = DialogueSize(
    num_train=800, num_valid=50, num_test=70, num_entities=110, context_tokens=80, entity_tokens=48, response_tokens=19
)


@pytest.fixture(scope="module")
def counted() -> tuple[ModelSize, dict[str, int], CausalGenerator]:
    cfg = GeneratorParams(kind="causal", pico=PicoT5(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2))
    generator = CausalGenerator.build(cfg, texts=lambda: ["a place"], special_tokens=(), root=Path(), seed=0).eval()
    generator.model.set_attn_implementation("eager")
    assert generator._reader.shares
    entities = [[EntityTokens([], [5] * 12)] * 4]
    encoded = generator.encode([[6] * 30], entities, device="cpu")
    response = torch.full((1, 9), 7), torch.ones(1, 9, dtype=torch.bool)
    found = {}
    for name in ("response_logprobs", "single_logprobs"):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            getattr(generator, name)(encoded, *response)
        found[name] = counter.get_total_flops()
    count = sum(p.numel() for p in generator.parameters())
    return ModelSize(count, 300, 32, 2, gated=True), found, generator


def test_operations_are_those_counted(counted: tuple[ModelSize, dict[str, int], CausalGenerator], monkeypatch) -> None:
    model, found, generator = counted
    frame = generator.builder.frame
    monkeypatch.setattr(causal_footprint, "_FRAME", len(frame.head) + len(frame.middle))
    monkeypatch.setattr(causal_footprint, "_TAIL", len(frame.tail))
    branches = causal_footprint.branches_flops(model, READING)
    assert branches == pytest.approx(found["single_logprobs"], rel=0.05)
    # Plain attention computes the half that is masked, too.
    masked = 2 * model.num_layers * model.hidden_size * causal_footprint.together_tokens(READING) ** 2
    assert causal_footprint.together_flops(model, READING) + masked == pytest.approx(found["response_logprobs"], rel=0.05)


def joint(**generator: object) -> JointCost:
    cfg = DialogueParams.model_validate(
        {"generator": {"kind": "causal", **generator}, "joint": {"steps": 10, "batch_size": 4, "micro_batch_size": 2}}
    )
    models = DialogueModels(encoder=ModelSize(22_000_000, 30_522, 384, 6), generator=SMOLLM2)
    return JointCost(models, SIZE, cfg=cfg, retriever=RetrieverParams(), variant="prompt")


def test_training_reads_each_entity_in_a_branch_and_adapters_save_memory() -> None:
    cost, alone = joint(), StepMode(False, False)
    reading = SIZE.reading(cost.cfg, variant="prompt", negative=True)
    assert reading.passage_tokens == 80 + 48 + 15 + 1
    together, branches = (f(SMOLLM2, reading) for f in (causal_footprint.together_flops, causal_footprint.branches_flops))
    assert cost.turn_flops(alone) == 3 * together
    assert cost.turn_flops(StepMode(True, True)) == 3 * (together + branches)
    stopped = replace(cost, cfg=cost.cfg.model_copy(update={"joint": cost.cfg.joint.model_copy(update={"stop_generator": True})}))
    assert stopped.turn_flops(StepMode(True, True)) == 3 * together + branches
    assert stopped.device_bytes() < cost.device_bytes()
    lora = joint(lora={"rank": 8})
    saved = 12 * SMOLLM2.num_parameters  # gradients and Adam's moments
    assert cost.device_bytes() - lora.device_bytes() == pytest.approx(saved, rel=0.05)
    assert joint(gradient_checkpointing=True).device_bytes() < 0.6 * cost.device_bytes()


def test_tags_are_text_on_top_of_the_budget() -> None:
    cfg = joint().cfg
    assert SIZE.reading(cfg, variant="prefix", negative=True).passage_tokens == 80 + 48 + 21 + 1
    cut = joint(max_entity_tokens=20).cfg
    assert SIZE.reading(cut, variant="prompt", negative=True).passage_tokens == 80 + 20 + 15 + 1
