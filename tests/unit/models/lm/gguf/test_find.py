"""Finding a GGUF file: files, folders, parts, packages, the hub's cache."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from models.errors import SourceError
from models.lm.gguf.find import find_gguf, names_gguf
from models.params.sources import GgufSpec, SourceSpec


def spec(model: str, *, revision: str | None = None, **gguf: Any) -> SourceSpec:
    return SourceSpec(name="owl", model=model, revision=revision, gguf=GgufSpec(**gguf) if gguf else None)


def put(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_a_file_a_folder_and_a_name_in_a_folder_lead_to_the_file(tmp_path):
    put(tmp_path / "m", a__gguf="A", README__md="r")
    put(tmp_path / "two", a__gguf="A", b__GGUF="B")
    for one in (spec("m/a.gguf"), spec("m"), spec(str(tmp_path / "m")), spec("two", file="a.gguf")):
        assert names_gguf(one, root=tmp_path)
        found = find_gguf(one, root=tmp_path)
        assert found is not None and found.name == "a.gguf" and found.open().read() == b"A"


def test_a_model_folder_is_none_unless_the_params_say_so(tmp_path):
    folder = put(tmp_path / "m", config__json="{}", a__gguf="A")
    assert not names_gguf(spec("m"), root=tmp_path)
    assert names_gguf(spec("m", file="a.gguf"), root=tmp_path)
    assert not names_gguf(spec("org/name"), root=tmp_path)
    (folder / "a.gguf").unlink()
    (folder / "config.json").unlink()
    assert not names_gguf(spec("m"), root=tmp_path)


@pytest.mark.parametrize("first", [0, 1])
def test_parts_are_one_file_with_one_digest(tmp_path, first):
    texts = ["GG", "U", "F and more"]
    put(tmp_path / "m", **{f"a__gguf__part{i + first:02}": text for i, text in enumerate(texts)})
    for model in ("m", "m/a.gguf"):
        found = find_gguf(spec(model), root=tmp_path)
        assert found is not None and found.num_bytes == 13 and len(found.parts) == 3
        assert found.open().read() == "".join(texts).encode()
        assert found.sha256() == hashlib.sha256(b"GGUF and more").hexdigest()


def test_a_missing_part_is_named(tmp_path):
    put(tmp_path / "m", a__gguf__part00="GG", a__gguf__part02="F")
    with pytest.raises(
        SourceError, match=r"a\.gguf in the folder .* number 1 is missing \(there are a\.gguf\.part00, a\.gguf\.part02\)"
    ):
        find_gguf(spec("m"), root=tmp_path)


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (
            spec("m"),
            r"models\[owl\]\.model`: the folder .* holds several GGUF files: a\.gguf, b\.gguf\. Name one by `gguf\.file`",
        ),
        (spec("m", file="c.gguf"), r"must hold the GGUF file c\.gguf \(`gguf\.file`\), but there are a\.gguf, b\.gguf"),
        (spec("empty", dtype="float32"), r"must hold a GGUF file \(\.gguf\), but there is none"),
        (spec("m/c.gguf"), r"names the file .*/m/c\.gguf, but it does not exist"),
        (spec("./away", dtype="float32"), r"names the folder .*away, but it does not exist"),
        (
            spec("org/name", file="a.gguf"),
            r"`sources\.models\[owl\]\.revision` must be set for the hub name `org/name`, but is null",
        ),
        (spec("org/name", revision="abc", dtype="float32"), r"`sources\.models\[owl\]\.gguf\.file` must be set for the hub name"),
        (spec("package:no_such_package_here"), r"names the package `no_such_package_here`, but it is not installed\. Install it"),
    ],
)
def test_what_is_not_there_is_refused_with_a_cure(tmp_path, one, message):
    put(tmp_path / "m", a__gguf="A", b__gguf="B")
    put(tmp_path / "empty", README__md="r")
    with pytest.raises(SourceError, match=message):
        find_gguf(one, root=tmp_path)


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    put(tmp_path / "gguf_whole_x", __init____py="raise ImportError", a__gguf="A").joinpath("__init__.py").write_text(
        "raise ImportError"
    )
    found = find_gguf(spec("package:gguf_whole_x"), root=tmp_path)
    assert found is not None and found.parts == (tmp_path / "gguf_whole_x" / "a.gguf",)


def test_the_parts_of_a_package_lie_in_its_companions(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    put(tmp_path / "gguf_split_x", NOTICE="n").joinpath("__init__.py").write_text("raise ImportError")
    with pytest.raises(SourceError, match=r"the package `gguf_split_x` must hold a GGUF file \(\.gguf\), but there is none"):
        find_gguf(spec("package:gguf_split_x"), root=tmp_path)
    for number, text in enumerate(("GG", "U", "F"), start=1):
        place = tmp_path / f"gguf_split_x_part{number}"
        put(place / "data", **{f"a__gguf__part{number - 1:02}": text})
        (place / "__init__.py").write_text("raise ImportError")
    found = find_gguf(spec("package:gguf_split_x"), root=tmp_path)
    assert found is not None and found.open().read() == b"GGUF"
    (tmp_path / "gguf_split_x_part2" / "data" / "a.gguf.part01").unlink()
    with pytest.raises(SourceError, match=r"number 1 is missing .* or install the package that carries it"):
        find_gguf(spec("package:gguf_split_x"), root=tmp_path)


def test_a_hub_file_comes_from_the_cache_and_is_not_fetched_for_a_plan(tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0" * 40
    cached = put(tmp_path / "hub" / "models--org--name" / "snapshots" / commit, a__gguf="A") / "a.gguf"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = find_gguf(spec("org/name", revision=commit, file="a.gguf"), root=tmp_path)
    assert found is not None and found.parts == (cached,)
    away = spec("org/name", revision=commit, file="b.gguf")
    assert find_gguf(away, root=tmp_path, download=False) is None
    with pytest.raises(
        SourceError, match=rf"b\.gguf of `org/name` must be on the hub at {commit}, but cannot be fetched: .* HF_HOME"
    ):
        find_gguf(away, root=tmp_path)
