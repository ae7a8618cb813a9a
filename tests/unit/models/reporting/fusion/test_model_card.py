"""The README of a fused model."""

import io
from dataclasses import replace
from typing import Any

import pytest
from ruamel.yaml import YAML

from models.errors import DataError
from models.evaluation.fusion.scores import ComparisonRow, TableRow
from models.reporting.fusion.model_card import ModelCard, render_model_card
from models.schema import ResolvedSource

_SCHOLAR = ResolvedSource(
    "scholar", "/home/me/models/scholar", None, "ab" * 32, "t", "x", 512, "float32", "LlamaForCausalLM", 1_234_567, 512, 512
)
_SOLVER = replace(_SCHOLAR, name="solver", location="acme/solver-7b", revision="9f8e", digest="hub:acme/solver-7b@9f8e")
_PHASES = [
    {"first_step": 1, "last_step": 19, "w_infer": 1.0, "w_train": 0.0, "beta": 0.11, "lr": 5e-4},
    {"first_step": 20, "last_step": 38, "w_infer": 0.1, "w_train": 1.0, "beta": 0.11, "lr": 5e-4},
]


@pytest.fixture
def card(table: tuple[TableRow, ...], comparisons: tuple[ComparisonRow, ...]) -> ModelCard:
    return ModelCard(
        name="scholar-profuser",
        method="profuser",
        target=_SCHOLAR,
        sources=[_SCHOLAR, _SOLVER],
        phases=_PHASES,
        table=table,
        comparisons=comparisons,
        settings={"top-k": "10"},
        data={"training examples": "600"},
        licences={"solver": "Apache-2.0"},
        limits=["It answers in English only."],
        provenance={"commit": "0123456789"},
    )


def _front_matter(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(io.StringIO(text.split("---\n")[1]))
    return loaded


def test_the_card_says_what_a_user_must_know(card: ModelCard) -> None:
    text = render_model_card(card)
    for said in (
        "# scholar-profuser",
        "scholar (LlamaForCausalLM, 1,234,567 parameters), taught by scholar and solver",
        "| 1 | 1–19 | 1 | 0 | 0.11 | 0.0005 |",
        "| 2 | 20–38 | 0.1 | 1 | 0.11 | 0.0005 |",
        "| solver | source | acme/solver-7b@9f8e |",
        "| scholar | target | local, sha256 abababababab |",
        "profuser − sft",
        "- top-k: 10",
        "- data: training examples: 600",
        "AutoModelForCausalLM.from_pretrained(folder)",
        "- It answers in English only.",
        "- solver: Apache-2.0",
        "- scholar: not recorded; look it up before passing the model on",
        "- commit: 0123456789",
    ):
        assert said in text, said
    for heading in ("Scores", "How it was made", "How to load it", "Limits", "Licence", "Provenance"):
        assert f"\n## {heading}\n" in text


def test_the_front_matter_is_yaml_and_names_hub_models_only(card: ModelCard) -> None:
    assert _front_matter(render_model_card(card)) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other",
        "tags": ["fusedial", "model-fusion", "profuser"],
        "base_model": ["acme/solver-7b"],
    }
    local = replace(card, sources=[_SCHOLAR, replace(_SCHOLAR, name="other")])
    assert "base_model" not in _front_matter(render_model_card(local))


def test_no_path_of_the_machine_leaks(card: ModelCard) -> None:
    assert "/home/me" not in render_model_card(card)


def test_only_this_models_differences_are_shown(card: ModelCard) -> None:
    assert "sft − scholar (untrained)" not in render_model_card(card)
    assert "### Paired differences" not in render_model_card(replace(card, comparisons=[]))


def test_left_out_examples_are_a_limit(card: ModelCard) -> None:
    lossy = replace(card, table=[replace(row, left_out=3) for row in card.table])
    assert "- 3 held-out examples could not be scored by every system" in render_model_card(lossy)


def test_a_model_without_scores_has_no_card(card: ModelCard) -> None:
    with pytest.raises(DataError, match="simul → scholar"):
        render_model_card(replace(card, method="simul"))


def test_the_loading_snippet_is_python(card: ModelCard) -> None:
    snippet = render_model_card(card).split("```python\n")[1].split("```")[0]
    compile(snippet, "card", "exec")
    assert 'folder = "scholar-profuser"' in snippet


def test_a_schedule_of_ones_own_is_a_method(card: ModelCard) -> None:
    table = [replace(r, system=replace(r.system, name="mine")) if r.system.name == "profuser" else r for r in card.table]
    text = render_model_card(replace(card, method="mine", table=table))
    assert "Method: `mine`, a schedule of its own, see below." in text
