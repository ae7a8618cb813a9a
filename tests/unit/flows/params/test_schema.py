from typing import Literal

import pytest
from pydantic import Field

from flows.params.schema import all_keys, child_section, constraint_text, default_text, iter_sections, keys_below, type_text
from models.params.base import Section
from models.params.fusion import FusionParams, Phase
from models.params.lora import LoraParams


class Sample(Section):
    """A sample."""

    small: float = Field(0.5, gt=0, le=1)
    names: tuple[str, ...] = Field(min_length=1)
    pair: tuple[int, ...] = Field((1, 2), min_length=2)
    word: str | None = Field(None, pattern="^a$")
    share: dict[str, float] = Field(default_factory=lambda: {"a": 1.0})


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "whole number"),
        (bool, "true or false"),
        (float | None, "number or null"),
        (Literal["a", "b"], "`a` | `b`"),
        (tuple[str, ...], "list of texts"),
        (tuple[Literal["a", "b"], ...], "list of `a` | `b`"),
        (tuple[Phase, ...] | None, "list of mappings or null"),
        (tuple[str, ...] | Literal["all"], "list of texts or `all`"),
        (dict[str, float], "mapping of texts to numbers"),
        (dict[str, tuple[Phase, ...]], "mapping of texts to lists of mappings"),
        (LoraParams | None, "mapping or null"),
    ],
)
def test_types_in_plain_words(annotation: object, text: str) -> None:
    assert type_text(annotation) == text


@pytest.mark.parametrize(
    ("name", "constraints", "default"),
    [
        ("small", "> 0, ≤ 1", "0.5"),
        ("names", "not empty", ""),
        ("pair", "at least 2 entries", "[1, 2]"),
        ("word", "matches `^a$`", "null"),
        ("share", "", '{"a": 1.0}'),
    ],
)
def test_constraints_and_defaults(name: str, constraints: str, default: str) -> None:
    field = Sample.model_fields[name]
    assert constraint_text(field) == constraints
    assert default_text(field) == default


def test_child_sections_are_found_in_lists_and_unions() -> None:
    assert child_section(FusionParams.model_fields["schedules"].annotation) == (Phase, ".<name>[]")
    assert child_section(tuple[Phase, ...] | None) == (Phase, "[]")
    assert child_section(FusionParams.model_fields["lora"].annotation) == (LoraParams, "")
    assert child_section(tuple[str, ...]) == (None, "")


def test_keys_cover_nested_sections() -> None:
    assert {"fusion", "fusion.lr", "fusion.schedules", "fusion.schedules.<name>[].lr", "sources.models[].pico.mix"} <= set(
        all_keys()
    )
    assert keys_below("fusion.schedules.<name>[]") == ("w_infer", "w_train", "beta", "epochs", "lr", "weights")
    assert {"fusion", "methods", "profile"} <= set(keys_below(""))
    assert keys_below("nothing") == ()


def test_every_key_has_a_description_and_a_type() -> None:
    fields = [field for section in iter_sections() for field in section.fields]
    assert len(fields) > 90
    assert [f.key for f in fields if not f.description or not f.type] == []
    assert [s.key for s in iter_sections() if not s.description] == []
