"""An exchange with the dialogue agent as an MLflow trace: an agent span over a retriever span and a generator span."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.params.runtime import Tracking
from tasks.tracking import _client, _experiment, tracking_uri

if TYPE_CHECKING:
    from models.dialogue.agent.agent import AgentReply
    from models.dialogue.generators.base import RetrievedEntity

EXPERIMENT = "dialogue"


def record_exchange(
    reply: "AgentReply",
    context: Sequence[str],
    *,
    tracking: Tracking,
    session: str = "",
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Record a finished exchange; its spans have the times that were measured, and end now.

    Args:
        reply: What the agent answered.
        context: What it answered to, oldest utterance first.
        tracking: Where MLflow is.
        session: Id of the conversation: MLflow shows the traces of one together.
        run_id: Run that trained the agent, which the trace is filed under; None = the experiment `dialogue` alone.
        tags: Tags of the trace.

    Returns:
        The trace id.
    """
    import mlflow
    from mlflow.entities import SpanType
    from mlflow.tracing.constant import TraceMetadataKey

    mlflow.set_tracking_uri(tracking_uri(tracking))
    start, middle, end = _times(reply.seconds)
    metadata = {TraceMetadataKey.TRACE_SESSION: session, TraceMetadataKey.SOURCE_RUN: run_id or ""}
    asked = {"context": list(context)}
    documents = [document(e) for e in reply.entities]
    root = mlflow.start_span_no_context(
        "dialogue",
        span_type=SpanType.AGENT,
        inputs=asked,
        tags=dict(tags or {}),
        metadata={k: v for k, v in metadata.items() if v},
        experiment_id=_experiment_id(tracking, run_id),
        start_time_ns=start,
    )
    retrieve = mlflow.start_span_no_context(
        "retrieve", span_type=SpanType.RETRIEVER, parent_span=root, inputs=asked, start_time_ns=start
    )
    retrieve.end(outputs=documents, end_time_ns=middle)
    read = {**asked, "entities": [d["page_content"] for d in documents]}
    generate = mlflow.start_span_no_context(
        "generate", span_type=SpanType.LLM, parent_span=root, inputs=read, attributes=_counts(reply), start_time_ns=middle
    )
    generate.end(outputs=reply.text, end_time_ns=end)
    root.end(outputs={"response": reply.text}, end_time_ns=end)
    return str(root.trace_id)


def document(entity: "RetrievedEntity") -> dict[str, Any]:
    """Return a retrieved entity as MLflow shows documents."""
    text = "; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in entity.entity.attributes.items())
    meta = entity.meta
    known = {"rank": meta.rank, "score": meta.score, "seen": meta.seen, "domain": entity.entity.domain}
    known |= {f"score_{part}": value for part, value in entity.parts.items()}
    return {"page_content": text, "metadata": known, "id": entity.entity.id}


def _times(seconds: Mapping[str, float]) -> tuple[int, int, int]:
    """Return start, end of retrieval, and end (now), in nanoseconds."""
    end = time.time_ns()
    middle = end - int(seconds["generate"] * 1e9)
    return middle - int(seconds["retrieve"] * 1e9), middle, end


def _counts(reply: "AgentReply") -> dict[str, Any]:
    from mlflow.tracing.constant import SpanAttributeKey, TokenUsageKey

    read, written = reply.answer.num_prompt_tokens, reply.answer.num_tokens
    usage = {TokenUsageKey.INPUT_TOKENS: read, TokenUsageKey.OUTPUT_TOKENS: written, TokenUsageKey.TOTAL_TOKENS: read + written}
    return {SpanAttributeKey.CHAT_USAGE: usage, "finish": reply.answer.finish}


def _experiment_id(tracking: Tracking, run_id: str | None) -> str:
    client = _client(tracking_uri(tracking))
    return str(client.get_run(run_id).info.experiment_id) if run_id else _experiment(client, EXPERIMENT)
