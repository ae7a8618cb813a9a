"""The real command line takes every command that README, docs and profile headers show, the real params its changes."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app
from flows.params.file import load_params
from flows.stages import STAGES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "profiles").rglob("*.yaml"))]
# A profile that the tutorial has its reader write.
WRITTEN_BY_THE_READER = {"mine"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A command and where it stands."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def _blocks(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        shown = re.findall(r"^#\s{2,}(python -m .*|dvc .*)$", text, re.MULTILINE)
        # Words behind a wide gap explain the command.
        yield "\n".join(re.split(r"\s{3,}", line)[0] for line in shown)
    else:
        yield from re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL)


def _commands() -> Iterator[Shown]:
    for page in PAGES:
        for block in _blocks(page):
            code = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block.replace("\\\n", " "), flags=re.DOTALL | re.MULTILINE)
            waiting = ""
            for line in code.splitlines():
                waiting += line + "\n"
                try:
                    words = shlex.split(waiting, comments=True)
                except ValueError:  # a quotation goes on in the next line
                    continue
                waiting = ""
                if words:
                    yield Shown(str(page.relative_to(ROOT)), tuple(words))


COMMANDS = list(_commands())
FLOWS = [c for c in COMMANDS if c.words[1:3] == ("-m", "flows")]
DVC = [c for c in COMMANDS if c.words[0] == "dvc"]
MAKE = [c for c in COMMANDS if c.words[0] == "make"]


def test_there_are_commands_to_check() -> None:
    assert len(FLOWS) > 20 and len(DVC) > 5 and len(MAKE) > 5


@pytest.mark.parametrize("shown", FLOWS, ids=str)
def test_the_command_line_takes_the_words(shown: Shown) -> None:
    group = typer.main.get_command(app)
    name, *words = shown.words[3:]
    command = group.commands[name]  # type: ignore[attr-defined]
    given: dict[str, Any] = command.make_context(name, list(words)).params
    if name == "run":
        assert given["stage"] in {"pipeline", "fusion", "dialogue", "ablation", *(stage.name for stage in STAGES)}
    # `check` is shown with mistakes.
    if "overrides" in given and given["profile"] not in WRITTEN_BY_THE_READER and name != "check":
        load_params(ROOT, profile=given["profile"], overrides=given["overrides"] or ())


@pytest.mark.parametrize("shown", DVC, ids=str)
def test_dvc_takes_the_words_and_the_changes(shown: Shown, tmp_path: Path) -> None:
    from dvc.cli import parse_args
    from dvc.utils.hydra import apply_overrides

    changes = getattr(parse_args(list(shown.words[1:])), "set_param", None) or []
    assert not any(change.startswith("profile=") for change in changes), "it empties the folders of the other profile"
    copy = tmp_path / "params.yaml"
    copy.write_bytes((ROOT / "params.yaml").read_bytes())
    if changes:
        apply_overrides(copy, changes)
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    load_params(tmp_path)


@pytest.mark.parametrize("shown", MAKE, ids=str)
def test_the_makefile_has_the_target(shown: Shown) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {word for word in shown.words[1:] if "=" not in word} <= targets
