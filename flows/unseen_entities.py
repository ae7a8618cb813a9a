"""`renew`: a profile's dialogues about entities that no training has seen, as a data set of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.context import StageContext
from models.errors import DataError, Problem


def write_renewed(ctx: StageContext, folder: Path, *, values: bool, distractors: int) -> Mapping[str, Any]:
    """Write `kb.jsonl`, the splits, `values.json` and `stats.json`; readable as `dialogues.kind: jsonl`.

    Raises:
        DataError: The folder is not empty, nothing is asked for, or the profile's own data break a rule.
    """
    from models.dialogue.data.prepare import prepare_dialogues
    from models.metrics_sink import NullSink

    if not values and not distractors:
        rule = "must ask for something new: `--values` or `--distractors N`"
        raise DataError("nothing to renew", [Problem("renew", rule)])
    if folder.exists() and any(folder.iterdir()):
        raise DataError("the set cannot be written", [Problem(str(folder), "must be a new or an empty folder")])
    cfg = ctx.params.dialogues
    renew = cfg.renew.model_copy(update={"values": values, "distractors": distractors})
    stats = prepare_dialogues(cfg.model_copy(update={"renew": renew}), root=ctx.root, out=folder, sink=NullSink())
    return {"entities": stats["kb"]["entities"], **{k: v["turns"] for k, v in stats["splits"].items()}}
