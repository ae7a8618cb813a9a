import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ArtifactError
from tasks.artifact import MANIFEST, Artifact, adopt, adopt_all, materialise, materialise_tree, publish, tree_digest


def made(folder: Path, text: str = "one") -> Artifact:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text(text)
    (folder / "sub" / "b.txt").write_text("two")
    return publish(folder, "thing", meta={"n": 2})


def test_equal_content_has_one_address(tmp_path: Path) -> None:
    first, second = made(tmp_path / "x"), made(tmp_path / "y")
    other = made(tmp_path / "z", "changed")
    assert first == second
    assert first.sha256 != other.sha256
    assert first.bytes == 6
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()
    listed = [f["path"] for f in json.loads((first.path / MANIFEST).read_text())["files"]]
    assert listed == ["a.txt", "sub/b.txt"]


def test_metadata_is_part_of_the_identity(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a").write_text("1")
    assert publish(tmp_path / "x", "k", meta={"n": 1}).sha256 != publish(tmp_path / "y", "k", meta={"n": 2}).sha256


@pytest.mark.parametrize("harm", ["delete", "truncate", "same size", "manifest"])
def test_a_harmed_artifact_cannot_be_read_back(tmp_path: Path, harm: str) -> None:
    artifact = made(tmp_path / "x")
    record = artifact.model_dump()
    Artifact(**record)
    file = artifact.path / ("a.txt" if harm != "manifest" else MANIFEST)
    file.chmod(0o644)
    if harm == "delete":
        file.unlink()
    elif harm == "truncate":
        file.write_text("o")
    elif harm == "same size":
        file.write_text("eno")
    else:
        file.write_text(file.read_text() + " ")
    with pytest.raises((ArtifactError, ValidationError)) as error:
        Artifact(**record)
    assert file.name in str(error.value)


def test_publishing_again_mends_a_harmed_artifact(tmp_path: Path) -> None:
    artifact = made(tmp_path / "x")
    file = artifact.path / "a.txt"
    file.chmod(0o644)
    file.write_text("bad")
    again = made(tmp_path / "y")
    assert again == artifact
    assert file.read_text() == "one"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ArtifactError, match="no file"):
        publish(tmp_path / "x", "thing", meta={})


def test_materialised_parts_are_adopted_again(tmp_path: Path) -> None:
    one, two = made(tmp_path / "x"), made(tmp_path / "y", "other")
    out = materialise_tree({"p/one": one, "p/two": two}, tmp_path / "out")
    assert adopt_all(out, stage="s") == {"p/one": one, "p/two": two}
    (tmp_path / "out" / "stale").mkdir()
    materialise(one, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.txt", MANIFEST, "sub"]


def test_adopting_fills_an_empty_store(tmp_path: Path) -> None:
    import shutil

    artifact = made(tmp_path / "x")
    out = tmp_path / "out"
    shutil.copytree(artifact.path, out)
    shutil.rmtree(tmp_path / ".cache")
    assert adopt(out, stage="prepare") == artifact
    assert (artifact.path / "sub" / "b.txt").read_text() == "two"


def test_adopting_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="python -m flows run prepare"):
        adopt(tmp_path / "nothing", stage="prepare")


def test_large_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"x" * (3 << 20))
    first = tree_digest(file)
    os.utime(file, ns=(1, 1))
    assert tree_digest(file) == first
    file.write_bytes(b"y" * (3 << 20))
    assert tree_digest(file) != first
