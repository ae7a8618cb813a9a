"""Whatever stands in a model's config: the stage `sources` refuses it in one line, or the source answers and is scored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import NumericsError, SourceError
from models.fusion.teacher_forcing import teacher_force
from models.lm.answers import generate_responses
from models.lm.loading import load_source
from models.lm.prompts import PromptItem, TextItem
from models.lm.prompts import TextItem as Judged
from models.lm.resolve import resolve_reward_model, resolve_source
from models.lm.reward_model import load_reward_model, reward_scores
from models.params.sources import RewardModelSpec, SourceSpec
from models.params.teach import ResponseParams
from models.schema import Message

_ASKED = (Message("user", "What is 2 plus 2?"),)
_MORE_KEYS = (
    "architectures",
    "torch_dtype",
    "quantization_config",
    "rope_scaling",
    "rope_theta",
    "is_encoder_decoder",
    "sliding_window",
    "text_config",
    "num_labels",
    "id2label",
    "auto_map",
    "generation_config",
    "layer_types",
    "return_dict",
    "output_hidden_states",
)
_ODD = st.one_of(
    st.sampled_from(
        [None, True, False, 0, -1, 1, 2, 3, 15, 64, 339, 340, 341, 32000, 2**31, 2**63, 10**30, 0.0, -0.5, 0.5, 1e308, 340.0]
    ),
    st.sampled_from(["", "512", "-1", "nonsense", "float99", "gelu", "llama", "t5", "bert", "mistral", "\ud800", "é"]),
    st.sampled_from([[], [1], [-1], [1, 2], [True], ["x"], [[1]], [340], ["LlamaForCausalLM"], ["BertModel"], ["\udfff"]]),
    st.sampled_from(
        [
            {},
            {"a": 1},
            {"type": "linear", "factor": 2.0},
            {"rope_type": "linear", "factor": -1},
            {"rope_type": "dynamic", "factor": "2"},
            {"rope_type": "yarn"},
            {"rope_type": "longrope", "factor": 2.0},
            {"rope_type": "llama3", "factor": 8.0},
            {"rope_type": "nonsense"},
            {"rope_type": ["linear"]},
            {"full_attention": {"rope_type": "default", "rope_theta": 0}},
            {"quant_method": "gptq", "bits": 4},
            {"vocab_size": -3},
        ]
    ),
)


@pytest.fixture(scope="module")
def folders(pico_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of each pico model, whose configs the examples overwrite, and of a reward model."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    place = tmp_path_factory.mktemp("odd")
    copies = {arch: shutil.copytree(pico_folder(arch), place / arch) for arch in ("llama", "gpt_neox", "mpt")}
    reward = shutil.copytree(pico_folder("llama"), place / "reward")
    sizes = {"vocab_size": 340, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForSequenceClassification(LlamaConfig(**sizes, num_labels=1)).save_pretrained(reward)
    for folder in (*copies.values(), reward):
        for name in ("config.json", "generation_config.json"):
            path = folder / name
            if path.is_file():
                shutil.copy(path, folder / f"good-{name}")
    return {**copies, "reward": reward}


def use(kind: str, folder: Path) -> None:
    """Do all that the pipeline does with a model."""
    if kind == "reward":
        record = resolve_reward_model(RewardModelSpec(name="rm", model=str(folder)), root=folder)
        judge = load_reward_model(record, device="cpu")
        items = [Judged("a", _ASKED, "4"), Judged("b", _ASKED, "It is 4, since 2 + 2 = 4.")]
        assert len(reward_scores(judge, items, batch_size=2)) == 2
        return
    source = resolve_source(SourceSpec(name="owl", model=str(folder), chat_template="plain"), root=folder)
    loaded = load_source(source, device="cpu")
    asked = [PromptItem("a", _ASKED), PromptItem("b", (Message("user", "2?"),))]
    assert len(generate_responses(loaded, asked, ResponseParams(max_new_tokens=3))) == 2
    assert len(list(teacher_force(loaded, [TextItem("a", _ASKED, "2 + 2 = 4.")], top_k=3, batch_tokens=256))) == 1


def write(folder: Path, name: str, change: dict[str, Any]) -> None:
    for file in ("config.json", "generation_config.json"):
        good = folder / f"good-{file}"
        values = json.loads(good.read_text()) if good.is_file() else {}
        if file == name:
            values.update(change)
        if values:
            (folder / file).write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_odd_config_is_refused_in_one_line_or_works(folders: dict[str, Path], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(folders)), label="kind")
    folder = folders[kind]
    name = data.draw(st.sampled_from(["config.json", "config.json", "config.json", "generation_config.json"]), label="file")
    good = json.loads((folder / "good-config.json").read_text())
    keys = sorted({*good, *_MORE_KEYS})
    chosen = data.draw(st.sets(st.sampled_from(keys), min_size=1, max_size=2))
    change = {key: data.draw(_ODD | st.just(...), label=key) for key in sorted(chosen)}
    write(folder, name, change)
    try:
        use(kind, folder)
    except SourceError as error:
        assert "\n" not in str(error)
        assert str(error).encode("utf-8")
    except NumericsError:  # sizes that fit the weights, but blow them up
        pass
