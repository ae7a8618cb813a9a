"""Files are whole or absent, writers never meet, and what dead ones left goes."""

import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from models.files import is_temporary, read_record, remove_leftovers, replacing, replacing_folder, tree_digest, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("content", ["text\n", b"\x00\xff", "", "half \ud800"])
def test_a_file_is_written_whole(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "sub" / "a.json"
    write_atomic(path, "before")
    write_atomic(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    assert names(path.parent) == ["a.json"]


def test_the_mask_of_rights_counts(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "before")
    with pytest.raises(OSError, match="full"), replacing(tmp_path / "a") as place:
        place.write_text("half")
        raise OSError("full")
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "f") as folder:
        (folder / "x").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "before"


def test_a_folder_takes_the_place_of_whatever_is_there(tmp_path: Path) -> None:
    final = tmp_path / "x"
    final.write_text("a file")
    for text in ("first", "second"):
        with replacing_folder(final) as place:
            assert not list(place.iterdir())
            (place / text).write_text(text)
    assert names(final) == ["second"] and names(tmp_path) == ["x"]
    write_atomic(final, "a file again")
    assert final.read_text() == "a file again"


@pytest.mark.parametrize("length", [1, 120, 255])
def test_names_as_long_as_the_system_takes(tmp_path: Path, length: int) -> None:
    write_atomic(tmp_path / ("n" * length), "x")
    write_atomic(tmp_path / ("\u00e9" * (length // 2)), "x") if length > 1 else None
    assert all((tmp_path / name).read_text() == "x" for name in names(tmp_path))


def test_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    texts = [str(i) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=lambda t=t: [write_atomic(tmp_path / "a", t) for _ in range(5)]) for t in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        remove_leftovers(tmp_path)
        assert not (tmp_path / "a").exists() or (tmp_path / "a").read_text() in texts
    assert names(tmp_path) == ["a"]


def test_folders_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(text: str) -> None:
        try:
            for _ in range(10):
                with replacing_folder(tmp_path / "f", force=False) as place:
                    (place / "a").write_text(text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and names(tmp_path) == ["f"] and names(tmp_path / "f") == ["a"]


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with replacing_folder(tmp_path / "f") as place, replacing(tmp_path / "a") as file:
            (place / "x").write_text("half")
            file.write_text("half")
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)
    os.waitpid(child, os.WUNTRACED)
    try:
        write_atomic(tmp_path / "b", "x")
        assert sum(is_temporary(name) for name in names(tmp_path)) == 2, "its writer lives"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    write_atomic(tmp_path / "b", "x")
    assert names(tmp_path) == ["b"]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"null", b"[1]", b"\x00" * 30, b"\xff\xfe", b"[" * 100_000, "folder", "pipe", "dangling"]
)
def test_what_is_not_a_record_counts_as_absent(tmp_path: Path, damage: bytes | str) -> None:
    path = tmp_path / "record.json"
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(damage)  # type: ignore[arg-type]
    assert read_record(path) is None
    write_atomic(path, '{"a": 1}')
    assert read_record(path) == {"a": 1}
    assert read_record(tmp_path / "none") is None


def test_files_of_others_are_not_swept(tmp_path: Path) -> None:
    for name in (".download.part", "a.part", ".a.0123456789ab.part.txt", ".0123456789ab.part"):
        (tmp_path / name).write_text("theirs")
    write_atomic(tmp_path / "a", "x")
    assert len(names(tmp_path)) == 5


def test_tree_digest_sees_names_and_contents(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a").write_bytes(b"1")
    first = tree_digest(tmp_path / "one")
    assert first == tree_digest(tmp_path / "two")
    (tmp_path / "two" / "sub" / "a").write_bytes(b"2")
    (tmp_path / "one" / "sub" / "a").rename(tmp_path / "one" / "sub" / "b")
    assert len({first, tree_digest(tmp_path / "one"), tree_digest(tmp_path / "two")}) == 3


def test_digest_of_a_folder_is_over_the_lines_of_its_files(tmp_path):
    """Records keep this digest: another formula would make every stored one wrong."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    one, two = (hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    expected = hashlib.sha256(f"b {two}\nsub/a {one}\n".encode()).hexdigest()
    assert tree_digest(tmp_path) == expected


def test_digest_of_a_pipe_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        tree_digest(tmp_path)
