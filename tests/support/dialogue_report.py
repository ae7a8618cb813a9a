"""A small made-up dialogue evaluation for the tests of its tables, plots and page."""

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity, Turn
from models.evaluation.bootstrap import Resampling
from models.evaluation.dialogue.comparison import aggregate, claim_pairs, paired
from models.evaluation.dialogue.metrics import BLEU_VERSIONS
from models.evaluation.dialogue.scores import DialogueRow, Retrieved
from models.evaluation.dialogue.system import DialogueSystem
from models.reporting.dialogue.data import DialogueReportData, select_dialogue_examples

_REFERENCE = "the golden wok is in the north part of town ."
_OTHER = "the <b>wok</b> serves food in the west ."
_HOW = Resampling(samples=100)
_RATES = {
    DialogueSystem("none", "variant", "none"): 0.4,
    DialogueSystem("prompt", "variant", "prompt"): 0.95,
    DialogueSystem("fused", "in_context", "none", "prompt"): 0.2,
    DialogueSystem("fused", "in_context", "prompt", "prompt"): 0.3,
    DialogueSystem("warm_start", "warm_start"): 0.5,
    DialogueSystem("bm25", "floor"): 0.2,
}


def _row(turn: Turn, system: DialogueSystem, rng: np.random.Generator) -> DialogueRow:
    hit = float(rng.random() < _RATES[system])
    statistics = {f"recall_{by}@{k}": (float(hit or k == 7), 1.0) for by in ("value", "id") for k in (1, 7)} | {"mrr": (hit, 1.0)}
    response = None
    if system.kind in ("variant", "in_context"):
        response = _REFERENCE if hit else _OTHER
        statistics |= {version.name: version.statistics(response, _REFERENCE) for version in BLEU_VERSIONS}
        statistics |= {"entity_f1": (2 * hit, 1 - hit, 2 - 2 * hit), "hallucination": (1 - hit, 2.0)}
    meta = "The top-1 recalled:" if system.meta_knowledge == "prompt" else ""
    retrieved = (Retrieved("r1", 0.8, meta), Retrieved("r2", 0.5, meta))
    return DialogueRow(
        turn.id, turn.dialogue, turn.domain, "response", True, turn.first_mention, retrieved, turn.response, response, statistics
    )


@pytest.fixture(scope="session")
def dialogue_report() -> DialogueReportData:
    """Six systems on forty turns of two domains."""
    kb = KnowledgeBase(
        [
            Entity("r1", "restaurant", {"name": "golden wok", "area": "north", "price_range": "cheap"}),
            Entity("r2", "restaurant", {"name": "pizza & co"}),
        ]
    )
    turns = [
        Turn(
            f"d{d}#{t}", f"d{d}", t, "hotel" if d % 2 else "restaurant", ("hi",) * (2 * t + 1), _REFERENCE,
            gold_values=("golden wok",), gold_entities=("r1",), first_mention=t == 0,
        )
        for d in range(20)
        for t in range(2)
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    scores = {system: [_row(turn, system, rng) for turn in turns] for system in _RATES}
    chosen = next(system for system in scores if system.kind == "in_context" and system.meta_knowledge == "prompt")
    scores[chosen] = scores[chosen][:20]
    history = [
        {"step": s, "valid/recall@1_value": 0.5, "valid/recall@7_value": 0.6 + s / 1000, "train/agreement_top1": 0.3}
        for s in range(0, 100, 10)
    ]
    return DialogueReportData(
        "Agents & entities",
        aggregate(scores, resampling=_HOW, notes={"bleu": "signature <x>"}),
        paired(scores, claim_pairs(list(scores)), resampling=_HOW),
        data_set="multiwoz",
        histories={"none": history, "prompt": history},
        warm={"retriever/recall@7": 0.6, "retriever/recall_id@7": 0.4},
        examples=select_dialogue_examples(turns, scores, kb, per_domain=2),
        provenance={"profile": "embedded", "commit": "0123456789abcdef"},
        reproduce=["dvc repro"],
        notes=["A note for the reader."],
    )
