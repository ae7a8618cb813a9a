"""What the embedded sources are trained on, and when they are trained again."""

from pathlib import Path

from models.corpus.prepare import write_world
from models.params.corpus import TruthParams, WorldParams
from tasks.artifact import Artifact, publish
from tasks.sources import pretraining_rows

WORLD = WorldParams(num_entities=12, num_train=48, num_valid=6, num_test=24, num_pretrain=300)


def corpus_of(world: WorldParams, place: Path) -> Artifact:
    write_world(world, out=place)
    return publish(place, "corpus", meta={})


def test_other_ground_truths_train_no_source_again_but_another_world_does(project: Path) -> None:
    worlds = {
        "usual": WORLD,
        "noisy": WORLD.model_copy(update={"truths": TruthParams(wrong_share=0.5)}),
        "few": WORLD.model_copy(update={"num_train": 12, "num_prompts_only": 36}),
        "elsewhere": WORLD.model_copy(update={"seed": 8}),
    }
    made = {name: corpus_of(world, project / name) for name, world in worlds.items()}
    rows = {name: pretraining_rows(artifact) for name, artifact in made.items()}
    assert len({artifact.sha256 for artifact in made.values()}) == 4
    assert rows["usual"].sha256 == rows["noisy"].sha256 == rows["few"].sha256 != rows["elsewhere"].sha256
    assert rows["usual"].meta["families"] == ["knowledge", "reasoning", "safety"]
    for name in ("preferences.jsonl", "pretrain/safety.jsonl", "pretrain/safety.jsonl.offsets"):
        assert (rows["usual"].path / name).read_bytes() == (made["usual"].path / name).read_bytes()
