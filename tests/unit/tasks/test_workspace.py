"""Where the project is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from models.errors import FusedialError
from tasks import workspace
from tasks.database_file import own_database


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    workspace.project_root.cache_clear()
    yield
    workspace.project_root.cache_clear()


PLAIN = ("a b", "a#b", "it's", 'a"b', "äö完", "a&b;$HOME", "[x]*")
ODD = ("a%20b", "100%", "what?", 'a%20b ?it\'s #"ü漢"')


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_the_address_of_a_database_leads_into_the_project(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path / name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = workspace.project_root()
    assert root == (tmp_path / name).resolve()
    root.mkdir()
    named = make_url(own_database(root)).database
    assert named is not None
    Path(named).write_bytes(b"")
    assert (root / "mlflow.db").is_file()
    assert (workspace.address_root(root) == root) == (name in PLAIN), "only where it must be, there is a link"


def test_a_link_that_leads_elsewhere_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, other = tmp_path / "a%20b", tmp_path / "b?"
    link = workspace.address_root(root)
    assert workspace.address_root(other) != link
    link.unlink()
    link.symlink_to(other)
    assert workspace.address_root(root) == link and link.readlink() == root
    assert [path for path in link.parent.iterdir() if len(path.name) != len(link.name)] == []


@pytest.mark.parametrize("cache", ["c%", "file"])
def test_a_link_that_cannot_be_made_is_reported_in_one_line(cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
    with pytest.raises(FusedialError, match=r"must have a plain link.*Set XDG_CACHE_HOME.*or rename the project") as info:
        workspace.address_root(tmp_path / "a%20b")
    assert "\n" not in str(info.value)
