"""The dialogue agent as an MLflow model: logged by path (safetensors, JSON), loaded when it is served, traced when it answers.

MLflow executes this file by itself ("models from code"), with the package `models` on the path (`code_paths`):
`mlflow models serve -m models:/<id> --env-manager local`, or
`mlflow.pyfunc.load_model("models:/<id>").predict([{"context": ["a cheap hotel please"]}])`.

With FUSEDIAL_STATE=<folder>, requests may change the knowledge base:
`{"change": {"add": [...], "update": [...], "remove": [...]}}`.
"""

import os
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import SpanType
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel, Field, field_validator, model_validator
from typing_extensions import override

from models.records import to_row

DEVICE, STATE = "FUSEDIAL_DEVICE", "FUSEDIAL_STATE"


def _text(value: Any) -> Any:
    """Return a number as the data have it (`3.0` is `3`); anything else as it is, to be checked."""
    from models.dialogue.data.readers.base import cell_text

    return cell_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _id(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else _text(value)


class EntityRecord(BaseModel):
    """An entity of the knowledge base.

    Values are read as the readers read them: lower case, `3.0` is `3`, and null, NaN or `n/a` are missing.
    """

    id: str = Field(min_length=1, description="Unique in the knowledge base.")
    domain: str = Field("", description="Such as `restaurant`.")
    attributes: dict[str, str] = Field(description="Attribute → value; the first one is the name.")

    @field_validator("id", mode="before")
    @classmethod
    def _stripped(cls, value: Any) -> Any:
        return _id(value)

    @field_validator("domain", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        from models.dialogue.data.readers.base import cell_text

        return cell_text(value) if value is None or isinstance(value, str | float) else value

    @field_validator("attributes", mode="before")
    @classmethod
    def _cells(cls, value: Any) -> Any:
        from models.corpus.fields import BadRecord
        from models.dialogue.data.knowledge_base import changed_attributes

        try:
            return changed_attributes(value)
        except BadRecord as bad:
            raise ValueError(str(bad.at("an entity"))) from bad


class KbChange(BaseModel):
    """What changes in the knowledge base, all of it or nothing."""

    add: list[EntityRecord] | None = Field(None, description="Entities with ids of their own.")
    update: list[EntityRecord] | None = Field(None, description="Entities that take the place of those with their ids.")
    remove: list[str] | None = Field(None, description="Ids of entities that leave.")

    @field_validator("remove", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        return list(map(_id, value)) if isinstance(value, list) else value


class DialogueRequest(BaseModel):
    """A turn to be answered, a change of the knowledge base, or a change and then a turn.

    `context` may also hold messages {"role": "user" or "assistant", "content": text}; what one speaker says in a row is joined.
    Ids and values may be numbers, a single value needs no list.
    """

    context: list[str] | None = Field(None, min_length=1, description="Utterances, oldest first; the user's last.")
    change: KbChange | None = Field(None, description="Change the knowledge base first (needs FUSEDIAL_STATE).")
    kb: list[str] | None = Field(None, description="Ids of the entities to retrieve from; null = all.")
    domain: str = Field("", description="Domain of the dialogue, if known.")
    dynamic: dict[str, list[str]] | None = Field(None, description="What a real-time query gave.")

    @field_validator("context", mode="before")
    @classmethod
    def _by_turns(cls, value: Any) -> Any:
        from models.dialogue.data.readers.base import live_context
        from models.errors import DataError

        try:
            return list(live_context(value)) if isinstance(value, list) else value
        except DataError as err:
            raise ValueError(" ".join(str(err).split())) from err

    @field_validator("kb", mode="before")
    @classmethod
    def _ids(cls, value: Any) -> Any:
        return list(map(_id, value)) if isinstance(value, list) else value

    @field_validator("dynamic", mode="before")
    @classmethod
    def _values(cls, value: Any) -> Any:
        from models.dialogue.data.readers.base import given_values

        if not isinstance(value, dict):
            return value
        given = {name: given_values(v) for name, v in value.items()}
        return {name: values for name, values in given.items() if values}

    @model_validator(mode="after")
    def _asks_for_something(self) -> "DialogueRequest":
        if self.context is None and self.change is None:
            raise ValueError("a request must have a `context` to answer or a `change` to make")
        return self


class RetrievedRecord(BaseModel):
    """An entity the answer rests on."""

    id: str
    domain: str
    attributes: dict[str, str]
    rank: int
    score: float
    confidence: str
    seen: bool
    parts: dict[str, float] | None = None


class DialogueAnswer(BaseModel):
    """The schema of an answer, which MLflow shows; answers themselves are plain dicts of this shape."""

    response: str
    entities: list[RetrievedRecord]
    num_entities: int | None = None


class DialogueModel(PythonModel):
    """Retrieves entities for each context and answers from them."""

    live: Any

    @override
    def load_context(self, context: PythonModelContext) -> None:
        """Load retriever, generator, knowledge base and index.

        The device is that of the environment variable FUSEDIAL_DEVICE: `auto` (the default), `cpu`, `cuda:1`, … With
        FUSEDIAL_STATE the knowledge base may be changed; changes are kept in that folder, and found there again. The model's
        config has `num_retrieved`, `num_beams`, `max_new_tokens` and `batch_size`, which may be changed at loading.
        """
        from models.dialogue.agent.live import LiveAgent
        from models.dialogue.agent.loading import load_agent
        from models.lm.loading import pick_device

        device = pick_device(os.environ.get(DEVICE, "auto"))
        paths = {name: Path(place) for name, place in context.artifacts.items()}
        settings = {k: v for k, v in (context.model_config or {}).items() if v is not None}
        agent = load_agent(paths["variant"], paths["kb"], device=device, index_folder=paths.get("index"), **settings)
        state = os.environ.get(STATE)
        self.live = LiveAgent(agent, state=Path(state) if state else None)

    def predict(self, model_input: list[DialogueRequest]) -> list[DialogueAnswer]:  # type: ignore[override]
        """Return {response, entities} for each request; each entity has id, domain, attributes, rank, score, confidence, seen.

        With hybrid scoring it also has `parts`: what the score is made of (`dense`, `name`, `value`, `bm25`).

        Requests are met in their order. One with a `change` also returns `num_entities`, the entities there are now; without a
        `context` its response is empty.
        """
        return [self._answer(request) for request in model_input]  # type: ignore[misc]

    def _answer(self, request: DialogueRequest) -> dict[str, Any]:
        changed = {} if request.change is None else {"num_entities": self._change(request.change)}
        if request.context is None:
            return {"response": "", "entities": [], **changed}
        agent = self.live.current()
        with mlflow.start_span("dialogue", span_type=SpanType.AGENT) as span:
            span.set_inputs(request.model_dump(exclude_none=True))
            entities = self._retrieve(agent, request)
            text = self._generate(agent, request, entities)
            answer = {"response": text, "entities": [self._describe(agent, e) for e in entities], **changed}
            span.set_outputs(answer)
        return answer

    def _change(self, change: KbChange) -> int:
        from models.dialogue.data.knowledge_base import KbChanges
        from models.dialogue.data.records import Entity

        with mlflow.start_span("change", span_type=SpanType.TOOL) as span:
            span.set_inputs(change.model_dump(exclude_none=True))
            add, update = ([Entity(e.id, e.domain, e.attributes) for e in rows or ()] for rows in (change.add, change.update))
            agent = self.live.change(KbChanges(tuple(add), tuple(update), tuple(change.remove or ())))
            span.set_outputs({"num_entities": len(agent.kb)})
        return len(agent.kb)

    def _retrieve(self, agent: Any, request: DialogueRequest) -> Any:
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"context": request.context})
            within = None if request.kb is None else [agent.kb.rows(request.kb)]
            [entities] = agent.retrieve([request.context], within=within)
            span.set_outputs([self._document(agent, e) for e in entities])
        return entities

    def _generate(self, agent: Any, request: DialogueRequest, entities: Any) -> str:
        from models.dialogue.generators.base import DialogueItem

        with mlflow.start_span("generate", span_type=SpanType.LLM) as span:
            span.set_inputs({"context": request.context, "num_entities": len(entities)})
            dynamic = {k: tuple(v) for k, v in (request.dynamic or {}).items()}
            item = DialogueItem("", request.domain, tuple(request.context or ()), entities, dynamic)
            [answer] = agent.responder.respond([item])
            span.set_attributes({"num_prompt_tokens": answer.num_prompt_tokens, "num_tokens": answer.num_tokens})
            span.set_outputs(answer.text)
        return str(answer.text)

    def _describe(self, agent: Any, found: Any) -> dict[str, Any]:
        meta = found.meta
        known = {"rank": meta.rank, "score": meta.score, "confidence": agent.meta.confidence(meta.score), "seen": meta.seen}
        return {**to_row(found.entity), **known, **({"parts": dict(found.parts)} if found.parts else {})}

    def _document(self, agent: Any, found: Any) -> dict[str, Any]:
        row = self._describe(agent, found)
        text = "; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in row.pop("attributes").items())
        return {"page_content": text, "id": row.pop("id"), "metadata": row}


set_model(DialogueModel())
