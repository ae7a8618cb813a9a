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
    """Write the index of the knowledge base under the retriever in `folder` of its artifact.

    Every entity is embedded: an edited knowledge base means a retrained retriever, so no vector could be kept.
    A served agent, which keeps the retriever, carries the index over with `refresh_kb_index`
    (`models.dialogue.retrieval.kb_index`).
    """
    from models.dialogue.data.knowledge_base import KnowledgeBase
    from models.dialogue.data.records import KB
    from models.dialogue.retrieval.encoder import Retriever
    from models.dialogue.retrieval.kb_index import build_kb_index
    from models.lm.loading import pick_device

    device = pick_device(runtime.device)
    encoder = Retriever.load(retriever.path / folder, device=device)
    kb = KnowledgeBase.load(data.path / KB)
    with RunSink(run, runtime=runtime, label="index the knowledge base") as sink:
        made = build_kb_index(
            encoder, kb, cfg=cfg, device=device, on_progress=lambda done, total: sink.progress(done, total, unit="entities")
        )
    made.save(work.out)
    return {"entities": len(kb), "kind": made.index.kind, "name": folder.partition("/")[0]}
