"""What `check` says of an installation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.installation import script_warnings


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "100 %20", "ü漢", "what?"])
def test_a_script_in_such_a_folder_starts(tmp_path: Path, name: str) -> None:
    assert script_warnings(tmp_path / name / ".venv") == []
    assert starts(tmp_path / name / ".venv") == 0


@pytest.mark.parametrize("name", ['q"q', "a$b", "a`b"])
def test_one_that_does_not_is_said_in_a_line_with_the_cure(tmp_path: Path, name: str) -> None:
    (line,) = script_warnings(tmp_path / name / ".venv")
    assert f"its path has {name[1]}" in line and "\n" not in line
    assert "make setup VENV=" in line and "python -m dvc" in line
    assert starts(tmp_path / name / ".venv") != 0


def starts(environment: Path) -> int:
    """Activate a virtual environment in a shell, call its Python by name, and return how that ended."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    shell = 'cd "$1" && . ./activate && [ "$(command -v python)" = "$PWD/python" ]'
    return subprocess.run(["sh", "-c", shell, "sh", str(environment / "bin")], capture_output=True, check=False).returncode


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_makefile_calls_modules_and_refuses_a_path_with_blanks() -> None:
    root = Path(__file__).parents[3]

    def make(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["make", "-n", *words], cwd=root, capture_output=True, text=True, check=False)

    printed = make("check", "plots", "VENV=/none/v").stdout
    scripts = [line for line in printed.splitlines() if "/none/v/bin/" in line and "/none/v/bin/python" not in line]
    assert "/none/v/bin/python -m pip install" in printed and all("bin/ruff" in line for line in scripts), "ruff is a binary"
    refused = make("check", "VENV=/two words")
    assert refused.returncode != 0 and "VENV must be a path without blanks, but is `/two words`" in refused.stderr
