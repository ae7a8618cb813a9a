"""GGUF sources under a real Prefect: unpacked once, known by their content, refused where they are not what the params say."""

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from support.gguf_files import write_gguf

from flows import sources as stage
from models.errors import SourceError
from models.lm.gguf import convert
from models.lm.loading import load_source
from models.lm.source_file import read_source
from models.params.sources import GgufSpec, SourceSpec
from tasks.artifact import Artifact
from tasks.sources import gguf_source


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was unpacked, by dtype."""
    seen: list[str] = []
    real = convert.convert_gguf

    def counted(file: Any, *, dtype: Any, out: Path, scratch: Path) -> Any:
        seen.append(dtype)
        return real(file, dtype=dtype, out=out, scratch=scratch)

    monkeypatch.setattr(convert, "convert_gguf", counted)
    return seen


def pinned(root: Path, **settings: Any) -> Artifact:
    """Take the source `owl` through the steps of the stage."""
    spec = SourceSpec(name="owl", **settings)

    @flow
    def run() -> Artifact:
        converted = stage._converted(SimpleNamespace(root=root, params=SimpleNamespace(sources=SimpleNamespace(models=(spec,)))))
        call, arguments = stage._source_call(None, spec, None, {}, converted)  # type: ignore[arg-type] # asked of others only
        assert call is gguf_source
        return call(**arguments)

    return run()


def test_a_file_is_unpacked_once_wherever_it_is(project, conversions):
    file = write_gguf(project / "a.gguf")
    first = pinned(project, model="a.gguf")
    assert pinned(project, model="a.gguf") == first
    (project / "moved").mkdir()
    shutil.move(file, project / "moved" / "b.gguf")
    content = (project / "moved" / "b.gguf").read_bytes()
    assert pinned(project, model="moved") == first
    (project / "parts").mkdir()
    for number, part in enumerate((content[:9999], content[9999:])):
        (project / "parts" / f"c.gguf.part{number:02}").write_bytes(part)
    assert pinned(project, model="parts") == first
    assert conversions == ["float32"]
    source = read_source(first.path)
    assert source.location == str(first.path) and source.revision is None
    assert load_source(source, device="cpu").codec.end.notice == ""


def test_only_settings_of_the_file_unpack_it_again(project, conversions):
    write_gguf(project / "a.gguf")
    plain = pinned(project, model="a.gguf")
    short = pinned(project, model="a.gguf", context_length=64)
    assert read_source(short.path).context_length == 64 and read_source(plain.path).context_length == 128
    assert conversions == ["float32"]
    pinned(project, model="a.gguf", gguf=GgufSpec(dtype="bfloat16"))
    assert conversions == ["float32", "bfloat16"]
    write_gguf(project / "a.gguf", quantise=False)
    assert pinned(project, model="a.gguf") != plain
    assert conversions == ["float32", "bfloat16", "float32"]


def test_the_digest_of_the_params_must_be_that_of_the_file(project, conversions):
    digest = hashlib.sha256(write_gguf(project / "a.gguf").read_bytes()).hexdigest()
    pinned(project, model="a.gguf", gguf=GgufSpec(sha256=digest))
    with pytest.raises(SourceError, match=rf"a\.gguf must have the sha256 0000.* \(`gguf\.sha256`\), but has {digest}: it is"):
        pinned(project, model="a.gguf", gguf=GgufSpec(sha256="0" * 64))
    assert conversions == ["float32"]


def test_a_base_model_needs_a_template_from_the_params_before_it_is_unpacked(project, conversions):
    write_gguf(project / "base.gguf", template=None)
    message = r"`sources\.models\[owl\]\.chat_template` must be set, as base\.gguf brings no chat template .*, but is null"
    with pytest.raises(SourceError, match=message):
        pinned(project, model="base.gguf")
    assert conversions == []
    source = read_source(pinned(project, model="base.gguf", chat_template="alpaca").path)
    assert source.end_ids == (2,)  # the file's own eos


def test_the_files_are_stored_once(project):
    write_gguf(project / "a.gguf")
    made = pinned(project, model="a.gguf")
    (weights,) = {path.stat().st_ino for path in (project / ".cache" / "artifacts").rglob("model.safetensors")}
    assert (made.path / "model.safetensors").stat().st_ino == weights
