from dataclasses import replace

import pytest

from models.fusion.schedule import resolve_schedule
from models.fusion.scorers import JUDGE_SYSTEM
from models.params.evaluation import EvaluationParams
from models.params.fusion import FusionParams, Phase
from models.params.lora import LoraParams
from models.params.teach import ResponseParams, RewardParams, ScorerSpec, TeachParams
from models.planning.footprint import CorpusSize, JudgingCost, ModelSize, activation_bytes, generation_calls, loss_chunk_bytes
from models.planning.fusion_estimate import estimate_stages
from models.planning.fusion_training_cost import fuse_device_bytes, trained_texts
from models.planning.stage_estimate import PROCESS_BYTES, START_SECONDS, StageEstimate

VICUNA = ModelSize(7_000_000_000, 32_000, 4096, 32, "bfloat16")
MPT = ModelSize(7_000_000_000, 50_432, 4096, 32, "bfloat16")
SOURCES = {"vicuna": VICUNA, "llama": VICUNA, "mpt": MPT}
# 52,000 rows of 80 + 1,000 bytes: 20 and 250 tokens (249 and the end token).
CORPUS = CorpusSize(num_train=52_000, num_test=1000, prompt_bytes=80, response_bytes=996)
TEACH = TeachParams(
    responses=ResponseParams(max_new_tokens=100), rewards=RewardParams(scorers=(ScorerSpec(kind="reference", name="chrf"),))
)
FUSION = FusionParams(
    targets=("vicuna",), epochs=2, batch_size=128, micro_batch_size=1, dtype="bfloat16", gradient_checkpointing=True
)


def stages(corpus: CorpusSize = CORPUS, **changed: object) -> dict[str, StageEstimate]:
    given = {"teach": TEACH, "fusion": FUSION, "evaluation": EvaluationParams(), "methods": ("profuser",)} | changed
    return {e.stage: e for e in estimate_stages(SOURCES, corpus, **given)}  # type: ignore[arg-type]


def test_token_counts_round_up_and_count_the_end_token() -> None:
    assert (CORPUS.prompt_tokens, CORPUS.response_tokens) == (20, 250)
    assert CORPUS.answer_tokens(100) == 100
    assert CORPUS.answer_tokens(1000) == 250


def test_stages_come_in_the_order_of_the_pipeline() -> None:
    assert list(stages()) == ["prepare", "sources", "teach", "fuse", "evaluate_fusion"]


def test_prepare_writes_the_rows() -> None:
    assert stages()["prepare"].disk_bytes == 53_000 * (80 + 996 + 150)


def test_sources_hold_all_weights_and_train_only_embedded_ones() -> None:
    assert stages()["sources"].disk_bytes == 3 * 14_000_000_000
    assert stages()["sources"].flops == 0
    assert stages(in_place=["mpt"])["sources"].disk_bytes == 2 * 14_000_000_000
    trained = stages(pretrain_tokens=1000)["sources"]
    assert trained.flops == 3 * 6 * 7e9 * 1000
    assert trained.device_bytes == 112_000_000_000


def test_gguf_files_are_unpacked_one_after_another() -> None:
    smollm2, gemma = ModelSize(134_515_008, 49_152, 576, 30), ModelSize(268_098_176, 262_144, 640, 18)
    for models, peak, seconds in (([smollm2], 0.81e9, 22), ([gemma], 2.86e9, 65), ([smollm2, gemma], 2.86e9, 87)):  # measured
        names = [str(number) for number in range(len(models))]
        given = {"teach": TEACH, "fusion": FUSION.model_copy(update={"targets": ("0",)}), "evaluation": EvaluationParams()}
        sized = dict(zip(names, models, strict=True))
        _, found, *_ = estimate_stages(sized, CORPUS, methods=("sft",), unpacked=names, **given)  # type: ignore[arg-type]
        assert found.host_bytes - PROCESS_BYTES == pytest.approx(peak, rel=0.1)
        assert found.fixed_seconds == pytest.approx(seconds, rel=0.3)


def test_teach_by_hand() -> None:
    teach = stages()["teach"]
    truth = 3 * (52_000 * 250 * 48 + 20 * 52_000)  # three sources, every row 48 bytes
    winners = 52_000 * 100 * 48 + 20 * 52_000  # one winner a prompt, cut at 100 tokens
    texts = 3 * 52_000 * (100 * 4 + 300)
    assert teach.disk_bytes == truth + winners + texts
    # ground truth (270 tokens) once, answer (120) twice by each source, the winner's once more
    tokens = 3 * 52_000 * (270 + 2 * 120) + 52_000 * 120
    attention = 2 * 32 * 4096 * 52_000 * (3 * (270 * 270 + 2 * 120 * 120) + 120 * 120)
    assert teach.flops == pytest.approx(14e9 * tokens + attention, rel=1e-9)
    # Scoring 8192 tokens needs 34·8192·4096 bytes and the logits of a chunk; generating 32 × 120 tokens needs more, the states of
    # the prompts that are read included.
    generating = 32 * 20 * 34 * 4096 + 32 * 120 * 512 * 1024
    assert teach.device_bytes == 14_000_000_000 + generating
    assert stages(on_cpu=True)["teach"].device_bytes == 14_000_000_000 + 1.5 * generating, "the C library scatters them"
    longer = stages(replace(CORPUS, longest_prompt=500))["teach"]
    assert longer.device_bytes == 14_000_000_000 + 32 * 500 * 34 * 4096 + 32 * 600 * 512 * 1024, "the longest prompts count"
    assert teach.host_bytes == PROCESS_BYTES + 14_000_000_000 + 256 * 250 * 48


def test_reward_models_cost_a_forward_of_every_answer() -> None:
    judge = ModelSize(8_000_000_000, 128_256, 4096, 0, "bfloat16")
    extra = stages(reward_models=(judge,))["teach"].flops - stages()["teach"].flops
    assert extra == pytest.approx(2 * 8e9 * 52_000 * 3 * 120, rel=1e-6)


def test_judges_read_every_answer_of_the_evaluation_and_need_their_own_memory() -> None:
    judge = ModelSize(70_000_000_000, 128_000, 8192, 80, "bfloat16")
    plain, judged = stages()["evaluate_fusion"], stages(reward_models=(judge,))["evaluate_fusion"]
    assert judged.flops > plain.flops and judged.device_bytes == 140_000_000_000 > plain.device_bytes
    silent = {"evaluation": EvaluationParams(answers=False)}
    assert stages(reward_models=(judge,), **silent)["evaluate_fusion"] == stages(**silent)["evaluate_fusion"]


def test_judges_behind_endpoints_are_counted_by_answers_and_judges() -> None:
    judges = [ScorerSpec(kind="judge", name=n, model=n, max_tokens=m) for n, m in (("gpt", 256), ("claude", 1000))]
    scorers = (ScorerSpec(kind="reference", name="chrf"), *judges)
    asking = TEACH.model_copy(update={"rewards": RewardParams(scorers=scorers, validation_prompts=256)})
    found = stages(replace(CORPUS, num_valid=100), teach=asking)
    # 52,000 prompts and 100 of validation, three sources; a request has the grading prompt, 80 bytes of prompt, 100 tokens of 4.
    sent = -(-(len(JUDGE_SYSTEM) + 80 + 400) // 4)
    assert found["teach"].judging == JudgingCost(2 * 52_100 * 3, 2 * 52_100 * 3 * sent, 52_100 * 3 * 1256)
    evaluated = found["evaluate_fusion"].judging
    assert evaluated is not None and evaluated.calls == 2 * (3 * (1000 + 100) + 1000), (
        "sources on validation too, one fused model"
    )
    assert found["fuse"].judging is None and stages()["teach"].judging is None
    assert stages(teach=asking, evaluation=EvaluationParams(answers=False))["evaluate_fusion"].judging is None


def test_more_samples_cost_more_answers_but_no_more_signals() -> None:
    sampled = TEACH.model_copy(update={"responses": ResponseParams(max_new_tokens=100, num_samples=4, temperature=0.7)})
    more = stages(teach=sampled)["teach"]
    once = stages()["teach"]
    assert more.disk_bytes - once.disk_bytes == 3 * 3 * 52_000 * 700
    assert more.flops > 2 * once.flops


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("sft", (2, 0)),
        ("fusellm", (2, 0)),
        ("inference_only", (0, 2)),
        ("profuser", (1, 2)),
        ("reverse", (2, 1)),
        ("simul", (2, 2)),
    ],
)
def test_passes_over_texts(method: str, passes: tuple[float, float]) -> None:
    assert texts(method, FUSION) == passes


def texts(method: str, fusion: FusionParams, *, prompts_only: int = 0) -> tuple[float, float]:
    """Texts in units of the 52,000 prompts."""
    corpus = replace(CORPUS, num_prompts_only=prompts_only)
    truths, winners = trained_texts(resolve_schedule(method, fusion), corpus, budget=fusion.budget)
    return truths / 52_000, winners / 52_000


def test_texts_of_a_corpus_with_prompts_without_a_ground_truth() -> None:
    """A quarter of the prompts have a ground truth."""
    alone = 39_000
    assert texts("profuser", FUSION, prompts_only=alone) == (0.25, 2), "one pass over each kind in either phase"
    assert texts("sft", FUSION, prompts_only=alone) == (2, 0), "as many steps as the others, all on ground truths"
    truth = FUSION.model_copy(update={"budget": "ground_truth"})
    assert texts("sft", truth, prompts_only=alone) == (0.5, 0)
    assert texts("inference_only", truth, prompts_only=alone) == (0, 2)
    whole, few = stages(), stages(corpus=replace(CORPUS, num_prompts_only=alone))
    assert few["teach"].disk_bytes < whole["teach"].disk_bytes
    assert few["fuse"].disk_bytes < whole["fuse"].disk_bytes


def test_passes_of_moving_weights_and_of_the_budget_of_the_ground_truth() -> None:
    moving = {"mine": (Phase(w_infer=1, w_train=0), Phase(w_infer=0, w_train=1, weights="linear", epochs=2))}
    own = FUSION.model_copy(update={"schedules": moving})
    assert texts("mine", own) == (2, 3)  # both while the weights move
    truth = FUSION.model_copy(update={"budget": "ground_truth"})
    assert texts("profuser", truth) == (2, 3)
    assert stages(fusion=truth)["fuse"].flops > stages()["fuse"].flops, "extra steps take time"


def test_fuse_by_hand() -> None:
    fuse = stages()["fuse"]
    stores = 52_000 * 350 * 48 + 2 * 20 * 52_000
    assert fuse.disk_bytes == stores + 2 * 28_000_000_000 + 2 * 12 * 7_000_000_000  # two phases, two checkpoints
    tokens = 52_000 * (1 * 270 + 2 * 120)
    attention = 52_000 * (1 * 270 * 270 + 2 * 120 * 120) * 2 * 32 * 4096
    assert fuse.flops == pytest.approx(4 * (14e9 * tokens + attention), rel=1e-9)  # checkpointing: four forwards' worth


def test_fuse_memory_of_one_process_and_under_fsdp() -> None:
    rest = activation_bytes(VICUNA, tokens=2048, dtype="bfloat16", checkpointing=True) + loss_chunk_bytes(VICUNA, chunk=1024)
    assert fuse_device_bytes(VICUNA, FUSION) == 126_000_000_000 + rest
    kept = activation_bytes(VICUNA, tokens=2048, dtype="bfloat16", checkpointing=True)
    assert fuse_device_bytes(VICUNA, FUSION, on_cpu=True) == 126_000_000_000 + rest + kept // 2
    sharded = fuse_device_bytes(VICUNA, FUSION, processes=8, fsdp=True)
    ends = 2 * VICUNA.vocab_size * 4096
    layer = (7_000_000_000 - ends) // 32
    # No bfloat16 copy of what is sharded; gathered: weights, gradient, and its float32 copy on the way to the others.
    gathered = 2 * (ends + 2 * layer) + (2 + 4) * (ends + layer)
    assert sharded == 112_000_000_000 // 8 + gathered + rest
    assert sharded < 20e9  # a 7B target fits eight devices of 24 GB
    assert fuse_device_bytes(VICUNA, FUSION, processes=8, fsdp=False) == fuse_device_bytes(VICUNA, FUSION)
    assert stages(processes=8)["fuse"].host_bytes == 8 * (PROCESS_BYTES + 28_000_000_000)


def test_lora_may_keep_its_frozen_weights_narrow_and_sharded() -> None:
    wide, narrow = (
        FUSION.model_copy(update={"lora": LoraParams(rank=16, base_dtype=dtype)})  # type: ignore[arg-type]
        for dtype in ("float32", "bfloat16")
    )
    assert fuse_device_bytes(VICUNA, wide) - fuse_device_bytes(VICUNA, narrow) == 14_000_000_000
    assert fuse_device_bytes(VICUNA, narrow, processes=8, fsdp=True) < 5e9
    assert stages(fusion=wide)["fuse"].host_bytes - stages(fusion=narrow)["fuse"].host_bytes == 14_000_000_000


def test_lora_keeps_optimiser_and_checkpoints_small() -> None:
    lora = FUSION.model_copy(update={"lora": LoraParams(rank=16)})
    assert fuse_device_bytes(VICUNA, FUSION) - fuse_device_bytes(VICUNA, lora) > 95e9
    assert stages()["fuse"].disk_bytes - stages(fusion=lora)["fuse"].disk_bytes == 24 * (7_000_000_000 - 19 * 4096 * 16 * 32)


def test_evaluation_counts_every_model_and_respects_its_limits() -> None:
    four = stages()["evaluate_fusion"]
    five = stages(methods=("sft", "profuser"))["evaluate_fusion"]
    assert five.flops / four.flops == pytest.approx(5 / 4, rel=1e-3)
    assert stages(evaluation=EvaluationParams(limit=100))["evaluate_fusion"].flops == pytest.approx(four.flops / 10)
    silent = stages(evaluation=EvaluationParams(answers=False))["evaluate_fusion"]
    assert silent.flops < four.flops


def test_time_is_computing_and_the_calls_that_wait_for_each_other() -> None:
    fuse = StageEstimate("fuse", 0, 0, 0, 2e12, layer_calls=5000, fixed_seconds=4)
    assert fuse.seconds(1e12) == START_SECONDS + 4 + 2
    assert fuse.seconds(1e12, seconds_per_layer=2e-3, processes=4) == START_SECONDS + 4 + (2 + 10) / 4


def test_a_batch_waits_for_its_longest_answer() -> None:
    # 100 texts of 20 tokens, 32 at a time: 4 batches of 2 · 20 steps, 32 layers each
    assert generation_calls(VICUNA, texts=100, batch=32, tokens=20, limit=64) == 4 * 40 * 32
    assert generation_calls(VICUNA, texts=100, batch=32, tokens=20, limit=30) == 4 * 30 * 32
    # three sources, 52,000 texts 32 at a time, 100 tokens
    assert stages()["teach"].layer_calls == 3 * 1625 * 100 * 32


def test_short_rows_need_less_memory_than_the_longest_allowed() -> None:
    short = replace(CORPUS, longest_bytes=1196)  # 300 tokens with the end token
    kept = {
        e.stage: e
        for e in estimate_stages(SOURCES, short, teach=TEACH, fusion=FUSION, evaluation=EvaluationParams(), methods=("sft",))
    }
    assert kept["fuse"].device_bytes == fuse_device_bytes(VICUNA, FUSION, length=300)
    assert fuse_device_bytes(VICUNA, FUSION, length=300, texts=2) > fuse_device_bytes(VICUNA, FUSION, length=300)


def test_sources_are_scored_on_the_validation_split_as_well() -> None:
    held_out, both = stages()["evaluate_fusion"], replace(CORPUS, num_valid=500)
    more = {
        e.stage: e
        for e in estimate_stages(SOURCES, both, teach=TEACH, fusion=FUSION, evaluation=EvaluationParams(), methods=("sft",))
    }
    assert more["evaluate_fusion"].flops / held_out.flops == pytest.approx((4 * 1000 + 3 * 500) / 4000, rel=1e-3)
    assert more["evaluate_fusion"].disk_bytes == (4 * 1000 + 3 * 500) * (64 * 4 + 280)
