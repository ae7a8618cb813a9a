"""`chat`: a conversation with the trained agent in the terminal.

Retrieved entities are shown next to each answer, and each exchange becomes an MLflow trace of the agent's run.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.context import StageContext
from flows.dialogue_systems import run_name
from models.errors import ArtifactError, FusedialError
from tasks.dialogue import JOINT, SCORES

if TYPE_CHECKING:
    from models.dialogue.agent.agent import AgentReply, DialogueAgent
    from models.dialogue.generators.base import RetrievedEntity


Record = Callable[[Sequence[str], "AgentReply"], str]
SHOWN = 5  # entities next to an answer; /entities shows all
_VALUES = 4  # attributes of an entity next to an answer
HELP = "/entities: all that was retrieved   /reset: start over   /quit: end"


def chat(agent: "DialogueAgent", console: Console, *, record: Record | None = None) -> int:
    """Read lines of the user from standard input until it ends or says `/quit`.

    Args:
        agent: Answers.
        console: Where it is shown; lines are read through it, from a terminal or a pipe.
        record: Called with the context and the reply of each exchange; returns the id of its trace. A failure is shown and
            ends nothing.

    Returns:
        Number of exchanges.
    """
    console.print(f"[dim]{len(agent.kb)} entities. {HELP}[/dim]", highlight=False)
    context: list[str] = []
    last: AgentReply | None = None
    exchanges = 0
    while (line := _read(console)) is not None and line != "/quit":
        if line == "/reset":
            context, last = [], None
            console.print("[dim]a new conversation[/dim]")
        elif line == "/entities":
            _show_all(agent, last, console)
        elif line.startswith("/"):
            console.print(f"[dim]{HELP}[/dim]", highlight=False)
        elif line and (reply := _exchange(agent, [*context, line], console, record)) is not None:
            context, last, exchanges = [*context, line, reply.text], reply, exchanges + 1
    return exchanges


def _read(console: Console) -> str | None:
    """Return the next line, stripped, or None at the end of the input."""
    try:
        return console.input("[bold]you>[/bold] ").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None


def _exchange(agent: "DialogueAgent", context: list[str], console: Console, record: Record | None) -> "AgentReply | None":
    """Answer, show, record; None where the agent cannot answer (an endpoint is away): the line does not count."""
    try:
        reply = agent.reply(context)
    except FusedialError as err:
        console.print(f"[red]{escape(str(err))}[/red]", highlight=False)
        return None
    console.print(f"[bold green]agent>[/bold green] {escape(reply.text) or '[dim](says nothing)[/dim]'}", highlight=False)
    if reply.entities:
        console.print(_table(agent, reply.entities[:SHOWN], values=_VALUES))
    seconds = ", ".join(f"{part} {value:.2f} s" for part, value in reply.seconds.items())
    recorded = f", {_record(record, context, reply)}" if record is not None else ""
    console.print(f"[dim]{seconds}{escape(recorded)}[/dim]", highlight=False)
    return reply


def _record(record: Record, context: list[str], reply: "AgentReply") -> str:
    try:
        return f"trace {record(context, reply)}"
    except Exception as err:  # whatever a tracking server raises: the conversation is worth more than its record
        return f"not recorded ({type(err).__name__}: {err})"


def _show_all(agent: "DialogueAgent", last: "AgentReply | None", console: Console) -> None:
    if last is None:
        console.print("[dim]nothing was retrieved yet[/dim]")
    else:
        console.print(_table(agent, last.entities, values=None))


def _table(agent: "DialogueAgent", entities: Sequence["RetrievedEntity"], *, values: int | None) -> Table:
    """Show rank, score, its parts if any, bin of confidence, whether the dialogue has named it, the first values (None = all)."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    because = [("because of", "left")] if any(found.parts for found in entities) else []
    last = (("confidence", "left"), ("", "left"), ("entity", "left"))
    for heading, justify in (("rank", "right"), ("score", "right"), *because, *last):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for found in entities:
        meta = found.meta
        shown = list(found.entity.attributes.values())[:values]
        known = "old" if meta.seen else "new"
        score = f"{meta.score:.3f}"
        parts = [_parts(found.parts)] if because else []
        table.add_row(str(meta.rank), score, *parts, agent.meta.confidence(meta.score), known, escape(" · ".join(shown)))
    return table


def _parts(parts: Mapping[str, float]) -> str:
    """Return what a score is made of, the largest part first; what rounds to nothing is left out."""
    ordered = sorted(parts.items(), key=lambda part: -abs(part[1]))
    return " ".join(f"{name} {value:+.2f}" for name, value in ordered if abs(value) >= 0.005)


def doubts(variant: str, *, trained: Path, scores: Path) -> str:
    """Return why a trained agent cannot be expected to answer sensibly, as it was measured; empty if it can.

    Args:
        variant: Its name.
        trained: Its folder; `history.jsonl` has the F1 of entity values on the validation split at every evaluation.
        scores: `dialogue_scores.json` of `evaluate_dialogue`; need not exist.
    """
    with (trained / "history.jsonl").open(encoding="utf-8") as file:
        found = [row["valid/value_f1"] for row in map(json.loads, file) if "valid/value_f1" in row]
    if found and not max(found):
        return "on the validation split it named no value of an entity correctly (F1 0)"
    if not scores.is_file():
        return ""
    rows = [r for r in json.loads(scores.read_text(encoding="utf-8"))["table"] if r["metric"] == "entity_f1"]
    f1 = {(r["kind"], r["system"]): float(r["value"]) for r in rows if r["domain"] == "all"}
    own, null = f1.get(("variant", variant)), f1.get(("response_floor", "null"))
    if own is None or null is None or own > null:
        return ""
    return f"its Entity F1 on held-out turns ({own:.1%}) is no better than that of one constant answer ({null:.1%})"


def open_session(ctx: StageContext, *, run: str, record: bool, out: Console) -> None:
    """Talk with the agent of a variant in the terminal.

    Args:
        ctx: The profile.
        run: Variant (`prompt`), name of its MLflow run (`dialogue-prompt`), or the run's id; empty = the last variant.
        record: Record traces.
        out: Where it is shown.

    Raises:
        ArtifactError: No such variant is trained.
    """
    from models.dialogue.agent.loading import load_agent
    from models.dialogue.data.records import KB
    from models.lm.loading import pick_device
    from tasks.dialogue_traces import record_exchange
    from tasks.tracking import find_run

    params, tracking = ctx.params, ctx.params.tracking
    variant, run_id = find_run(tracking, run, experiment="dialogue", names={run_name(v): v for v in ctx.params.variants})
    if not variant:
        known = ", ".join(ctx.params.variants)
        raise ArtifactError(f"`--run` must be a variant ({known}), or the name or id of the run of one, but is {run!r}.")
    trained = ctx.input("train_dialogue", variant, JOINT)
    kb = ctx.input("prepare", "dialogues").path / KB
    agent = load_agent(
        trained.path,
        kb,
        device=pick_device(params.runtime.device),
        index=params.index,
        num_beams=params.dialogue_evaluation.num_beams,
        batch_size=params.dialogue_evaluation.batch_size,
    )
    session = uuid.uuid4().hex[:12]

    def trace(context: Sequence[str], reply: "AgentReply") -> str:
        return record_exchange(reply, context, tracking=tracking, session=session, run_id=run_id, tags={"variant": variant})

    out.print(f"[bold]{variant}[/] of profile {ctx.params.profile}", highlight=False)
    if why := doubts(variant, trained=trained.path, scores=ctx.out("evaluate_dialogue", "comparison") / SCORES):
        line = f"[yellow]Too small, or too little trained, to answer sensibly:[/yellow] {why}."
        out.print(line, highlight=False, soft_wrap=True)
    chat(agent, out, record=trace if record else None)
