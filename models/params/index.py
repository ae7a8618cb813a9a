"""`index`: the FAISS index over the entities."""

from typing import Literal

from pydantic import Field

from models.params.base import MAX_SEED, Section


class IndexParams(Section):
    """The FAISS index over the entities."""

    kind: Literal["auto", "flat", "ivf", "hnsw", "pq"] = Field(
        "auto", description="`auto`: exact (flat) up to `exact_up_to` entities, IVF,Flat beyond."
    )
    exact_up_to: int = Field(100_000, ge=1, description="Entities up to which `auto` searches exactly.")
    nlist: int = Field(0, ge=0, description="IVF and PQ: cells; 0 = 2·sqrt(N).")
    nprobe: int = Field(64, ge=1, description="IVF and PQ: cells visited by a search.")
    hnsw_m: int = Field(32, ge=4, description="HNSW: neighbours of a node.")
    hnsw_ef_search: int = Field(128, ge=1, description="HNSW: candidates of a search.")
    pq_bytes: int = Field(48, ge=1, description="PQ: bytes of a code (must divide the embedding size).")
    train_entities: int = Field(
        200_000, ge=1, description="IVF and PQ: entities the cells are learned from, at most (and 50 a cell, or 20,000)."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of that choice.")
