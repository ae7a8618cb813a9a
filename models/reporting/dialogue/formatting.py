"""How the dialogue half's metrics, systems and figures are written: terminal, Markdown, HTML and plots agree."""

import re
from collections.abc import Iterable, Sequence

from models.evaluation.dialogue.metrics import EXPECTED, FIT, FIT_CEILING, MRR, higher_is_better
from models.evaluation.dialogue.scores import DialogueTableRow
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.formatting import fixed

KIND_NAMES = {
    "variant": "trained jointly",
    "in_context": "in context, retriever of {}",
    "retriever": "best retriever of {}",
    "warm_start": "retriever alone",
    "unseen": "retriever of {}",
    "dense": "retriever without word matching",
    "floor": "word matching",
    "response_floor": "no generator",
}

_NAMES = {
    "bleu": "BLEU",
    "bleu_maker": "BLEU as MAKER",
    "entity_f1": "Entity F1",
    "entity_precision": "Entity precision",
    "entity_recall": "Entity recall",
    "annotated_f1": "Annotated F1",
    "annotated_precision": "Annotated precision",
    "annotated_recall": "Annotated recall",
    "hallucination": "hallucinated values",
    "hallucination_no_gold": "hallucinated where no gold",
    MRR: "MRR",
}
_RECALL = re.compile(r"recall_(value|id)@(\d+)")
_FIT = re.compile(rf"({FIT}|{FIT_CEILING})@(\d+)")
_FIRST = "first_"


def metric_name(metric: str) -> str:
    """Return a metric's name in headers and running text: `Recall@7 by value`."""
    if metric.startswith(_FIRST):
        return f"{metric_name(metric.removeprefix(_FIRST))}, first mentions"
    if metric.startswith(EXPECTED):
        return f"expected {metric_name(metric.removeprefix(EXPECTED))}"
    if fit := _FIT.fullmatch(metric):
        return f"Fit@{fit[2]}" if fit[1] == FIT else f"ceiling of Fit@{fit[2]}"
    match = _RECALL.fullmatch(metric)
    return f"Recall@{match[2]} by {match[1]}" if match else _NAMES.get(metric, metric)


def metric_title(metric: str) -> str:
    """Return a metric's name with its unit and direction."""
    unit = ", %" if is_percent(metric) else ""
    return f"{metric_name(metric)}{unit} ({'higher' if higher_is_better(metric) else 'lower'} is better)"


def is_percent(metric: str) -> bool:
    """Whether the metric is a share shown in percent; BLEU has its own scale of 100, MRR stays between 0 and 1."""
    return not metric.startswith("bleu") and MRR not in metric


def is_retrieval(metric: str) -> bool:
    """Whether the metric scores the retriever (else the response)."""
    bare = metric.removeprefix(_FIRST).removeprefix(EXPECTED)
    return MRR in metric or _RECALL.fullmatch(bare) is not None or _FIT.fullmatch(bare) is not None


def shown(metric: str, value: float) -> float:
    """Return a value in the unit it is shown in."""
    return 100 * value if is_percent(metric) else value


def format_value(metric: str, value: float, *, signed: bool = False) -> str:
    """Write a figure: BLEU and percent with one decimal, MRR with three."""
    return fixed(shown(metric, value), 3 if MRR in metric else 1, signed=signed)


def format_range(metric: str, low: float, high: float, *, signed: bool = False) -> str:
    """Write an interval: `[47.1, 59.4]`."""
    return f"[{format_value(metric, low, signed=signed)}, {format_value(metric, high, signed=signed)}]"


def kind_name(system: DialogueSystem) -> str:
    """Say what a system is."""
    return KIND_NAMES[system.kind].format(system.retriever or system.name)


def is_main(system: DialogueSystem) -> bool:
    """Whether a system belongs in the main table and the plots; the others appear in the retrieval tables only."""
    return system.kind not in ("retriever", "unseen", "dense")


def main_recall(metrics: Iterable[str], *, by: str = "value", at: int = 7) -> str:
    """Return the recall a report leads with: at 7 as the paper's, else at the largest k; empty where there is none."""
    ks = sorted(int(m[2]) for name in metrics if (m := _RECALL.fullmatch(name)) and m[1] == by)
    return f"recall_{by}@{at if at in ks else ks[-1]}" if ks else ""


def recall_ks(metrics: Iterable[str]) -> list[int]:
    """Return the k of the recalls, rising."""
    return sorted({int(m[2]) for name in metrics if (m := _RECALL.fullmatch(name))})


def lead_metrics(rows: Sequence[DialogueTableRow]) -> list[str]:
    """Return the metrics of the main table, as far as they were measured."""
    known = list(dict.fromkeys(row.metric for row in rows))
    recall = main_recall(known)
    fit = f"{FIT}@{recall.partition('@')[2]}"
    wanted = ["bleu", "bleu_maker", "entity_f1", recall, EXPECTED + recall, fit, "hallucination"]
    return [metric for metric in wanted if metric in known]
