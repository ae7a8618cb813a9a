"""Where the project is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import FusedialError
from tasks import workspace


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    workspace.project_root.cache_clear()
    yield
    workspace.project_root.cache_clear()


@pytest.mark.parametrize("name", ["a%20b", "100%", "a?b"])
def test_a_path_that_no_database_takes_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path / name))
    with pytest.raises(FusedialError, match=r"The project folder must have a path without `[%?]`.*Rename the folder"):
        workspace.project_root()


@pytest.mark.parametrize("name", ["a b", "a#b", "it's", 'a"b', "äö完"])
def test_other_paths_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(workspace.ROOT_VARIABLE, str(tmp_path / name))
    assert workspace.project_root() == (tmp_path / name).resolve()
