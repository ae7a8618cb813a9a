"""`chat`: finds the trained agent, talks, and records each exchange as an MLflow trace of its run."""

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from flows.context import StageContext
from flows.dialogue_systems import run_name
from models.errors import ArtifactError
from tasks.dialogue import JOINT

if TYPE_CHECKING:
    from models.generation.agent import AgentReply


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
    from flows.chat import chat
    from models.data.dialogue_files import KB
    from models.generation.agent_loading import load_agent
    from models.generation.loading import pick_device
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
    chat(agent, out, record=trace if record else None)
