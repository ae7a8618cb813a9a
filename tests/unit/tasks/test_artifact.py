import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

import models.files
from models.errors import ArtifactError
from tasks import artifact as artifacts
from tasks.artifact import Artifact, adopt, adopt_all, drop, materialise, materialise_tree, publish, published_bytes, tree_digest
from tasks.manifest import MANIFEST


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


def test_what_is_linked_from_the_store_is_counted_once(tmp_path: Path) -> None:
    before = published_bytes()
    first = made(tmp_path / "x", "only here")
    link = tmp_path / "y" / "a.txt"
    link.parent.mkdir()
    link.hardlink_to(first.path / "a.txt")
    (link.parent / "more").write_text("1234")
    assert publish(link.parent, "thing", meta={}).bytes == len("only here") + 4
    assert published_bytes() - before == len("only here") + len("two") + 4


def test_metadata_is_part_of_the_identity(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_text("1")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "a").write_text("1")
    assert publish(tmp_path / "x", "k", meta={"n": 1}).sha256 != publish(tmp_path / "y", "k", meta={"n": 2}).sha256


@pytest.mark.parametrize("damage", ["delete", "truncate", "same size", "manifest"])
def test_a_damaged_artifact_cannot_be_read_back(tmp_path: Path, damage: str) -> None:
    artifact = made(tmp_path / "x")
    record = artifact.model_dump()
    Artifact(**record)
    file = artifact.path / ("a.txt" if damage != "manifest" else MANIFEST)
    file.chmod(0o644)
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        file.write_text("o")
    elif damage == "same size":
        file.write_text("eno")
    else:
        file.write_text(file.read_text() + " ")
    with pytest.raises((ArtifactError, ValidationError)) as error:
        Artifact(**record)
    assert file.name in str(error.value)


def test_publishing_again_repairs_a_damaged_artifact(tmp_path: Path) -> None:
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
    artifact = made(tmp_path / "x")
    out = tmp_path / "out"
    shutil.copytree(artifact.path, out)
    shutil.rmtree(tmp_path / ".cache")
    assert adopt(out, stage="prepare") == artifact
    assert (artifact.path / "sub" / "b.txt").read_text() == "two"


def test_adopting_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="python -m flows run prepare"):
        adopt(tmp_path / "nothing", stage="prepare")


def test_a_folder_has_one_digest_in_tasks_and_models(tmp_path: Path) -> None:
    (tmp_path / "x" / "sub").mkdir(parents=True)
    (tmp_path / "x" / "sub" / "a").write_bytes(b"1")
    assert tree_digest(tmp_path / "x") == models.files.tree_digest(tmp_path / "x")


def test_large_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(b"x" * (3 << 20))
    first = tree_digest(file)
    os.utime(file, ns=(1, 1))
    assert tree_digest(file) == first
    file.write_bytes(b"y" * (3 << 20))
    assert tree_digest(file) != first


def test_a_memo_is_not_used_for_other_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_SETTLED_NS", 0)
    monkeypatch.setattr(artifacts, "_digests", {})
    file = tmp_path / "big"
    file.write_bytes(b"x" * (2 << 20))
    right, before = tree_digest(file), file.stat()
    (memo,) = (tmp_path / ".cache" / "digests").iterdir()
    kept = memo.read_bytes()
    flipped = kept[:-1] + bytes([kept[-1] ^ 1])
    for damaged in (b"", b"\xff\xfe", b"x", kept[:20], kept[20:], b"\x00" * len(kept), flipped, kept.replace(b" ", b"\n")):
        memo.write_bytes(damaged)
        artifacts._digests.clear()
        assert tree_digest(file) == right
    with file.open("r+b") as opened:
        opened.write(b"y")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    artifacts._digests.clear()
    assert tree_digest(file) != right, "the time of the content was put back"


def test_a_memo_of_a_copied_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "_SETTLED_NS", 0)
    file = tmp_path / "big"
    file.write_bytes(b"x" * (2 << 20))
    first, before = tree_digest(file), file.stat()
    other = tmp_path / "other"
    other.write_bytes(b"z" * (2 << 20))
    other.replace(file)  # same name, size and times, as after a restore
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    artifacts._digests.clear()
    assert tree_digest(file) != first


@pytest.mark.parametrize("extra", ["evil.py", "sub/evil.py", ".hidden", "manifest.json.123.tmp", "link", "dangling", "folder"])
def test_an_unlisted_file_is_noticed(tmp_path: Path, extra: str) -> None:
    artifact = made(tmp_path / "x")
    out = materialise(artifact, tmp_path / "out")
    for folder in (artifact.path, out):
        if extra == "link":
            (folder / extra).symlink_to(tmp_path)
        elif extra == "dangling":
            (folder / extra).symlink_to("nowhere")
        elif extra == "folder":
            (folder / extra).mkdir()
            (folder / extra / "x").write_text("")
        else:
            (folder / extra).write_text("x = 1")
    with pytest.raises((ArtifactError, ValidationError), match="not listed"):
        Artifact(**artifact.model_dump())
    with pytest.raises(ArtifactError, match=r"not listed.*flows run prepare"):
        adopt(out, stage="prepare")
    assert made(tmp_path / "y") == artifact, "its producer puts it right"
    assert adopt(materialise(artifact, out), stage="prepare") == artifact


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"schema": 1, "files": []}',
        "\x00" * 50,
        "[" * 100_000,
        '{"schema":1,"kind":"k","meta":{},"files":[3]}',
    ]
    + [
        json.dumps({"schema": 1, "kind": "k", "meta": {}, "files": [{"path": path, "sha256": "0" * 64, "bytes": 1}]})
        for path in ("../x", "/x", "")
    ],
)
def test_a_damaged_manifest_is_reported_in_one_line_with_the_stage(tmp_path: Path, text: str) -> None:
    out = materialise(made(tmp_path / "x"), tmp_path / "out")
    (out / MANIFEST).unlink()
    (out / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"must be a manifest.*python -m flows run prepare` again\.$") as error:
        adopt(out, stage="prepare")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", [{"meta": {"n": 3}}, {"kind": "other"}, {"bytes": 1}])
def test_a_record_that_contradicts_the_manifest_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    record = made(tmp_path / "x").model_dump()
    with pytest.raises((ArtifactError, ValidationError), match="the record was edited"):
        Artifact(**record | change)


def test_what_writers_left_in_a_folder_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "x" / "sub").mkdir(parents=True)
    (tmp_path / "x" / ".manifest.json.0123456789ab.part").write_text("torn")
    (tmp_path / "x" / "sub" / ".b.txt.0123456789ab.part").write_text("torn")
    artifact = made_in(tmp_path / "x")
    assert sorted(p.name for p in artifact.path.rglob("*") if p.is_file()) == ["a.txt", "b.txt", MANIFEST]


def made_in(folder: Path) -> Artifact:
    (folder / "a.txt").write_text("one")
    (folder / "sub" / "b.txt").write_text("two")
    return publish(folder, "thing", meta={"n": 2})


def test_adopting_at_once_and_after_a_dead_one(tmp_path: Path) -> None:
    artifact = made(tmp_path / "x")
    out = materialise(artifact, tmp_path / "out")
    home = artifact.path
    for _ in range(5):
        shutil.rmtree(home.parent)
        dead = home.parent / f".{artifact.sha256}.0123456789ab.part"
        dead.mkdir(parents=True)
        (dead / "stale.bin").write_text("left over")
        failed: list[BaseException] = []
        barrier = threading.Barrier(4)

        def work(barrier: threading.Barrier = barrier, failed: list[BaseException] = failed) -> None:
            barrier.wait()
            try:
                assert adopt(out, stage="prepare") == artifact
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert [p.name for p in home.parent.iterdir()] == [artifact.sha256]


def test_what_is_there_already_is_left_to_its_readers(tmp_path: Path) -> None:
    artifact = made(tmp_path / "x")
    out = materialise(artifact, tmp_path / "out")
    before = out.stat().st_ino
    materialise(artifact, out)
    assert out.stat().st_ino == before
    copied = tmp_path / "copied"
    shutil.copytree(out, copied)
    before = copied.stat().st_ino
    assert materialise(artifact, copied).stat().st_ino == before
    (copied / "a.txt").unlink()
    materialise(artifact, copied)
    assert (copied / "a.txt").read_text() == "one" and adopt(copied, stage="s") == artifact
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == [".cache"]


@pytest.mark.parametrize("name", ["a.txt", MANIFEST])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    artifact = made(tmp_path / "x")
    out = materialise(artifact, tmp_path / "out")
    (out / name).unlink()
    os.mkfifo(out / name)
    with pytest.raises(ArtifactError, match="missing"):
        adopt(out, stage="prepare")
    for pipe in (out / name, out):
        with pytest.raises(OSError, match="No such device"):
            tree_digest(pipe)
    with pytest.raises(OSError, match="No such device"):
        artifacts.file_digest(out / name)
    assert adopt(materialise(artifact, out), stage="prepare") == artifact


def test_an_artifact_is_dropped_unless_it_is_an_output_somewhere(tmp_path: Path) -> None:
    artifact = made(tmp_path / "x")
    out = materialise(artifact, tmp_path / "out")
    assert not drop(artifact) and artifact.path.is_dir()
    shutil.rmtree(out)
    (tmp_path / "elsewhere").hardlink_to(artifact.path / "a.txt")  # another artifact with the same file
    assert drop(artifact) and not artifact.path.exists()
    assert (tmp_path / "elsewhere").read_text() == "one"
    with pytest.raises(ArtifactError, match="has no manifest"):
        Artifact(**artifact.model_dump())
