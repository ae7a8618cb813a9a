"""What DVC does to the outputs of another profile: the advice of docs/operations.md, on a pipeline of ours in small."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PIPELINE = """
stages:
  prepare:
    cmd: mkdir -p artifacts/${profile}/prepare && echo ${profile} > artifacts/${profile}/prepare/file
    deps:
      - profiles/${profile}.yaml
    outs:
      - artifacts/${profile}/prepare
  report:
    cmd: cp -r artifacts/${profile}/prepare artifacts/${profile}/report
    deps:
      - artifacts/${profile}/prepare
    outs:
      - artifacts/${profile}/report:
          persist: true
"""
FIRST = {"embedded/prepare/file", "embedded/report/file"}
SECOND = {"smoke/prepare/file", "smoke/report/file"}


class Small:
    """A git and DVC repository with two stages and two profiles, the first of which was reproduced and committed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "profiles").mkdir()
        files = {"dvc.yaml": PIPELINE, "params.yaml": "profile: embedded\n", ".gitignore": "/artifacts\n/site\n"}
        for name, text in {**files, "profiles/embedded.yaml": "a: 1\n", "profiles/smoke.yaml": "a: 2\n"}.items():
            (root / name).write_text(text)
        self("git", "init", "-q")
        self.dvc("init", "-q")
        self.dvc("repro", "-q")
        self("git", "add", "-A")
        self("git", "commit", "-qm", "first")

    def __call__(self, *words: str) -> None:
        author = {f"GIT_{who}_{what}": "e2e@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {**os.environ, **author, "DVC_SITE_CACHE_DIR": str(self.root / "site"), "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(words, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"

    def dvc(self, *words: str) -> None:
        self(sys.executable, "-m", "dvc", *words)

    def files(self) -> set[str]:
        folder = self.root / "artifacts"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small(tmp_path: Path) -> Small:
    made = Small(tmp_path)
    assert made.files() == FIRST
    return made


def test_an_experiment_that_names_its_last_stage_leaves_the_other_profile_alone(small: Small) -> None:
    small.dvc("exp", "run", "-q", "-S", "profile=smoke", "report")
    assert small.files() == FIRST | SECOND


def test_what_one_without_a_target_removes_is_brought_back(small: Small) -> None:
    small.dvc("exp", "run", "-q", "-S", "profile=smoke")
    assert small.files() == SECOND, "where DVC leaves them, the advice is out of date"
    small("git", "checkout", "-q", "params.yaml", "dvc.lock")
    small.dvc("checkout", "-q", "--with-deps", "report")
    assert small.files() == FIRST | SECOND
