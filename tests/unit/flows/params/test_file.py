import json
from pathlib import Path

import pytest

from flows.params.file import LoadedParams, available_profiles, load_params
from flows.params.tree import Origin
from models.errors import ParamsError
from models.params.alignment import AlignmentParams

BASE = """\
profile: small
methods: [sft, profuser]
sources:
  models:
    - {name: one, pico: {seed: 1}}
    - name: two
      pico: {mix: {knowledge: 1.0}}
  reward_models:
    - {name: judge}
teach:
  rewards:
    scorers:
      - {kind: reward_model, name: judge}
fusion:
  targets: [one]
  lr: 1e-3
corpus: {kind: embedded}
"""
SMALL = """\
# smaller
fusion:
  epochs: 0.5
corpus:
  world: {num_train: 24}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(BASE)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/small.yaml").write_text(SMALL)
    (tmp_path / "profiles/plain.yaml").write_text("{}\n")
    return tmp_path


def problems(root: Path, *overrides: str, profile: str | None = None) -> list[str]:
    with pytest.raises(ParamsError) as caught:
        load_params(root, profile=profile, overrides=overrides)
    return [str(problem) for problem in caught.value.problems]


def load(root: Path, *overrides: str, profile: str | None = None) -> LoadedParams:
    return load_params(root, profile=profile, overrides=overrides)


class TestLayers:
    def test_profile_of_the_file_is_laid_over_it(self, project: Path) -> None:
        loaded = load(project)
        assert loaded.params.profile == "small"
        assert loaded.params.fusion.epochs == 0.5
        assert loaded.params.fusion.lr == 1e-3
        assert loaded.params.corpus.world.num_train == 24
        assert loaded.params.corpus.kind == "embedded"

    def test_origins_name_file_and_line(self, project: Path) -> None:
        origins = load(project, "fusion.lr=3", "runtime.endpoints['v1.5']=http://x").origins
        assert origins["fusion.epochs"] == ("profiles/small.yaml", 3)
        assert origins["sources.models[1].pico.mix.knowledge"] == Origin("params.yaml", 7)
        assert str(origins["sources.models[0].pico.seed"]) == "params.yaml:5"
        assert str(origins["fusion.lr"]) == "-S"
        assert str(origins['runtime.endpoints["v1.5"]']) == "-S"
        assert "fusion.beta" not in origins  # a default was written nowhere

    def test_profile_given_on_the_command_line_wins(self, project: Path) -> None:
        loaded = load(project, profile="plain")
        assert (loaded.params.profile, loaded.params.fusion.epochs) == ("plain", 2.0)
        assert str(loaded.origins["profile"]) == "--profile"

    def test_profile_by_override(self, project: Path) -> None:
        assert load(project, "profile=plain").params.profile == "plain"
        assert load(project, "profile=plain", profile="plain").params.profile == "plain"
        assert problems(project, "profile=plain", profile="small") == [
            "`-S profile=plain` contradicts `--profile small`. Give one of the two."
        ]

    def test_overrides_win_over_the_profile_in_their_order(self, project: Path) -> None:
        assert load(project, "fusion.epochs=3", "fusion.epochs=4").params.fusion.epochs == 4

    def test_overrides_reach_lists_mappings_and_what_is_not_written(self, project: Path) -> None:
        params = load(
            project,
            "sources.models[1].pico.steps=7",
            "sources.models.0.pico.steps=8",
            "methods[2]=reverse",
            "fusion.lora.rank=4",
            "fusion.schedules.mine[0]={w_infer: 1, w_train: 0.5}",
            "evaluation={limit: 9, answers: false}",
            "sources.models[1].pico.mix={safety: 2}",
            'tracking.uri=""',
            "fusion.checkpoints.keep = 5",
        ).params
        assert [s.pico.steps for s in params.sources.models if s.pico] == [8, 7]
        assert params.methods == ("sft", "profuser", "reverse")
        assert params.fusion.lora is not None
        assert params.fusion.lora.rank == 4
        assert params.fusion.schedules["mine"][0].w_train == 0.5
        assert (params.evaluation.limit, params.evaluation.answers) == (9, False)
        assert params.sources.models[1].pico is not None
        assert params.sources.models[1].pico.mix == {"knowledge": 1.0, "safety": 2.0}
        assert params.tracking.uri == ""
        assert params.fusion.checkpoints.keep == 5

    def test_schedules_of_ones_own_are_methods(self, project: Path) -> None:
        given = ("fusion.schedules.mine=[{w_infer: 1, w_train: 0}]", "methods=[sft, mine]")
        assert load(project, *given).params.methods == ("sft", "mine")

    def test_lists_of_a_profile_replace_the_whole_list(self, project: Path) -> None:
        (project / "profiles/plain.yaml").write_text(
            "sources:\n  models:\n    - {name: one, pico: {}}\n    - {name: x, pico: {}}\n"
        )
        params = load(project, profile="plain").params
        assert [s.name for s in params.sources.models] == ["one", "x"]
        assert params.sources.models[0].pico is not None
        assert params.sources.models[0].pico.seed == 0


class TestMessages:
    def test_the_grammar(self, project: Path) -> None:
        (project / "profiles/small.yaml").write_text(
            "fusion:\n  schedules:\n    mine:\n    - {w_infer: 1, w_train: 0}\n    - {w_infer: 0, w_train: 1,\n      lr: -1e-5}\n"
        )
        assert problems(project) == [
            "`fusion.schedules.mine[1].lr` must be greater than 0, but is -1e-05 (profiles/small.yaml:6)."
        ]

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("fusion.lr=fast", '`fusion.lr` must be a number, but is "fast" (-S).'),
            ("fusion.seed=1.5", "`fusion.seed` must be a whole number, but is 1.5 (-S)."),
            ("fusion.lr=.inf", "`fusion.lr` must be a finite number, but is .inf (-S)."),
            ("fusion.batch_size=0", "`fusion.batch_size` must be at least 1, but is 0 (-S)."),
            ("evaluation.confidence=95", "`evaluation.confidence` must be less than 1, but is 95 (-S)."),
            ("teach.signals.top_k=2000", "`teach.signals.top_k` must be at most 1024, but is 2000 (-S)."),
            ("evaluation.answers=maybe", '`evaluation.answers` must be true or false, but is "maybe" (-S).'),
            ("fusion=3", "`fusion` must be a mapping of keys, but is 3 (-S)."),
            ("runtime.endpoints=[a]", '`runtime.endpoints` must be a mapping, but is ["a"] (-S).'),
            ("fusion.targets=one", '`fusion.targets` must be a list, but is "one" (-S). Write it in brackets: [one].'),
            ("fusion.targets=[]", "`fusion.targets` must not be empty, but is [] (-S)."),
            (
                "sources.models[0].revision=12345",
                "`sources.models[0].revision` must be text, but is 12345 (-S). Put it in quotes.",
            ),
            ("tracking.uri=", '`tracking.uri` must be text, but is null (-S). An empty text is written "".'),
            (
                "sources.models[0].name=a b",
                "`sources.models[0].name` must begin with a letter or digit and hold only letters, digits, `_`, `.` and `-`, "
                'but is "a b" (-S).',
            ),
            (
                "alignment.mode=byte_exat",
                '`alignment.mode` must be one of `byte_exact`, `min_edit_distance`, but is "byte_exat" (-S). '
                "Did you mean `byte_exact`?",
            ),
            (
                "methods=[profusr]",
                "`methods[0]` must be one of `sft`, `fusellm`, `inference_only`, `profuser`, `simul`, `reverse`, but "
                'is "profusr" (-S). Did you mean `profuser`?',
            ),
            (  # branches of a union in one line
                "fusion.lora={target_modules: all-liner}",
                '`fusion.lora.target_modules` must be a list or `all-linear`, but is "all-liner" (-S). '
                "Did you mean `all-linear`?",
            ),
            (  # the branch that got further speaks alone
                "fusion.lora={target_modules: [q, 3]}",
                "`fusion.lora.target_modules[1]` must be text, but is 3 (-S). Put it in quotes.",
            ),
            ("fusion.betta=1", "`fusion.betta` is not a known key (-S). Did you mean `fusion.beta`?"),
            ("fusion.top_k=1", "`fusion.top_k` is not a known key (-S). Did you mean `teach.signals.top_k`?"),
            ("fusio.lr=1", "`fusio` is not a known key (-S). Did you mean `fusion`?"),
            (
                "fusion.schedules.mine=[{w_infer: 1, w_trian: 2, w_train: 1}]",
                "`fusion.schedules.mine[0].w_trian` is not a known key (-S). Did you mean `fusion.schedules.mine[0].w_train`?",
            ),
            (
                "fusion.schedules.mine=[{w_infer: 1}]",
                "`fusion.schedules.mine[0].w_train` is missing (`fusion.schedules.mine[0]` begins at -S).",
            ),
            (
                "fusion.schedules.mine=[{w_infer: 0, w_train: 0}]",
                "`fusion.schedules.mine[0].w_infer` and `w_train` must not both be 0 (-S).",
            ),
            (
                "fusion.targets=[three]",
                "`fusion.targets` must be names of `sources.models` (one, two), but has ['three'] (-S).",
            ),
            ("sources.models[1].name=one", "`sources.models` must have distinct names, but has ['one'] (params.yaml:4)."),
            ("sources.models[1].name=ONE", "`sources.models` must have distinct names, but has ['ONE', 'one'] (params.yaml:4)."),
            (
                "sources.reward_models[0].name=Two",
                "`sources.reward_models` must have names that neither they nor `models` have twice, but has ['Two', 'two'] "
                "(params.yaml:8).",
            ),
            (
                "teach.rewards.scorers=[{kind: reference, name: a}, {kind: reference, name: A}]",
                "`teach.rewards.scorers` must have distinct names, but has ['A', 'a'] (-S).",
            ),
            ("fusion.targets=[one, one]", "`fusion.targets` must be distinct, but has ['one'] (-S)."),
            ("methods=[sft, sft]", "`methods` must be distinct, but has ['sft'] (-S)."),
            ("variants=[prompt, prompt]", "`variants` must be distinct, but has ['prompt'] (-S)."),
            (
                "methods=[sft, custom]",
                "`methods[1]` must be one of `sft`, `fusellm`, `inference_only`, `profuser`, `simul`, `reverse`, but "
                'is "custom" (-S).',
            ),
            (
                "fusion.schedules={sft: [{w_infer: 1, w_train: 0}]}",
                "`fusion.schedules` must not name a schedule like a preset, but has `sft`. Call it something else (-S).",
            ),
            (
                "fusion.schedule=[{w_infer: 1, w_train: 0}]",
                "`fusion.schedule` is now one of `fusion.schedules`, by name: write `schedules: {my_schedule: [phases]}` and put "
                "`my_schedule` into `methods` (-S).",
            ),
            ("corpus.kind=files", "`corpus.sets` must name at least one data set when `kind` is `files` (params.yaml:17)."),
            (
                "sources.models[0].model=gpt2",
                "`sources.models[0].pico` must be given exactly when `model` is `embedded` (params.yaml:5).",
            ),
            ("teach.responses.num_samples=2", "`teach.responses.num_samples` must be 1 when `temperature` is 0, but is 2 (-S)."),
            ("fusion.lr.x=1", "`fusion.lr` is a single value, so `fusion.lr.x` cannot be set (-S)."),
            ("methods[5]=sft", "`methods` has 2 entries, so `methods[5]` cannot be set (-S)."),
            ("fusion.lr", "`-S fusion.lr` must have the form `key=value`. Example: `-S fusion.lr=1e-4`."),
            ("=3", "`-S =3` must begin with a key such as `fusion.lr` or `sources.models[0].name`."),
            (
                "fusion.targets=[a",
                "`-S fusion.targets=[a` is not valid YAML: expected ',' or ']', but got '<stream end>' "
                "(character 3 of the value).",
            ),
        ],
    )
    def test_one_mistake_one_line(self, project: Path, override: str, message: str) -> None:
        assert problems(project, override) == [message]

    @pytest.mark.parametrize("name", ["../../x", "..", ".x", "", "a/b", "a\\b", "a b", "é", "a\n", "-a"])
    @pytest.mark.parametrize(
        "key",
        [
            "sources.models[0].name",
            "sources.models[0].pico.tokenizer",
            "sources.reward_models[0].name",
            "teach.rewards.scorers[0].name",
            "corpus.sets=[{path: a, name: %s}]",
            "dialogue_evaluation.in_context=[{kind: openai, model: a, name: %s}]",
            "planning.sizes=[{num_parameters: 1, vocab_size: 1, hidden_size: 1, num_layers: 1, name: %s}]",
        ],
    )
    def test_what_becomes_a_path_or_a_metric_cannot_leave_its_place(self, project: Path, key: str, name: str) -> None:
        text = json.dumps(name)
        found = problems(project, key % text if "%s" in key else f"{key}={text}")
        assert any("must begin with a letter or digit and hold only letters, digits" in line for line in found)

    def test_a_name_fits_a_file_system(self, project: Path) -> None:
        (line,) = problems(project, f"sources.models[1].name={'x' * 65}")
        assert "must have at most 64 characters" in line

    def test_a_source_is_not_called_like_a_method(self, project: Path) -> None:
        (project / "params.yaml").write_text(BASE.replace("name: one", "name: sft").replace("targets: [one]", "targets: [sft]"))
        (line,) = problems(project)
        assert line.startswith("`sources.models` must not be called like methods, as they share tables, but has ['sft']")

    def test_a_key_like_no_other_lists_what_may_stand_there(self, project: Path) -> None:
        known = ", ".join(f"`{name}`" for name in sorted(AlignmentParams.model_fields))
        assert problems(project, "alignment.zzz=1") == [f"`alignment.zzz` is not a known key (-S). Known here: {known}."]

    def test_long_values_are_cut(self, project: Path) -> None:
        (line,) = problems(project, f"fusion.lr={'x' * 500}")
        assert len(line) < 160
        assert "…" in line

    def test_missing_key_names_its_section(self, project: Path) -> None:
        (project / "params.yaml").write_text(BASE.replace("  targets: [one]\n", ""))
        assert problems(project) == ["`fusion.targets` is missing (`fusion` begins at params.yaml:14)."]
        (project / "params.yaml").write_text(BASE.replace("teach:", "teech:"))
        assert problems(project) == [
            "`teach` is missing (params.yaml).",
            "`teech` is not a known key (params.yaml:10). Did you mean `teach`?",
        ]


class TestAllAtOnce:
    def test_files_and_overrides_together(self, project: Path) -> None:
        (project / "profiles/small.yaml").write_text("methods: [sft]\nfusion: {lr: 0}\n")
        assert problems(project, "oops", "fusion.tial=x", "runtime.nproc=0") == [
            "`-S oops` must have the form `key=value`. Example: `-S fusion.lr=1e-4`.",
            "`methods` must not be set in a profile (profiles/small.yaml:1). "
            "DVC reads it from params.yaml: set it there, or by `-S methods=…`.",
            "`fusion.lr` must be greater than 0, but is 0 (profiles/small.yaml:2).",
            "`fusion.tial` is not a known key (-S). Did you mean `fusion.tail`?",
            "`runtime.nproc` must be at least 1, but is 0 (-S).",
        ]

    def test_checks_across_keys_speak_beside_wrong_keys(self, project: Path) -> None:
        found = problems(
            project, "fusion.lr=0", "fusion.micro_batch_size=33", "teach.rewards.scorers[0].name=nobody", "fusion.targets=[x]"
        )
        assert found == [
            "`fusion.lr` must be greater than 0, but is 0 (-S).",
            "`fusion.micro_batch_size` (33) must divide `batch_size` (32) (-S).",
            "`fusion.targets` must be names of `sources.models` (one, two), but has ['x'] (-S).",
            "`teach.rewards.scorers` must name entries of `sources.reward_models`, but has ['nobody'] (params.yaml:12).",
        ]

    def test_no_error_is_made_up_by_leaving_a_wrong_key_out(self, project: Path) -> None:
        # The default micro_batch_size (16) does not divide 8, but that is not what the user wrote.
        assert problems(project, "fusion.batch_size=8", "fusion.micro_batch_size=-1") == [
            "`fusion.micro_batch_size` must be at least 1, but is -1 (-S)."
        ]
        assert problems(project, "fusion.batch_size=8", "fusion.micro_bach_size=4")[0].startswith(
            "`fusion.micro_bach_size` is not"
        )
        assert len(problems(project, "sources.reward_models=5")) == 1

    def test_both_files_malformed(self, project: Path) -> None:
        (project / "params.yaml").write_text("a: [\n")
        (project / "profiles/small.yaml").write_text("b: }\n")
        found = problems(project, profile="small")
        assert [line.split(" ")[0] for line in found] == ["params.yaml:2:1", "profiles/small.yaml:1:4"]


class TestFiles:
    def test_unknown_profile_lists_what_there_is(self, project: Path) -> None:
        assert problems(project, profile="smal") == [
            '`profile` must name a file of profiles/, but is "smal" (--profile). Did you mean `small`? Profiles: plain, small.'
        ]
        assert problems(project, "profile=../secret") == [
            '`profile` must name a file of profiles/, but is "../secret" (-S). Profiles: plain, small.'
        ]
        (project / "params.yaml").write_text(BASE.replace("profile: small", "profile:"))
        assert problems(project) == [
            "`profile` must name a file of profiles/, but is null (params.yaml:1). Profiles: plain, small."
        ]

    def test_profile_must_not_name_a_profile(self, project: Path) -> None:
        (project / "profiles/small.yaml").write_text("profile: plain\n")
        assert problems(project)[0].startswith("`profile` must not be set in a profile (profiles/small.yaml:1). DVC reads it")

    def test_no_params_file(self, tmp_path: Path) -> None:
        assert problems(tmp_path) == [f"`params.yaml` does not exist in {tmp_path}. Run from the project root."]

    def test_available_profiles_are_sorted(self, project: Path) -> None:
        assert available_profiles(project) == ("plain", "small")


@pytest.mark.parametrize("key", ["profile", "methods", "variants"])
def test_what_dvc_reads_from_params_yaml_stands_in_no_profile(project: Path, key: str) -> None:
    (project / "profiles" / "small.yaml").write_text(f"{key}: [none]\n")
    with pytest.raises(ParamsError, match=rf"`{key}` must not be set in a profile \(profiles/small.yaml:1\)"):
        load_params(project)


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("fusion.epochs=true", "`fusion.epochs` must be a number, but is true"),
        ("fusion.seed=false", "`fusion.seed` must be a whole number, but is false"),
        ("fusion.seed=-1", "`fusion.seed` must be at least 0, but is -1"),
        ("corpus.seed=99999999999", "`corpus.seed` must be at most"),
        ("dialogue_evaluation.recall_at=[true]", "`dialogue_evaluation.recall_at` must be a whole number, but is [true]"),
        ("dialogue_evaluation.recall_at=[0, 1]", "`dialogue_evaluation.recall_at` must hold whole numbers from 1, each once"),
        ("dialogue_evaluation.recall_at=[-1]", "`dialogue_evaluation.recall_at` must hold whole numbers from 1, each once"),
        ("dialogue_evaluation.recall_at=[1, 1]", "`dialogue_evaluation.recall_at` must hold whole numbers from 1, each once"),
        ("sources.models[1].pico.mix={knowledge: true}", "`sources.models[1].pico.mix` must be a number"),
        ("dialogue.meta_knowledge.edges=[false, 1]", "`dialogue.meta_knowledge.edges` must be a number"),
        (
            'corpus.sets=[{name: a, path: x, family: "\\ud800"}]',
            "`corpus.sets[0].family` is not accepted (half a surrogate pair), but is",
        ),
    ],
)
def test_numbers_are_numbers(project: Path, override: str, rule: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_params(project, overrides=[override])
    assert rule in str(caught.value)
    str(caught.value).encode()


def test_true_and_false_stay_where_they_belong(project: Path) -> None:
    params = load_params(project, overrides=["runtime.progress=false", "dialogue_evaluation.unseen.values=false"]).params
    assert (params.runtime.progress, params.dialogue_evaluation.unseen.values) == (False, False)
