"""Tasks `advantage` and `advantage-summary`: who is best on each example, in both modes, and how often they agree."""

import json
from collections.abc import Mapping
from typing import Any

from models.params.teach import AdvantageParams
from tasks.artifact import Artifact
from tasks.caching import Work, step


@step("advantage")
def advantage(
    cfg: AdvantageParams,
    data: Artifact,
    scores: Mapping[str, Artifact],
    rewards: Mapping[str, Artifact],
    *,
    order: tuple[str, ...],
    start: int,
    stop: int,
    work: Work,
) -> Mapping[str, Any]:
    """Write advantage.jsonl: Min-CE winner (eq. 1) and vote winner (eq. 2) of every example of the shard."""
    from models.data.corpus import read_slice
    from models.fusion.shard_advantage import judge_shard, write_advantages

    examples = read_slice(data.path / "train.jsonl", start, stop)
    rows = judge_shard(
        [(e.id, e.family) for e in examples],
        scores={name: a.path / "scores.jsonl" for name, a in scores.items()},
        rewards={name: a.path / "rewards.jsonl" for name, a in rewards.items()},
        unit=cfg.ce_unit,
        order=order,
    )
    write_advantages(work.out / "advantage.jsonl", rows)
    return {"examples": len(rows)}


@step("advantage-summary")
def advantage_summary(shards: tuple[Artifact, ...], *, order: tuple[str, ...], work: Work) -> Mapping[str, Any]:
    """Write win_table.json and agreement.json over all shards."""
    from models.fusion.shard_advantage import read_advantages
    from models.fusion.win_table import mode_agreement, win_table

    rows = [row for shard in shards for row in read_advantages(shard.path / "advantage.jsonl")]
    for name, content in (("win_table", win_table(rows, order)), ("agreement", mode_agreement(rows, order))):
        (work.out / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"examples": len(rows)}
