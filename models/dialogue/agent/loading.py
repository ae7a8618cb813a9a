"""A trained agent from the folder that `train_dialogue` wrote."""

import json
from pathlib import Path
from typing import Any

from models.dialogue.agent.agent import DialogueAgent
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.generators.base import Responder
from models.dialogue.generators.kinds import load_generator
from models.dialogue.generators.trained_responder import TrainedResponder
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.retrieval.index.file import IndexRecord
from models.dialogue.retrieval.kb_index import build_kb_index, load_kb_index, open_kb_index, refresh_kb_index
from models.dialogue.retrieval.meta_knowledge import MetaKnowledge
from models.errors import ArtifactError
from models.params.dialogue import MetaKnowledgeParams
from models.params.index import IndexParams

META = "meta.json"


def load_agent(
    variant: Path,
    kb: KnowledgeBase | Path,
    *,
    device: str,
    index: IndexParams | None = None,
    index_folder: Path | None = None,
    verified: bool = False,
    refresh: bool = False,
    num_retrieved: int | None = None,
    num_beams: int = 1,
    max_new_tokens: int | None = None,
    batch_size: int = 32,
    responder: Responder | None = None,
) -> DialogueAgent:
    """Load a trained agent: the retriever and generator that were chosen for their responses.

    Args:
        variant: Output folder of `train_dialogue`.
        kb: The knowledge base, or its `kb.jsonl`; it may have changed since training.
        device: A torch device.
        index: How the entities are indexed; None = the defaults.
        index_folder: A saved index to load instead of embedding the entities again.
        verified: The digests of its files have just been checked; a large one is then mapped, not read.
        refresh: Where it is of another state of the knowledge base, embed what is new (the folder stays as it is).
        num_retrieved: K; None = that of training.
        num_beams: Beams of the trained generator.
        max_new_tokens: Its longest response; None = that of training.
        batch_size: Turns it answers together.
        responder: Another generator to read what is retrieved; None = the trained one.

    Raises:
        ArtifactError: The folder is not a finished training run.
        RetrievalError: The saved index is of another encoder or knowledge base.
    """
    record = _read_meta(variant)
    knowledge = kb if isinstance(kb, KnowledgeBase) else KnowledgeBase.load(kb)
    best = variant / "best_generator"
    retriever = Retriever.load(best / "retriever", device=device)
    meta = MetaKnowledge(MetaKnowledgeParams(kinds=record["kinds"]), style=record["style"], edges=tuple(record["edges"]))
    if index_folder is None:
        entities = build_index(retriever, knowledge, cfg=index or IndexParams())
    else:
        entities = _saved_index(index_folder, retriever, knowledge, device=device, verified=verified, refresh=refresh)
    if responder is None:
        generator = load_generator(best / "generator", device=device)
        responder = TrainedResponder(
            generator, meta, device=device, num_beams=num_beams, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
    return DialogueAgent(
        retriever=retriever,
        index=entities,
        kb=knowledge,
        responder=responder,
        meta=meta,
        num_retrieved=num_retrieved or record["num_retrieved"],
        condensed=record["setting"] == "condensed",
    )


def build_index(retriever: Retriever, kb: KnowledgeBase, *, cfg: IndexParams) -> SearchIndex:
    """Embed a knowledge base where the retriever is, and index it."""
    return build_kb_index(retriever, kb, cfg=cfg).search_index(retriever)


def _saved_index(
    folder: Path, retriever: Retriever, kb: KnowledgeBase, *, device: str, verified: bool, refresh: bool
) -> SearchIndex:
    if refresh and IndexRecord.read(folder).kb_digest != kb.digest:
        saved = load_kb_index(folder, encoder=retriever.digest(), device=device)
        return refresh_kb_index(saved, retriever, kb).search_index(retriever)
    return open_kb_index(folder, retriever, kb, verified=verified, device=device)


def _read_meta(variant: Path) -> dict[str, Any]:
    path = variant / META
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {k: record[k] for k in ("kinds", "style", "edges", "num_retrieved", "setting")}
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise ArtifactError(
            f"`{path}` must hold the meta knowledge of a trained agent, but cannot be read ({err!r}). Run `train_dialogue` again."
        ) from err
