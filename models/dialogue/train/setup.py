"""What a joint training starts from: data, warm-started retriever, generator, meta knowledge."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex
from models.dialogue.data.records import KB, VALUES, Turn, TurnFile, splits_of
from models.dialogue.generators.kinds import GENERATORS
from models.dialogue.generators.trainable import AnyGenerator, TokenBuilder
from models.dialogue.retrieval.embedding import embed_contexts
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.entity_text import entity_text
from models.dialogue.retrieval.meta_knowledge import Edges, EntityMeta, MetaKnowledge, calibrate_edges, style_of
from models.dialogue.train.entity_choice import EntityChooser
from models.dialogue.train.index_refresh import IndexRefresher
from models.errors import ArtifactError, DataError, Problem
from models.params.dialogue import DialogueParams, Variant
from models.params.dialogues import Setting
from models.params.index import IndexParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DialogueData:
    """A dialogue artifact in memory.

    Attributes:
        kb: The knowledge base.
        train: Training turns, read on access, API turns included: the generator writes those as well.
        valid: Validation turns, likewise.
        values: What the F1 of entity values looks for.
        value_index: Values of the knowledge base, for the co-occurrence test.
    """

    kb: KnowledgeBase
    train: Sequence[Turn]
    valid: Sequence[Turn]
    values: Sequence[str]
    value_index: ValueIndex

    @classmethod
    def read(cls, folder: Path) -> "DialogueData":
        """Read the artifact of `prepare`.

        Raises:
            ArtifactError: A file is missing or broken.
            DataError: There is nothing to train on, to validate on, or to retrieve.
        """
        kb = KnowledgeBase.load(folder / KB)
        splits = {split: TurnFile(path) for split, path in splits_of(folder).items() if split != "test"}
        problems = [Problem(f"{split}.jsonl", "must have turns", "empty") for split, turns in splits.items() if not turns]
        if not len(kb):
            problems.append(Problem(KB, "must have entities", "empty"))
        if problems:
            raise DataError(f"No dialogue agent can be trained from `{folder}`", problems)
        return cls(kb, splits["train"], splits["valid"], _read_values(folder / VALUES), ValueIndex(kb))

    def texts(self) -> Iterator[str]:
        """Yield utterances, responses and entities: what the tokenizer of a T5 from scratch is trained on."""
        for turn in self.train:
            yield from (*turn.context[-1:], turn.response)
        yield from (entity_text(entity) for entity in self.kb.entities)


def _read_values(path: Path) -> list[str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise ArtifactError(f"`{path}` must hold the values of the data set, but cannot be read ({err}). Run `prepare`.") from err
    return [str(value) for value in values]


def measured_edges(
    cfg: DialogueParams, data: DialogueData, *, retriever: Retriever, index: IndexParams, setting: Setting, device: str
) -> Edges:
    """Return the scores at which confidence becomes middle and high: those of the params, or terciles over the validation split.

    The latter are measured on the scores of the K entities that the warm-started retriever gives for each validation turn.
    """
    if cfg.meta_knowledge.edges != "calibrated":
        return cfg.meta_knowledge.edges
    refresher = IndexRefresher(retriever, data.kb, cfg=index, device=device)
    refresher.refresh()
    contexts = [turn.context for turn in data.valid]
    q_reps = embed_contexts(retriever, contexts, device=device)
    within = [data.kb.rows(dict.fromkeys(turn.kb)) for turn in data.valid] if setting == "condensed" else None
    hits = refresher.index.search(q_reps, cfg.num_retrieved, within=within, contexts=contexts)
    edges = calibrate_edges(score for b in range(len(q_reps)) for _, score in hits.of(b))
    logger.info("Confidence is middle from a score of %.3f on, high from %.3f on.", *edges)
    return edges


def make_meta(cfg: DialogueParams, *, variant: Variant, edges: Edges) -> MetaKnowledge:
    """Return the writer of meta knowledge of a variant."""
    return MetaKnowledge(cfg.meta_knowledge, style=style_of(variant), edges=edges)


def make_generator(
    cfg: DialogueParams, data: DialogueData, meta: MetaKnowledge, *, root: Path, folder: Path | None = None
) -> AnyGenerator:
    """Return the generator that training starts from.

    Args:
        cfg: Names it; budgets.
        data: What one from scratch learns its tokenizer from.
        meta: What is written of entities.
        root: What relative folders start at.
        folder: Where it lies, if its params name it by anything but its place.

    Raises:
        SourceError: A pre-trained one cannot be loaded.
        ParamsError: It cannot read as much as the params give it.
    """
    said = list(dict.fromkeys(_wordings(meta, num_retrieved=cfg.num_retrieved)))
    as_text = meta.style == "prompt" or (cfg.generator.kind == "causal" and meta.style == "prefix")

    def texts() -> Iterator[str]:
        yield from data.texts()
        if as_text:
            yield from _wordings(meta, num_retrieved=cfg.num_retrieved)

    kind = GENERATORS[cfg.generator.kind]
    tokens = meta.special_tokens()
    made = kind.build(cfg.generator, texts=texts, special_tokens=tokens, root=root, seed=cfg.seed, folder=folder)
    made.require_room(cfg.num_retrieved + (cfg.joint.negative_entity != "none"), said)
    return made


def make_chooser(cfg: DialogueParams, data: DialogueData, meta: MetaKnowledge, *, builder: TokenBuilder[Any]) -> EntityChooser:
    """Return what chooses the entities of a turn and writes them for the generator."""
    return EntityChooser(
        data.kb,
        builder=builder,
        meta=meta,
        value_index=data.value_index,
        num_retrieved=cfg.num_retrieved,
        negative=cfg.joint.negative_entity,
        seed=cfg.seed,
    )


def _wordings(meta: MetaKnowledge, *, num_retrieved: int) -> Iterator[str]:
    """Yield every text of meta knowledge, often enough for its words to enter the tokenizer."""
    scores = (meta.edges[0] - 1, meta.edges[0], meta.edges[1])
    for rank in range(1, num_retrieved + 2):
        for score in scores:
            for seen in (False, True):
                yield from [meta.text(EntityMeta(rank, score, seen))] * 20
