"""Every shipped profile is valid and fits the models and data it names."""

import re
from pathlib import Path

import pytest

from flows.params.file import PROFILES_FOLDER, available_profiles, load_params
from models.evaluation.benchmarks.local import require_file
from models.evaluation.benchmarks.table import KNOWN
from models.params.root import Params
from models.world.instructions import assign_items
from models.world.town import build_world

ROOT = Path(__file__).parents[3]
PROFILES = available_profiles(ROOT)
HAS_DATA = pytest.mark.skipif(not (ROOT / "data/external").exists(), reason="data/external is not here")


def load(profile: str, *overrides: str) -> Params:
    return load_params(ROOT, profile=profile, overrides=overrides).params


def test_the_promised_profiles_are_there() -> None:
    regimes = {"plentiful-truths", "noisy-truths", "detailed-truths", "fluent-wrong"}
    fusion = {"embedded", "smoke", "second-round", "real-stories", "real-skills", "paper-7b"} | regimes
    fusion |= {"real-chat", "real-chat-domain", "real-chat-gpu"}
    real = {"real-mwoz", "real-camrest", "real-smd"}
    dialogue = {*real, *(f"{name}-causal" for name in real), "paper-t5-base", "paper-t5-large"}
    assert fusion | dialogue <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_validates_with_every_method(profile: str) -> None:
    params = load(profile, "methods=[sft, fusellm, inference_only, profuser, simul, reverse]")
    assert params.profile == profile
    names = {source.name for source in params.sources.models}
    for data in params.corpus.sets:
        assert set(data.seen_by) <= names, data.name


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_begins_with_a_comment_and_names_no_machine(profile: str) -> None:
    text = (ROOT / PROFILES_FOLDER / f"{profile}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert not re.search(r"(^|[\s\"'])/(?!/)\w+/", text)


@pytest.mark.parametrize("profile", PROFILES)
def test_hub_models_name_a_revision_and_local_ones_a_folder_below_data_or_of_another_profile(profile: str) -> None:
    params = load(profile)
    others = tuple(f"artifacts/{other}/" for other in PROFILES if other != profile)
    for spec in (*params.sources.models, *params.sources.reward_models):
        if spec.model != "embedded":
            here = spec.model.startswith(("data/external/", "package:", *others))
            assert here or spec.revision, spec.name
    assert all(data.path.startswith("data/external/") for data in params.corpus.sets)


@HAS_DATA
@pytest.mark.parametrize("profile", ["real-stories", "real-skills", "real-chat", "real-chat-domain", "real-chat-gpu"])
def test_real_profiles_find_their_files(profile: str) -> None:
    params = load(profile)
    assert [d.path for d in params.corpus.sets if not (ROOT / d.path).is_file()] == []
    folders = [s.model for s in params.sources.models if s.model.startswith("data/")]
    assert [folder for folder in folders if not (ROOT / folder / "config.json").is_file()] == []
    for task in params.benchmark.tasks:
        place = f"{params.benchmark.data}/{KNOWN[task.name].folder}"
        require_file(task.name, ROOT / place, place=place)


def test_the_source_that_real_chat_takes_from_another_profile_is_what_that_one_trains() -> None:
    (domain,) = load("real-chat-domain").sources.models
    assert load("real-chat-domain").fusion.targets == (domain.name,)
    for profile in ("real-chat", "real-chat-gpu"):
        params = load(profile)
        by_name = {s.name: s for s in params.sources.models}
        assert params.fusion.targets == ("smollm2",)
        assert by_name["smollm2"].model == domain.model
        assert by_name["smollm2_math"].model == f"artifacts/real-chat-domain/fuse/sft/{domain.name}/model"
        assert not any(scorer.sees_truth for scorer in params.teach.rewards.scorers)


def test_regimes_share_test_split_and_pretraining_rows() -> None:
    """They do where as many training prompts, with ground truths and without, are asked for in each family."""
    regimes = [
        load(name).corpus.world for name in ("embedded", "plentiful-truths", "noisy-truths", "detailed-truths", "fluent-wrong")
    ]
    assert {(w.seed, w.num_entities, w.num_test, w.num_valid, w.num_pretrain) for w in regimes} == {(2026, 60, 300, 150, 12000)}
    worlds = [build_world(w.seed, num_entities=w.num_entities) for w in regimes]
    dealt = [assign_items(world, w) for world, w in zip(worlds, regimes, strict=True)]
    for items in dealt[1:]:
        assert {f: (part.test, part.pretrain) for f, part in items.items()} == {
            f: (part.test, part.pretrain) for f, part in dealt[0].items()
        }


def test_smoke_is_small() -> None:
    params = load("smoke")
    world = params.corpus.world
    assert world.num_train <= 64
    assert world.num_pretrain <= 400
    picos = [s.pico for s in params.sources.models]
    assert all(p is not None and p.steps <= 40 and p.hidden_size <= 48 for p in picos)
    assert {p.tokenizer for p in picos if p} == {"a", "b"}
    steps = params.fusion.epochs * world.num_train / params.fusion.batch_size
    assert 2 <= steps <= 6
    assert params.fusion.batch_size // params.fusion.micro_batch_size == 2
    assert world.num_train / params.teach.shard_size == 2


def test_stories_fit_the_shortest_context() -> None:
    params = load("real-stories")
    (data,) = params.corpus.sets
    shortest = min(s.context_length or 0 for s in params.sources.models)
    # A token of babyllama105 is a character; begin, word-start and end token come on top.
    assert data.prompt_chars + data.response_chars + 3 <= shortest
    assert data.prompt_chars + params.teach.responses.max_new_tokens + 3 <= shortest
    assert params.sources.reward_models == ()


def test_skills_marks_what_the_sources_have_seen() -> None:
    params = load("real-skills")
    seen = {data.family: set(data.seen_by) for data in params.corpus.sets}
    everyone = {"qa_llama", "math_mpt", "code_neox"}
    assert seen == {"qa": {"qa_llama"}, "math": {"math_mpt"}, "code": {"code_neox"}, "chat": everyone, "math_unseen": set()}
    assert set(params.fusion.targets) == everyone
    (unseen,) = [data for data in params.corpus.sets if data.split == "test"]
    assert (unseen.name, unseen.check) == ("gsm8k_test", "number")


def test_the_second_round_asks_the_same_sources_the_same_prompts() -> None:
    """So that the first round's answers, scores and signals come from the cache."""
    first, second = load("embedded"), load("second-round")
    assert second.corpus == first.corpus and second.teach == first.teach and second.alignment == first.alignment
    *asked, student = second.sources.models
    assert tuple(asked) == first.sources.models and second.sources.reward_models == first.sources.reward_models
    assert student.model == f"artifacts/embedded/fuse/profuser/{first.fusion.targets[0]}/model"
    alike = {"targets": first.fusion.targets}
    assert second.fusion.model_copy(update=alike) == first.fusion


def test_paper_setting() -> None:
    params = load("paper-7b")
    fusion = params.fusion
    assert (fusion.batch_size, fusion.lr, fusion.max_length, fusion.dtype) == (128, 5e-6, 2048, "bfloat16")
    assert fusion.batch_size % (fusion.micro_batch_size * params.runtime.nproc) == 0
    assert params.runtime.fsdp
    assert len(params.sources.reward_models) % 2 == 1
    assert not any(s.trust_remote_code for s in params.sources.models)
