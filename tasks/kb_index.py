"""Task `kb-index`: every entity of the knowledge base embedded and put into a FAISS index."""

from collections.abc import Mapping
from typing import Any

from models.params.index import IndexParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact
from tasks.caching import Work, step
from tasks.tracking import RunSink, StageRun


@step("kb-index")
def kb_index(
    cfg: IndexParams,
    data: Artifact,
    retriever: Artifact,
    *,
    folder: str,
    runtime: Runtime,
    run: StageRun,
    work: Work,
) -> Mapping[str, Any]:
    """Write the index of the knowledge base under the retriever in `folder` of its artifact."""
    import numpy as np

    from models.data.dialogue_files import KB
    from models.data.knowledge_base import KnowledgeBase
    from models.generation.loading import pick_device
    from models.retrieval.embedding import embed_entities
    from models.retrieval.encoder import Retriever
    from models.retrieval.faiss_index import EntityIndex

    device = pick_device(runtime.device)
    encoder = Retriever.load(retriever.path / folder, device=device)
    kb = KnowledgeBase.load(data.path / KB)
    with RunSink(run, runtime=runtime, label="index the knowledge base") as sink:
        reps = embed_entities(
            encoder, kb, device=device, on_progress=lambda done, total: sink.progress(done, total, unit="entities")
        )
    index = EntityIndex.build(
        cfg, reps, ids=np.arange(len(kb), dtype=np.int64), encoder_digest=encoder.digest(), kb_digest=kb.digest, device=device
    )
    index.save(work.out)
    return {"entities": len(kb), "kind": index.kind, "name": folder.partition("/")[0]}
