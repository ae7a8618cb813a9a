"""Refreshing the index of a knowledge base: the one pass that a moved encoder needs, and an edit under a frozen one.

The encoder has the sizes of MiniLM (6 layers of width 384), with random weights; texts have 4 to 90 words, most of them few.
"""

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import paired
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.retrieval.embedding import embed_entities
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.dialogue.retrieval.kb_index import build_kb_index, refresh_kb_index
from models.dialogue.train.index_refresh import IndexRefresher
from models.params.index import IndexParams
from models.params.retriever import PicoEncoder, RetrieverParams
from models.reporting.results import ResultRow

NUM, EDITED, CHANGES = 128, 512, (0, 8, 32, 128)
WORDS = [a + b for a in ("ba", "ke", "lo", "mu", "ri", "so") for b in ("dan", "fel", "gor", "hum", "jin", "lat", "nor", "per")]
BATCH = 64


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    sizes = PicoEncoder(vocab_size=2000, hidden_size=384, num_layers=6, num_heads=12)
    retriever = build_retriever(RetrieverParams(pico=sizes), texts=[" ".join(WORDS)], root=Path())
    return [*_passes(retriever), *_edits(retriever), _still(retriever)]


def _passes(retriever: Retriever) -> list[ResultRow]:
    kb = knowledge(NUM)

    def alone() -> np.ndarray:
        return np.concatenate([_arrival(retriever, kb, range(row, row + 1)) for row in range(NUM)])

    def arrival() -> np.ndarray:
        starts = range(0, NUM, BATCH)
        return np.concatenate([_arrival(retriever, kb, range(start, min(start + BATCH, NUM))) for start in starts])

    def ours() -> np.ndarray:
        return embed_entities(retriever, kb, batch_size=BATCH)

    rows = []
    for what, peer in (("one by one", alone), ("batches in order of arrival", arrival)):
        if not np.allclose(ours(), peer(), atol=1e-4):
            raise SystemExit(f"embedding by length and {what} differ")
        fast, slow, ratio = paired(ours, peer, rounds=2)
        more = {"ours_s": fast, "peer_s": slow, "entities_per_s": NUM / fast}
        rows.append(ResultRow(f"index refresh, moved encoder, {NUM} entities: by length / {what}", ratio, "ratio", more=more))
    return rows


def _edits(retriever: Retriever) -> list[ResultRow]:
    before = knowledge(EDITED)
    started = time.process_time()
    made = build_kb_index(retriever, before, cfg=IndexParams())
    full, rows = time.process_time() - started, []
    for count in CHANGES:
        after = knowledge(EDITED, changed=count, state=len(rows) + 1, base=before)
        started = time.process_time()
        edited = refresh_kb_index(made, retriever, after)
        seconds = time.process_time() - started
        if edited.num_embedded != count:
            raise SystemExit(f"{count} entities changed, but {edited.num_embedded} were embedded")
        made = refresh_kb_index(edited, retriever, before)
        more = {"ours_s": seconds, "peer_s": full, "share_changed": count / EDITED, "target": "in proportion to the changed"}
        name = f"index refresh, frozen encoder, {count} of {EDITED} entities changed: of a full pass"
        rows.append(ResultRow(name, seconds / full, "ratio", num=EDITED, more=more))
    if not np.allclose(made.index.reconstruct(np.arange(EDITED)), embed_entities(retriever, before), atol=1e-4):
        raise SystemExit("an index carried over and a fresh one differ")
    return rows


def _still(retriever: Retriever) -> ResultRow:
    """Measure a refresh in training while the encoder stands still."""
    refresher = IndexRefresher(retriever, knowledge(NUM), cfg=IndexParams(), device="cpu")
    refresher.refresh()
    started = time.process_time()
    refresher.refresh()
    seconds = time.process_time() - started
    if refresher.num_embedded != NUM:
        raise SystemExit("entities were embedded again though the encoder stood still")
    return ResultRow("index refresh in training, frozen encoder", 1e6 * seconds, "µs")


def knowledge(num: int, *, changed: int = 0, state: int = 0, base: KnowledgeBase | None = None) -> KnowledgeBase:
    """Return entities; `changed` of those of `base`, spread over it, get another text that depends on `state`."""
    if base is not None:
        entities = list(base.entities)
        for place in range(changed):
            row = place * num // changed
            old = entities[row].attributes
            entities[row] = Entity(str(row), "town", {**old, "name": f"{WORDS[state]} {old['name']}"})
        return KnowledgeBase(entities, digest=f"state {state}")
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.5, 0.8, size=num).astype(int), 3, 89)
    texts = [" ".join(rng.choice(WORDS, size=length)) for length in lengths]
    return KnowledgeBase([Entity(str(i), "town", {"name": f"n{i} {text}"}) for i, text in enumerate(texts)], digest="base")


def _arrival(retriever: Retriever, kb: KnowledgeBase, rows: range) -> np.ndarray:
    ids = retriever.tokenise_entities([retriever.entity_text(kb[row]) for row in rows])
    with torch.inference_mode():
        return retriever.encode_entities(*retriever.pad(ids)).numpy()


if __name__ == "__main__":
    for line in measure():
        print(f"{line.name:58s} {line.value:12.3f} {line.unit} {dict(line.more)}")
