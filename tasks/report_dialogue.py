"""Task `dialogue-page`: the result page of the dialogue half; drawn again when something it shows has changed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.dialogue import ROWS, SCORES
from tasks.report import history_of

if TYPE_CHECKING:
    from models.evaluation.dialogue.system import DialogueSystem
    from models.reporting.dialogue.data import DialogueReportData

SHOWN_EXAMPLES = 2


@step("dialogue-page")
def dialogue_page(
    texts: Mapping[str, Any],
    *,
    data: Artifact,
    split: str,
    comparison: Artifact,
    systems: tuple[Mapping[str, str], ...],
    rows: tuple[Artifact, ...],
    trained: Mapping[str, Artifact],
    warm: Artifact,
    work: Work,
) -> Mapping[str, Any]:
    """Write index.html and one PNG per plot.

    Args:
        texts: `title`, `data_set`, `setting`, `provenance`, `reproduce`, `notes`.
        data: Dialogues.
        split: The one that examples are shown of.
        comparison: Scores and differences.
        systems: Those that speak.
        rows: The rows of each.
        trained: Variant → joint training.
        warm: The warm start.
        work: Scratch.
    """
    from models.reporting.canvas import save_figure
    from models.reporting.dialogue.page import dialogue_figures, write_dialogue_report

    shown = _dialogue_data(
        texts, data=data, split=split, comparison=comparison, systems=systems, rows=rows, trained=trained, warm=warm
    )
    for name, figure in dialogue_figures(shown).items():
        save_figure(figure, work.out / f"{name}.png")
    write_dialogue_report(shown, work.out / "index.html")
    return {}


def _without_answer(systems: "Iterable[DialogueSystem]", rows: Sequence[Artifact]) -> list[str]:
    """Say which systems gave how many empty answers, and why."""
    from models.lm.chat_reply import describe_problems

    found = [(system, made.meta.get("problems", {}), made.meta["rows"]) for system, made in zip(systems, rows, strict=True)]
    return [f"{system.label}: {describe_problems(problems, total=total)}" for system, problems, total in found if problems]


def _dialogue_data(
    texts: Mapping[str, Any],
    *,
    data: Artifact,
    split: str,
    comparison: Artifact,
    systems: Sequence[Mapping[str, str]],
    rows: Sequence[Artifact],
    trained: Mapping[str, Artifact],
    warm: Artifact,
) -> "DialogueReportData":
    from models.dialogue.data.knowledge_base import KnowledgeBase
    from models.dialogue.data.records import KB, read_turns
    from models.evaluation.dialogue.scores import DialogueComparison, DialogueTableRow, read_rows
    from models.evaluation.dialogue.system import DialogueSystem
    from models.reporting.dialogue.data import DialogueReportData, select_dialogue_examples

    scored = json.loads((comparison.path / SCORES).read_text(encoding="utf-8"))
    said = {
        DialogueSystem.from_json(system): list(read_rows(found.path / ROWS)) for system, found in zip(systems, rows, strict=True)
    }
    turns = read_turns(data.path / f"{split}.jsonl")
    return DialogueReportData(
        title=texts["title"],
        table=[DialogueTableRow.from_json(row) for row in scored["table"]],
        comparisons=[DialogueComparison.from_json(row) for row in scored["comparisons"]],
        data_set=texts["data_set"],
        setting=texts["setting"],
        histories={variant: history_of(training) for variant, training in trained.items()},
        warm=json.loads((warm.path / "record.json").read_text(encoding="utf-8"))["recall"],
        examples=select_dialogue_examples(turns, said, KnowledgeBase.load(data.path / KB), per_domain=SHOWN_EXAMPLES),
        provenance=texts["provenance"],
        reproduce=texts["reproduce"],
        notes=[*texts["notes"], *_without_answer(said, rows)],
        confidence=scored["confidence"],
    )
