import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import results_files
from flows.cli import app
from flows.context import StageContext
from flows.params.file import load_params
from flows.results_files import Plot, overrides, renew_tables
from models.reporting.results import Result, ResultRow, write_result

ROOT = Path(__file__).resolve().parents[3]


def context(*options: str) -> StageContext:
    return StageContext(root=ROOT, params=load_params(ROOT, profile="real-mwoz", overrides=options).params)


def test_a_profile_as_it_stands_needs_no_option():
    assert overrides(context()) == "" == overrides(context("runtime.threads=1", "tracking.log_every=9"))


def test_the_options_told_lead_to_the_same_params():
    given = ("variants=[none,prompt]", "retriever.warm_start.seed=2", "dialogue.joint.retriever_lr=1e-5", "dialogue.seed=2")
    made = context(*given)
    words = shlex.split(overrides(made))
    assert words[::2] == ["-S"] * 4 and words[1::2] != list(given)
    assert context(*words[1::2]).params == made.params


def test_pages_of_results_and_plots_are_renewed_and_stale_ones_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "docs" / "results"
    write_result(folder, Result("speed", "make bench", "0123456789ab", "2026-01-31", (ResultRow("loss", 3.5, "s", 3.0, 4.0),)))
    (tmp_path / "README.md").write_text("# Title\n")
    (folder / "speed.md").write_text("<!-- results:speed -->\n<!-- /results -->\n")
    monkeypatch.setattr(results_files, "PLOTS", (Plot("speed", "speed", "Speed", {}),))

    stale = renew_tables(tmp_path, write=False)
    assert len(stale) == 2 and stale[0].startswith("docs/images/speed.svg differs") and "speed.md" in stale[1]
    assert renew_tables(tmp_path, write=True) == ["renewed docs/images/speed.svg", "renewed docs/results/speed.md"]
    assert "| loss | 3.50 s [3.00, 4.00] |" in (folder / "speed.md").read_text()
    assert renew_tables(tmp_path, write=False) == renew_tables(tmp_path, write=True) == []
    write_result(folder, Result("speed", "make bench", "0123456789ab", "2026-01-31", (ResultRow("loss", 3.6, "s", 3.0, 4.0),)))
    assert len(renew_tables(tmp_path, write=False)) == 2


def test_a_note_needs_the_name_of_its_figures():
    said = CliRunner().invoke(app, ["results", "--note", "Measured before."])
    assert said.exit_code == 2 and "--note needs NAME" in said.output
