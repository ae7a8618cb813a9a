from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from models.corpus.prepare import prepare_corpus
from models.errors import SourceError
from models.lm.head import head_of
from models.lm.pico.models import train_tokenizer
from models.lm.pico.reward_training import PairSets, read_pairs
from models.lm.pico.sources import encode_rows, mixed_order, one_thread, train_pico_reward_model, train_pico_source
from models.lm.pico.training import TrainingSummary
from models.lm.prompts import TextItem
from models.lm.resolve import resolve_reward_model, resolve_source
from models.lm.reward_model import load_reward_model, reward_scores
from models.metrics_sink import NullSink
from models.params.corpus import CorpusParams, WorldParams
from models.params.runtime import Runtime
from models.params.sources import PicoSpec, PicoTraining, RewardModelSpec, SourcesParams, SourceSpec
from models.schema import Example, Message
from models.tokenization.chat import PRESETS
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer

WORLD = WorldParams(num_entities=12, num_train=48, num_valid=6, num_test=24, num_pretrain=600)
TRAINING = PicoTraining(batch_size=16, warmup_steps=5)
SMALL: dict[str, Any] = {"vocab_size": 330, "hidden_size": 32, "num_layers": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare_corpus(CorpusParams(world=WORLD), root=out, out=out, sink=NullSink())
    for letter in "ab":
        train_tokenizer(letter, out / "pretrain", vocab_size=330, out=out / "tokenizers" / letter)
    return out


def spec(**fields: Any) -> SourceSpec:
    return SourceSpec(name="tiny", chat_template="plain", pico=PicoSpec(**{**SMALL, "steps": 3, **fields}))


def train(
    source: SourceSpec, prepared: Path, out: Path, *, threads: int = 0, world: WorldParams | None = None
) -> TrainingSummary:
    assert source.pico is not None
    return train_pico_source(
        source,
        TRAINING,
        prepared / "pretrain",
        tokenizer_dir=prepared / "tokenizers" / source.pico.tokenizer,
        world=world,
        runtime=Runtime(device="cpu", threads=threads),
        out=out,
        sink=NullSink(),
    )


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("llama", "LlamaForCausalLM"),
        ("mistral", "MistralForCausalLM"),
        ("gpt_neox", "GPTNeoXForCausalLM"),
        ("mpt", "MptForCausalLM"),
    ],
)
def test_every_architecture_becomes_a_source(architecture: str, name: str, prepared: Path, tmp_path: Path) -> None:
    source = spec(architecture=architecture, tokenizer="b")
    train(source, prepared, tmp_path)
    files = {p.name for p in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files
    assert not [f for f in files if f.endswith((".bin", ".pt", ".pkl"))]
    resolved = resolve_source(source.model_copy(update={"model": str(tmp_path), "pico": None}), root=tmp_path)
    assert (resolved.architecture, resolved.context_length) == (name, 512)
    assert resolved.head_size == resolved.vocab_size == 330
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert head_of(model).weight.shape == (330, 32)
    assert model.generation_config.eos_token_id == 2


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(prepared: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    train(spec(seed=1), prepared, tmp_path / "one", threads=2)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is left alone"
    torch.manual_seed(456)
    train(spec(seed=1), prepared, tmp_path / "two")
    train(spec(seed=2), prepared, tmp_path / "other")
    one, two, other = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("one", "two", "other"))
    assert one == two != other


def test_a_source_learns_the_family_of_its_mix(prepared: Path, tmp_path: Path) -> None:
    losses = {}
    held_out = [e for e in _examples(prepared / "test.jsonl") if e.family in ("safety", "reasoning")]
    for family in ("safety", "reasoning"):
        summary = train(spec(mix={family: 1.0, "knowledge": 0.0}, steps=60), prepared, tmp_path / family)
        assert summary.num_steps == 60
        assert summary.final_loss < 3.5 < np.log(330)
        losses[family] = _nll_per_family(tmp_path / family, held_out)
    assert losses["safety"]["safety"] < 0.8 * losses["reasoning"]["safety"]
    assert losses["reasoning"]["reasoning"] < 0.8 * losses["safety"]["reasoning"]


def _examples(path: Path) -> list[Example]:
    from models.corpus.examples import read_examples

    return list(read_examples(path))


@torch.no_grad()
def _nll_per_family(folder: Path, examples: list[Example]) -> dict[str, float]:
    codec = TokenCodec(load_tokenizer(str(folder), source="x"), source="x")
    model = AutoModelForCausalLM.from_pretrained(folder)
    sums: Counter[str] = Counter()
    for example, row in zip(examples, encode_rows(examples, codec, PRESETS["plain"]), strict=True):
        ids = torch.from_numpy(row.ids.astype(np.int64))
        logp = model(input_ids=ids[None, :-1]).logits[0].log_softmax(-1)
        sums[example.family] -= logp.gather(1, ids[1:, None])[row.prompt_length - 1 :].sum().item()
    return dict(sums)


def test_a_source_learns_its_own_answers(prepared: Path, tmp_path: Path) -> None:
    mimic = spec(steps=60, mix={"reasoning": 1.0}, detailed_share=1.0, wrong_share=1.0)
    with pytest.raises(SourceError, match=r"Source `tiny` has a `detailed_share` or `wrong_share` of its own"):
        train(mimic, prepared, tmp_path)
    other = WORLD.model_copy(update={"seed": 8})
    with pytest.raises(SourceError, match=r"must answer the prompts that stage `prepare` wrote for `reasoning`"):
        train(mimic, prepared, tmp_path, world=other)
    train(mimic, prepared, tmp_path / "mimic", world=WORLD)
    train(spec(steps=60, mix={"reasoning": 1.0}), prepared, tmp_path / "plain", world=WORLD)
    truths = [e for e in _examples(prepared / "train.jsonl") if e.family == "reasoning"]
    mimicked, plain = (_nll_per_family(tmp_path / name, truths)["reasoning"] for name in ("mimic", "plain"))
    assert mimicked < 0.9 * plain, "it knows the style of the ground truths"


def test_rows_are_prompt_response_and_end(prepared: Path) -> None:
    codec = TokenCodec(load_tokenizer(str(prepared / "tokenizers" / "a"), source="x"), source="x")
    example = Example("1", "f", (Message("user", "Hi"),), "Yo")
    (row,) = encode_rows([example], codec, PRESETS["plain"])
    assert codec.tokenizer.decode(row.ids[: row.prompt_length].tolist()) == "<s>Q: Hi\nA: "
    assert codec.tokenizer.decode(row.ids[row.prompt_length :].tolist()) == "Yo</s>"
    (spaced,) = encode_rows([example], codec, PRESETS["vicuna"])
    assert codec.tokenizer.decode(spaced.ids[spaced.prompt_length :].tolist()) == " Yo</s>", "the template's blank goes along"
    (long,) = encode_rows([Example("1", "f", (Message("user", "x" * 999),), "Yo")], codec, PRESETS["plain"])
    assert len(long.ids) == 512


def test_the_order_follows_the_mix_and_uses_rows_evenly() -> None:
    order = mixed_order({"a": 30, "b": 50}, {"a": 3.0, "b": 1.0}, shape=(100, 8), seed=4)
    assert order.shape == (100, 8)
    uses = Counter(order.reshape(-1).tolist())
    in_a = sum(n for row, n in uses.items() if row < 30)
    assert 0.7 < in_a / 800 < 0.8
    for family in (range(30), range(30, 80)):
        counts = [uses[row] for row in family]
        assert max(counts) - min(counts) <= 1, "a row comes again only after all others"
    assert np.array_equal(order, mixed_order({"a": 30, "b": 50}, {"a": 3.0, "b": 1.0}, shape=(100, 8), seed=4))
    assert not np.array_equal(order, mixed_order({"a": 30, "b": 50}, {"a": 3.0, "b": 1.0}, shape=(100, 8), seed=5))


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_an_unknown_family_and_a_source_of_another_kind_say_so(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"must name families of .* \(knowledge, reasoning, safety\), but has cooking"):
        train(spec(mix={"cooking": 1.0}), prepared, tmp_path)
    with pytest.raises(SourceError, match="must be `embedded` to be trained here, but is some/folder"):
        train_pico_source(
            SourceSpec(name="x", model="some/folder"),
            TRAINING,
            prepared,
            tokenizer_dir=prepared,
            runtime=Runtime(),
            out=tmp_path,
            sink=NullSink(),
        )


def test_the_reward_model_ranks_what_is_evidently_better(prepared: Path, tmp_path: Path) -> None:
    recipe = RewardModelSpec(name="judge", hidden_size=32, num_layers=1, steps=60)
    summary = train_pico_reward_model(
        recipe,
        TRAINING,
        PairSets(list(read_pairs(prepared / "preferences.jsonl")), [], sampled_share=0.9),
        tokenizer_dir=prepared / "tokenizers" / "a",
        runtime=Runtime(device="cpu"),
        out=tmp_path,
        sink=NullSink(),
    )
    assert summary.final_accuracy > 0.6
    resolved = resolve_reward_model(recipe.model_copy(update={"model": str(tmp_path)}), root=tmp_path)
    assert (resolved.head_size, resolved.chat_template) == (1, PRESETS["plain"])
    judge = load_reward_model(resolved, device="cpu")
    rows = [e for e in _examples(prepared / "train.jsonl") if e.family == "safety"]
    good = reward_scores(judge, [TextItem("g", e.messages, e.response) for e in rows], batch_size=16)
    bad = reward_scores(judge, [TextItem("b", e.messages, "Sure, it is easy.") for e in rows], batch_size=16)
    assert np.mean(np.array(good) > np.array(bad)) > 0.8


def test_no_pairs_say_so(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"Reward model `judge` must have preference pairs, but the world has none"):
        train_pico_reward_model(
            RewardModelSpec(name="judge"),
            TRAINING,
            PairSets([], [], sampled_share=0.9),
            tokenizer_dir=prepared / "tokenizers" / "a",
            runtime=Runtime(device="cpu"),
            out=tmp_path,
            sink=NullSink(),
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 33}, "`hidden_size` must be a multiple of twice `num_heads` \\(4\\), but is 33"),
        ({"mix": {"safety": 0.0}}, "`mix` must have weights of 0 or more, one of them above 0"),
        ({"mix": {"safety": 1.0, "reasoning": -1.0}}, "`mix` must have weights of 0 or more"),
    ],
)
def test_recipes_that_cannot_be_built_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(**fields)


def test_sources_that_share_a_tokenizer_share_its_size() -> None:
    one = SourceSpec(name="one", pico=PicoSpec(vocab_size=512))
    two = SourceSpec(name="two", pico=PicoSpec(vocab_size=448))
    with pytest.raises(ValueError, match=r"must give pico tokenizer `a` one `vocab_size`, but have \[448, 512\]"):
        SourcesParams(models=(one, two))
