"""The commit that figures are stamped with."""

import subprocess
from pathlib import Path

import pytest

from flows.context import git_commit


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("README.md", "params.yaml", "reports/embedded/fusion.json", "docs/log.md", "flows/fuse.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before", encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "marked"),
    [
        (None, False),
        ("reports/embedded/fusion.json", False),
        ("README.md", False),
        ("docs/log.md", False),
        ("params.yaml", True),
        ("flows/fuse.py", True),
    ],
)
def test_only_files_that_decide_results_mark_a_commit(repository: Path, changed: str | None, marked: bool) -> None:
    if changed:
        (repository / changed).write_text("after", encoding="utf-8")
    assert git_commit(repository).endswith("+") is marked


def test_without_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "none"
