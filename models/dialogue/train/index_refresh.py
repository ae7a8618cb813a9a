"""The index of a training: rebuilt with the present encoder when the encoder has changed."""

import logging
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.retrieval.embedding import Reps, embed_entities
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.retrieval.hybrid import SearchIndex
from models.dialogue.retrieval.index.faiss_index import EntityIndex
from models.dialogue.retrieval.kb_index import make_lexical, with_lexical
from models.errors import RetrievalError
from models.params.index import IndexParams

logger = logging.getLogger(__name__)
_GATHERED = 65_536  # entities whose vectors are exchanged at a time


class IndexRefresher:
    """Holds the index that training searches; a refresh embeds all entities, unless the encoder has not changed.

    Attributes:
        num_embedded: Entities embedded so far.
        num_refreshes: Refreshes that embedded them.
    """

    def __init__(self, retriever: Retriever, kb: KnowledgeBase, *, cfg: IndexParams, device: str, batch_size: int = 64) -> None:
        """Use `retriever` for the entities of `kb`; the first refresh builds the index."""
        self._retriever, self._kb, self._cfg, self._device, self._batch_size = retriever, kb, cfg, device, batch_size
        self._lexical = make_lexical(retriever, kb)
        self._index: SearchIndex | None = None
        self._stale = True
        self.num_embedded = 0
        self.num_refreshes = 0

    @property
    def index(self) -> SearchIndex:
        """The index as of the last refresh.

        Raises:
            RetrievalError: There has been no refresh.
        """
        if self._index is None:
            raise RetrievalError("The index of the training must be made before it is searched. Call `refresh` first.")
        return self._index

    @property
    def stale(self) -> bool:
        """Whether the encoder has changed since the last refresh."""
        return self._stale

    def encoder_changed(self) -> None:
        """Note that an optimiser step moved the encoder."""
        self._stale = True

    def refresh(self) -> bool:
        """Embed all entities and index them if the encoder has changed; return whether it had.

        Processes share the embedding and each indexes all entities: every process must call this, with the same weights.
        """
        if not self._stale:
            return False
        e_reps = self._embedded()
        # The digest would read all weights; this index never leaves the training.
        index = EntityIndex.build(
            self._cfg,
            e_reps,
            ids=np.arange(len(self._kb), dtype=np.int64),
            encoder_digest="in training",
            kb_digest=self._kb.digest,
            device=self._device,
        )
        self._index = with_lexical(index, self._retriever, self._lexical)
        self._stale = False
        self.num_embedded += len(self._kb)
        self.num_refreshes += 1
        logger.debug("Index refreshed: %d entities.", len(self._kb))
        return True

    def _embedded(self) -> Reps:
        """Return the vectors of all entities, float32[N, D]."""
        settings: dict[str, Any] = {"batch_size": self._batch_size, "device": self._device}
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return embed_entities(self._retriever, self._kb, **settings)
        share = dist.get_rank(), dist.get_world_size()
        e_reps = embed_entities(self._retriever, self._kb, share=share, **settings)
        for start in range(0, len(e_reps), _GATHERED):
            part = torch.from_numpy(e_reps[start : start + _GATHERED]).to(self._device)
            dist.all_reduce(part)
            e_reps[start : start + _GATHERED] = part.cpu().numpy()
        return e_reps
