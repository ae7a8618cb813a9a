"""Writes the embedded world's instructions: fusion splits, pre-training rows, preferences."""

from pathlib import Path
from typing import Any

from models.data.corpus import write_examples, write_json_lines
from models.data.world import build_world
from models.data.world_instructions import FAMILIES, deal_items, preference_pairs, pretrain_examples, split_examples
from models.params.corpus import WorldParams
from models.schema import Split

_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def write_world(cfg: WorldParams, *, out: Path) -> dict[str, Any]:
    """Generate the world of `cfg` and write its files into `out`.

    Returns:
        Counts for the statistics: pre-training rows per family, preferences, entities.

    Raises:
        ParamsError: The world is too small for the rows asked for.
    """
    world = build_world(cfg.seed, num_entities=cfg.num_entities)
    dealt = deal_items(world, cfg)
    for split in _SPLITS:
        write_examples(out / f"{split}.jsonl", split_examples(dealt, split, world=world))
    pretrain = {
        family: write_examples(out / "pretrain" / f"{family}.jsonl", pretrain_examples(dealt, family, world=world))
        for family in FAMILIES
    }
    preferences = write_json_lines(out / "preferences.jsonl", preference_pairs(dealt, world=world))
    return {"pretrain": pretrain, "preferences": preferences, "entities": len(world.entities)}
