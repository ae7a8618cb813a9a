"""The examples of CONTRIBUTING.md are applied to a copy of the project, where each added thing must be used."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ROOT / "tests" / "integration" / "contributing" / "checks_of_what_was_added.py"
COPIED = ("flows", "tasks", "models", "profiles", "params.yaml", "pyproject.toml", "tests/conftest.py", "tests/support")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M | re.S)
DIFFS = [body for language, body in BLOCKS if language == "diff"]
FILES = [body for language, body in BLOCKS if language == "yaml"]
# One source, data set, record format, schedule; one scorer, objective, kind of meta knowledge, generator.
NUM_FILES, NUM_DIFFS, NUM_CHECKS = 3, 5, 7


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in COPIED:
        source, place = ROOT / name, tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    return tmp_path


def outcomes(copy: Path) -> dict[str, str]:
    """Run the checks in a process that imports the packages of the copy; check → PASSED, FAILED or ERROR."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FUSEDIAL_"))}
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", shutil.copy(CHECKS, copy / "tests")]
    done = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, check=False)
    found = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(test_\w+)", done.stdout, re.M)
    assert found, done.stdout + done.stderr
    return {test: outcome for outcome, test in found} | {"": done.stdout}


@pytest.mark.slow
def test_what_the_examples_add_is_used(copy: Path) -> None:
    assert (len(FILES), len(DIFFS)) == (NUM_FILES, NUM_DIFFS)
    for body in FILES:
        named = re.match(r"# (profiles/[\w-]+\.yaml)\n", body)
        assert named, body
        (copy / named.group(1)).write_text(body, encoding="utf-8")
    for body in DIFFS:
        done = subprocess.run(["git", "apply", "-"], cwd=copy, input=body, capture_output=True, text=True, check=False)
        assert not done.returncode, f"{done.stderr}\n{body}"
    found = outcomes(copy)
    output = found.pop("")
    assert set(found.values()) == {"PASSED"} and len(found) == NUM_CHECKS + 1, output


@pytest.mark.slow
def test_without_the_examples_every_check_fails(copy: Path) -> None:
    found = outcomes(copy)
    output = found.pop("")
    assert found.pop("test_the_copy_is_what_is_tested") == "PASSED", output
    assert set(found.values()) == {"FAILED"} and len(found) == NUM_CHECKS, output
