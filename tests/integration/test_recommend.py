"""`recommend` on the smallest profile: from a pilot to advice; nothing is trained twice, and the test split stays unread."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from flows import context
from flows.recommend.pilot import asked
from flows.recommend.show import print_recommendation

ROOT = Path(__file__).resolve().parents[2]


def recommend(project: Path) -> tuple[bool, str]:
    said = StringIO()
    overrides = ["runtime.threads=1", "runtime.device=cpu", "runtime.progress=false", "corpus.world.num_prompts_only=48"]
    wanted = asked(project, profile="smoke", overrides=overrides, limit=48, rates=[1e-3])
    return print_recommendation(wanted, Console(file=said, width=200)), said.getvalue()


def records(project: Path, kind: str) -> list[dict[str, object]]:
    """Return the records of the steps of a kind that have run."""
    texts = [path.read_text(encoding="utf-8") for path in (project / ".cache" / "results").glob("?" * 64)]
    made = [json.loads(json.loads(text)["result"])["data"] for text in texts]
    return [row for row in made if row["kind"] == kind]


@pytest.mark.slow
def test_a_pilot_becomes_advice(project: Path) -> None:
    context._parents.clear()
    shutil.copy2(ROOT / "params.yaml", project)
    shutil.copytree(ROOT / "profiles", project / "profiles")
    whole, said = recommend(project)
    assert whole
    assert "data: 48 prompts with a ground truth, 48 without; the pilot has 24 and 24." in said
    for label in ("sft", "fusellm", "inference_only", "profuser, replay 0.1", "profuser, replay 1"):
        assert f"✓ {label}" in said
    assert "difference from the best" in said and ("Use `" in said) and "solver (untrained)" in said
    assert "python -m flows run fusion --profile smoke -S runtime.threads=1" in said and "-S fusion.lr=0.001" in said

    place = project / "artifacts" / "ablation-recommend-smoke" / "pilot" / "0"
    rows = [json.loads(line) for line in (place / "sft.valid.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all("-valid-" in row["id"] for row in rows)
    assert {row["meta"]["split"] for row in records(project, "evaluation")} == {"valid"}
    assert not (project / "artifacts" / "smoke").exists() and not list((project / "artifacts").rglob("model.safetensors"))

    before = len(records(project, "fusion"))
    assert before == 5
    again, repeated = recommend(project)
    assert again and len(records(project, "fusion")) == before
    assert repeated.split("data: ")[1] == said.split("data: ")[1]
