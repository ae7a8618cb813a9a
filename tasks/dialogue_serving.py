"""The dialogue agent as an MLflow model: logged by path (safetensors, JSON), loaded when it is served, traced when it answers.

MLflow executes this file by itself ("models from code"), with the package `models` beside it (`code_paths`):
`mlflow models serve -m models:/<id> --env-manager local`, or
`mlflow.pyfunc.load_model("models:/<id>").predict([{"context": ["a cheap hotel please"]}])`.
"""

import os
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import SpanType
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel, Field

DEVICE = "FUSEDIAL_DEVICE"


class DialogueRequest(BaseModel):
    """A turn to be answered."""

    context: list[str] = Field(min_length=1, description="Utterances, oldest first; the user's last.")
    kb: list[str] | None = Field(None, description="Ids of the entities to retrieve from; null = all.")
    domain: str = Field("", description="Domain of the dialogue, if known.")
    dynamic: dict[str, list[str]] | None = Field(None, description="What a real-time query gave.")


class RetrievedRecord(BaseModel):
    """An entity the answer rests on."""

    id: str
    domain: str
    attributes: dict[str, str]
    rank: int
    score: float
    confidence: str
    seen: bool


class DialogueAnswer(BaseModel):
    """The schema of an answer, which MLflow shows; answers themselves are plain dicts of this shape."""

    response: str
    entities: list[RetrievedRecord]


class DialogueModel(PythonModel):
    """Retrieves entities for each context and answers from them."""

    agent: Any

    def load_context(self, context: PythonModelContext) -> None:
        """Load retriever, generator and knowledge base; the index is built from them.

        The device is that of the environment variable FUSEDIAL_DEVICE: `auto` (the default), `cpu`, `cuda:1`, …
        """
        from models.generation.agent_loading import load_agent
        from models.generation.loading import pick_device

        device = pick_device(os.environ.get(DEVICE, "auto"))
        self.agent = load_agent(Path(context.artifacts["variant"]), Path(context.artifacts["kb"]), device=device)

    def predict(self, model_input: list[DialogueRequest]) -> list[DialogueAnswer]:  # type: ignore[override]
        """Return {response, entities} for each request; each entity has id, domain, attributes, rank, score, confidence, seen."""
        return [self._answer(request) for request in model_input]  # type: ignore[misc]

    def _answer(self, request: DialogueRequest) -> dict[str, Any]:
        with mlflow.start_span("dialogue", span_type=SpanType.AGENT) as span:
            span.set_inputs(request.model_dump(exclude_none=True))
            entities = self._retrieve(request)
            text = self._generate(request, entities)
            answer = {"response": text, "entities": [self._describe(e) for e in entities]}
            span.set_outputs(answer)
        return answer

    def _retrieve(self, request: DialogueRequest) -> Any:
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"context": request.context})
            within = None if request.kb is None else [self.agent.kb.rows(request.kb)]
            [entities] = self.agent.retrieve([request.context], within=within)
            span.set_outputs([self._document(e) for e in entities])
        return entities

    def _generate(self, request: DialogueRequest, entities: Any) -> str:
        from models.generation.dialogue_item import DialogueItem

        with mlflow.start_span("generate", span_type=SpanType.LLM) as span:
            span.set_inputs({"context": request.context, "num_entities": len(entities)})
            dynamic = {k: tuple(v) for k, v in (request.dynamic or {}).items()}
            item = DialogueItem("", request.domain, tuple(request.context), entities, dynamic)
            [answer] = self.agent.responder.respond([item])
            span.set_attributes({"num_prompt_tokens": answer.num_prompt_tokens, "num_tokens": answer.num_tokens})
            span.set_outputs(answer.text)
        return str(answer.text)

    def _describe(self, found: Any) -> dict[str, Any]:
        meta = found.meta
        known = {"rank": meta.rank, "score": meta.score, "confidence": self.agent.meta.confidence(meta.score), "seen": meta.seen}
        return {**found.entity.to_json(), **known}

    def _document(self, found: Any) -> dict[str, Any]:
        row = self._describe(found)
        text = "; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in row.pop("attributes").items())
        return {"page_content": text, "id": row.pop("id"), "metadata": row}


set_model(DialogueModel())
