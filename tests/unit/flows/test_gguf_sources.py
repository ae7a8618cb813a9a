"""What `check` and `plan` say of GGUF sources, without unpacking them."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.gguf_files import LAYERS, WIDTH, byte_tokens, tensor_shapes, write_gguf

from flows.gguf_sources import check_gguf_sources
from flows.plan.fusion_sizes import model_sizes
from flows.plan.plan import used_in_place
from models.errors import SourceError
from models.params.dialogue import DialogueParams, GeneratorParams
from models.params.sources import GgufSpec, SourceSpec


def context(root: Path, *specs: SourceSpec, generator: GeneratorParams | None = None) -> Any:
    dialogue = DialogueParams() if generator is None else DialogueParams(generator=generator)
    params = SimpleNamespace(sources=SimpleNamespace(models=specs), planning=SimpleNamespace(sizes=()), dialogue=dialogue)
    return SimpleNamespace(root=root, params=params)


def test_check_says_how_large_they_are_here_and_unpacked(tmp_path):
    file = write_gguf(tmp_path / "a.gguf")
    specs = (
        SourceSpec(name="owl", model="a.gguf"),
        SourceSpec(name="hub", model="org/name", revision="0" * 40, gguf=GgufSpec(file="b.gguf")),
        SourceSpec(name="plain", model="org/other", revision="0" * 40),
    )
    count = sum(_size(shape) for shape in tensor_shapes(len(byte_tokens())).values())
    lines = check_gguf_sources(context(tmp_path, *specs).params, root=tmp_path)
    assert lines == [
        f"source owl: GGUF, llama, {count / 1e6:.1f} M parameters, {file.stat().st_size / 1e6:.1f} MB here, "
        f"{4 * count / 1e6:.1f} MB unpacked to float32",
        "source hub: a GGUF file on the hub, fetched by the stage `sources`",
    ]
    generator = GeneratorParams(kind="causal", model="a.gguf")
    [line] = check_gguf_sources(context(tmp_path, generator=generator).params, root=tmp_path)
    assert line.startswith(f"the generator of dialogues: GGUF, llama, {count / 1e6:.1f} M parameters")


def test_check_reports_every_fault_at_once(tmp_path, monkeypatch):
    write_gguf(tmp_path / "base.gguf", template=None)
    (tmp_path / "no.gguf").write_text("nothing of the kind")
    specs = [SourceSpec(name=name, model=f"{name}.gguf") for name in ("base", "no", "away")]
    with pytest.raises(SourceError) as caught:
        check_gguf_sources(context(tmp_path, *specs).params, root=tmp_path)
    lines = str(caught.value).splitlines()
    for line, words in zip(lines, ("chat_template", "must be a GGUF file", "does not exist"), strict=True):
        assert words in line
    write_gguf(tmp_path / "a.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(SourceError, match=r"`sources\.models\[owl\]\.model` is a GGUF file, which needs the package `gguf`"):
        check_gguf_sources(context(tmp_path, SourceSpec(name="owl", model="a.gguf")).params, root=tmp_path)
    with pytest.raises(SourceError, match=r"`dialogue\.generator\.chat_template` must be set, as base\.gguf brings no chat"):
        given = context(tmp_path, generator=GeneratorParams(kind="causal", model="base.gguf"))
        check_gguf_sources(given.params, root=tmp_path)


def test_plan_reads_the_sizes_from_the_header(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    write_gguf(tmp_path / "m" / "a.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    here = SourceSpec(name="owl", model="m")
    hub = SourceSpec(name="hub", model="org/name", revision="0" * 40, gguf=GgufSpec(file="b.gguf"))
    sizes, unknown = model_sizes(context(tmp_path, here, hub))
    assert unknown == ["hub"]
    found = sizes["owl"]
    assert (found.vocab_size, found.hidden_size, found.num_layers, found.gated) == (len(byte_tokens()), WIDTH, LAYERS, True)
    assert found.num_parameters == sum(_size(shape) for shape in tensor_shapes(len(byte_tokens())).values())
    assert used_in_place(context(tmp_path, here)) == []  # its folder is written by the stage


def _size(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)
