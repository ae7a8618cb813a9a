import pytest

from models.dialogue.train.objectives import TARGETS
from models.dialogue.train.schedule import DialogueSchedule, StepMode
from models.params.dialogue import VARIANTS, DialogueParams
from models.params.dialogue_evaluation import DialogueEvaluationParams, InContextParams, UnseenParams
from models.params.dialogues import DialoguesParams
from models.params.retriever import RetrieverParams
from models.planning.dialogue_estimate import estimate_dialogue_stages, index_bytes
from models.planning.dialogue_footprint import DialogueModels, DialogueSize, Reading, embed_flops, fused_flops, single_flops
from models.planning.dialogue_training_cost import JointCost, num_evaluations, num_refreshes
from models.planning.footprint import ModelSize
from models.planning.stage_estimate import PROCESS_BYTES, StageEstimate

BERT = ModelSize(110_000_000, 30_000, 768, 12)
T5 = ModelSize(223_000_000, 32_000, 768, 12)
MODELS = DialogueModels(encoder=BERT, generator=T5)
SIZE = DialogueSize(
    num_train=8000, num_valid=500, num_test=700, num_entities=223, context_tokens=98, entity_tokens=48, response_tokens=19
)
JOINT, ALONE, FROZEN = StepMode(True, True), StepMode(False, False), StepMode(True, False)


def dialogue(**joint: object) -> DialogueParams:
    given = {"steps": 200, "batch_size": 16, "micro_batch_size": 2} | joint
    return DialogueParams.model_validate({"num_retrieved": 7, "joint": given})


def retriever(**changed: object) -> RetrieverParams:
    return RetrieverParams.model_validate({"warm_start": {"steps": 100, "batch_size": 32, "negatives": 8}} | changed)


def stages(
    cfg: DialogueParams | None = None,
    *,
    size: DialogueSize = SIZE,
    models: DialogueModels = MODELS,
    variants: tuple[str, ...] = VARIANTS,
    evaluation: DialogueEvaluationParams | None = None,
    read: RetrieverParams | None = None,
) -> dict[str, StageEstimate]:
    made = estimate_dialogue_stages(
        models,
        size,
        dialogues=DialoguesParams(),
        retriever=read or retriever(),
        dialogue=cfg or dialogue(),
        evaluation=evaluation or DialogueEvaluationParams(),
        variants=variants,  # type: ignore[arg-type]
    )
    return {e.stage: e for e in made}


def cost(cfg: DialogueParams, variant: str = "none", size: DialogueSize = SIZE) -> JointCost:
    return JointCost(MODELS, size, cfg=cfg, retriever=retriever(), variant=variant)  # type: ignore[arg-type]


def test_stages_come_in_the_order_of_the_pipeline() -> None:
    names = list(stages())
    assert names[:2] == ["prepare: dialogues", "train_dialogue: warm start"]
    assert names[2:6] == [f"train_dialogue@{variant}" for variant in VARIANTS]
    assert names[6:] == ["evaluate_dialogue"]


def test_what_the_generator_reads() -> None:
    read = SIZE.reading(dialogue(), variant="none", negative=True)
    assert read == Reading(passages=8, passage_tokens=98 + 48 + 1, context_tokens=99, response_tokens=20)
    assert SIZE.reading(dialogue(), variant="none", negative=False).passages == 7
    assert SIZE.reading(dialogue(negative_entity="none"), variant="none", negative=True).passages == 7
    assert SIZE.reading(dialogue(), variant="prompt", negative=True).passage_tokens == 98 + 48 + 15 + 1
    cut = DialogueParams.model_validate({"generator": {"max_context_tokens": 50, "max_entity_tokens": 20}})
    assert SIZE.reading(cut, variant="prompt", negative=True).passage_tokens == 50 + 20 + 1
    concat = DialogueParams.model_validate({"num_retrieved": 7, "generator": {"fusion": "concat"}})
    assert SIZE.reading(concat, variant="none", negative=True).passage_tokens == 98 + 8 * 48 + 1


def test_no_more_entities_than_the_knowledge_base_has() -> None:
    few = DialogueSize(
        num_train=10, num_valid=2, num_test=2, num_entities=3, context_tokens=10, entity_tokens=5, response_tokens=5
    )
    assert few.width(dialogue(), negative=True) == 3


def test_a_step_of_mml_by_hand() -> None:
    read = SIZE.reading(dialogue(), variant="none", negative=True)
    fused, single = fused_flops(T5, read), single_flops(T5, read)
    assert cost(dialogue()).turn_flops(JOINT) == pytest.approx(3 * (fused + single))
    assert cost(dialogue()).turn_flops(ALONE) == pytest.approx(3 * fused)
    # Without a retriever to train, MML still trains the generator; the others have nothing left to do.
    assert cost(dialogue()).turn_flops(FROZEN) == pytest.approx(3 * (fused + single))
    assert cost(dialogue(objective="pdist")).turn_flops(FROZEN) == pytest.approx(3 * fused)


def test_objectives_cost_what_they_read() -> None:
    read = SIZE.reading(dialogue(), variant="none", negative=True)
    fused, single = fused_flops(T5, read), single_flops(T5, read)
    by_name = {n: cost(dialogue(objective=n)).turn_flops(JOINT) for n in ("emdr2", "pdist", "replug", "adist", "loop")}
    assert by_name["emdr2"] == by_name["pdist"] == by_name["replug"] == pytest.approx(3 * fused + single)
    assert by_name["pdist"] < by_name["adist"] < by_name["loop"]
    assert cost(dialogue(stop_generator=True)).turn_flops(JOINT) == by_name["pdist"]
    assert cost(dialogue(beta=0.0)).turn_flops(JOINT) == pytest.approx(3 * fused)


def test_a_further_objective_costs_what_its_row_in_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {name: cost(dialogue(objective=name)).turn_flops(JOINT) for name in ("pdist", "adist", "loop")}
    for utility, name in (("likelihood", "pdist"), ("attention", "adist"), ("leave_one_out", "loop")):
        monkeypatch.setitem(TARGETS, "replug", TARGETS["replug"]._replace(utility=utility))  # type: ignore[arg-type]
        assert cost(dialogue(objective="replug")).turn_flops(JOINT) == by_name[name], utility


def test_the_contrastive_variant_adds_a_pass_without_entities() -> None:
    none, contrastive = (cost(dialogue(), variant).turn_flops(JOINT) for variant in ("none", "contrastive"))
    bare = fused_flops(T5, Reading(passages=1, passage_tokens=99, context_tokens=99, response_tokens=20))
    assert contrastive - none == pytest.approx(3 * bare)
    assert cost(dialogue(gamma=0.0), "contrastive").turn_flops(JOINT) == pytest.approx(none)


def test_checkpointing_trades_memory_for_computing() -> None:
    plain, saving = (
        dialogue().model_copy(update={"generator": dialogue().generator.model_copy(update={"gradient_checkpointing": on})})
        for on in (False, True)
    )
    assert cost(saving).turn_flops(JOINT) > 4 / 3 * cost(plain).turn_flops(JOINT)
    assert cost(saving).device_bytes() < 0.7 * cost(plain).device_bytes()


def test_refreshes_and_evaluations_are_those_of_the_schedule() -> None:
    joint = dialogue(steps=200, generator_steps=100, every_evaluation=100, every_checkpoint=80, refresh={"every_steps": 50}).joint
    schedule = DialogueSchedule(joint)
    # After 0, 100, 200 and 300 steps.
    assert num_evaluations(schedule) == 4
    # At the start; at 100 the encoder has not moved yet; then 150, 160, 200, 240, 250, 300.
    assert num_refreshes(schedule) == 7
    assert num_refreshes(DialogueSchedule(dialogue(retriever_lr=0.0).joint)) == 1


def test_refreshing_costs_the_knowledge_base_each_time() -> None:
    rare, often = (dialogue(refresh={"every_steps": n}, every_evaluation=200, every_checkpoint=200) for n in (200, 2))
    extra = stages(often)["train_dialogue@none"].flops - stages(rare)["train_dialogue@none"].flops
    assert extra == pytest.approx(99 * embed_flops(BERT, texts=223, tokens=50))


def test_warm_start_by_hand() -> None:
    warm = stages()["train_dialogue: warm start"]
    step = embed_flops(BERT, texts=32, tokens=100) + embed_flops(BERT, texts=40, tokens=50)
    scored = embed_flops(BERT, texts=500, tokens=100) + embed_flops(BERT, texts=223, tokens=50)
    assert warm.flops == pytest.approx(3 * 100 * step + 3 * scored)  # evaluated after 0, 50 and 100 steps
    assert warm.disk_bytes == 3 * 440_000_000 + 880_000_000
    assert warm.device_bytes == 16 * 110_000_000 + 12 * 17 * (72 * 128) * 768 * 4
    assert warm.host_bytes > PROCESS_BYTES + 440_000_000


def test_disk_of_a_training() -> None:
    joint = stages()["train_dialogue@prompt"]
    chosen = 2 * 440_000_000 + 892_000_000
    assert joint.disk_bytes == 2 * chosen + 2 * 12 * 333_000_000


def test_state_of_both_models_or_of_the_generator_alone() -> None:
    both, frozen = cost(dialogue()).device_bytes(), cost(dialogue(retriever_lr=0.0)).device_bytes()
    activations = 12 * 17 * (2 * (128 + 8 * 128)) * 768 * 4
    assert both - frozen == 12 * 110_000_000 + activations
    untied = DialogueModels(encoder=BERT, generator=T5, num_encoders=2)
    assert stages(models=untied)["train_dialogue@none"].device_bytes - both == 16 * 110_000_000
    assert stages(models=untied)["train_dialogue@none"].flops == stages()["train_dialogue@none"].flops


def test_index_has_the_width_of_the_projection() -> None:
    assert index_bytes(BERT, SIZE, retriever()) == 223 * (4 * 768 + 8)
    assert index_bytes(BERT, SIZE, retriever(projection=128)) == 223 * (4 * 128 + 8)
    assert index_bytes(BERT, SIZE, retriever(scoring="hybrid")) == 223 * (4 * 768 + 8 + round(8 * SIZE.entity_tokens))


def test_evaluation_by_hand() -> None:
    found = stages(variants=("none",))["evaluate_dialogue"]
    read = SIZE.reading(dialogue(), variant="none", negative=False)
    # Three retrievers: of the best generator, the best one, the warm start.
    retrieval = 3 * (embed_flops(BERT, texts=700, tokens=100) + embed_flops(BERT, texts=223, tokens=50))
    assert found.flops == pytest.approx(retrieval + 700 * fused_flops(T5, read))
    beams = stages(variants=("none",), evaluation=DialogueEvaluationParams(num_beams=4))["evaluate_dialogue"]
    assert beams.flops - found.flops == pytest.approx(3 * 700 * fused_flops(T5, read))
    limited = stages(variants=("none",), evaluation=DialogueEvaluationParams(limit=70))["evaluate_dialogue"]
    assert limited.flops < 0.2 * found.flops


def test_further_systems_of_the_evaluation() -> None:
    plain = stages(variants=("prompt",))["evaluate_dialogue"]
    unseen = DialogueEvaluationParams(unseen=UnseenParams(variant="prompt", distractors=1000))
    more = stages(variants=("prompt",), evaluation=unseen)["evaluate_dialogue"].flops - plain.flops
    entities = embed_flops(BERT, texts=3 * 223 + 2 * 1000, tokens=50)
    assert more == pytest.approx(3 * embed_flops(BERT, texts=700, tokens=100) + entities)
    spec = InContextParams(name="big", model="source:big", demonstrations=0, limit=100, meta_knowledge=("none", "prompt"))
    big = ModelSize(7_000_000_000, 32_000, 4096, 32, "bfloat16")
    asked = stages(
        variants=("prompt",),
        models=DialogueModels(encoder=BERT, generator=T5, in_context={"big": big}),
        evaluation=DialogueEvaluationParams(in_context=(spec,)),
    )["evaluate_dialogue"]
    prompt = 98 + 7 * 48 + 19
    assert asked.flops - plain.flops == pytest.approx(2 * 100 * (prompt + 20) * 14e9, rel=0.02)
    assert asked.device_bytes > 14e9 > plain.device_bytes


def test_a_bigger_knowledge_base_needs_more_of_everything() -> None:
    large = DialogueSize(
        num_train=8000, num_valid=500, num_test=700, num_entities=100_000, context_tokens=98, entity_tokens=48, response_tokens=19
    )
    for name, small in stages().items():
        big = stages(size=large)[name]
        assert big.host_bytes > small.host_bytes, name
        assert big.flops > small.flops or name.startswith("prepare"), name


def test_disk_of_the_evaluation_follows_rows_and_what_they_hold() -> None:
    none, prompt = (stages(variants=(v,))["evaluate_dialogue"].disk_bytes for v in ("none", "prompt"))
    assert prompt - none == 700 * 7 * 64
    hits = DialogueEvaluationParams(recall_at=(17,))
    wider = stages(variants=("none",), evaluation=hits)["evaluate_dialogue"].disk_bytes
    assert wider - none == 6 * 700 * 10 * 62, "one that answers, three retrievers, two floors"
