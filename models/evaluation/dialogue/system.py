"""What the dialogue evaluation scores: the identity of a system, how it is displayed, and how it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

DialogueKind = Literal["variant", "retriever", "warm_start", "floor", "response_floor", "in_context", "unseen", "dense"]

_LABELS = {
    "warm_start": "warm start",
    "bm25": "BM25",
    "frequency": "Frequency",
    "null": "constant answer",
    "copy_first": "first entity copied",
}

_DENSE = "cosine alone"


@dataclass(frozen=True, slots=True)
class DialogueSystem:
    """A retriever, with or without a generator behind it.

    Attributes:
        name: A variant, for all kinds that training made; `warm_start`; else the name of the floor or in-context generator.
        kind: `variant` = retriever and generator trained together; `retriever` = a variant's best retriever alone; `warm_start`
            and `floor` only retrieve; `response_floor` = a response made without any generator; `in_context` = a generator not
            trained here over a variant's retriever; `unseen` = a variant's retriever on entities it was not trained with;
            `dense` = the cosine alone of a retriever with hybrid scoring, of a variant or of `warm_start`.
        meta_knowledge: How meta knowledge is given to the generator; empty where there is none.
        retriever: `in_context`: the variant whose retriever feeds it.
        test: `unseen`: which test, such as `new values`.
    """

    name: str
    kind: DialogueKind
    meta_knowledge: str = ""
    retriever: str = ""
    test: str = ""

    @property
    def label(self) -> str:
        """Short text for tables and axes: `prompt`, `warm start`, `BM25`, `fused + prompt`, `prompt (best retriever)`."""
        if self.kind == "in_context":
            return f"{self.name} + {self.meta_knowledge}" if self.meta_knowledge not in ("", "none") else f"{self.name}, none"
        if self.kind == "dense":
            return f"{_LABELS.get(self.name, self.name)}, {_DENSE}"
        return _LABELS.get(self.name, self._stored_name)

    @property
    def key(self) -> str:
        """Name of the system in metrics and plots of DVC, of its own for every system: `prompt`, `warm_start`, `fused + none`."""
        return f"{self.name} + {self.meta_knowledge}" if self.kind == "in_context" else self._stored_name

    @property
    def folder(self) -> str:
        """Name of the folder that holds its rows: `retriever-prompt`, `unseen-prompt-new-values`, `in_context-fused-prompt`."""
        last = self.meta_knowledge if self.kind == "in_context" else self.test.replace(" ", "-")
        return "-".join(part for part in (self.kind, self.name, last) if part)

    @property
    def _stored_name(self) -> str:
        """The name in stored scores, which tells a variant's systems apart."""
        if self.kind == "retriever":
            return f"{self.name} (best retriever)"
        if self.kind == "dense":
            return f"{self.name}, {_DENSE}"
        return f"{self.name}, {self.test}" if self.kind == "unseen" else self.name

    def to_json(self) -> dict[str, str]:
        """Return the stored row {name, kind, meta_knowledge, retriever}; a variant's further systems name it as the retriever."""
        retriever = self.name if self.kind in ("retriever", "unseen", "dense") else self.retriever
        return {"name": self._stored_name, "kind": self.kind, "meta_knowledge": self.meta_knowledge, "retriever": retriever}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "DialogueSystem":
        """Build from a stored row; the one place that takes a stored name apart.

        Raises:
            KeyError: A field is missing.
        """
        name, kind, retriever = row["name"], row["kind"], row["retriever"]
        if kind in ("retriever", "dense"):
            return cls(retriever, kind)
        if kind == "unseen":
            return cls(retriever, kind, test=name.removeprefix(f"{retriever}, "))
        return cls(name, kind, row["meta_knowledge"], retriever)
