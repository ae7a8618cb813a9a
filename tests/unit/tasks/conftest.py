"""Every test of the task layer has a project folder of its own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def in_project(project: Path) -> None:
    """Use `project` whether a test asks for it or not."""
