"""Two processes share the refresh of an index; both hold what one alone would."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.records import Entity
from models.dialogue.retrieval.embedding import embed_entities
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.params.retriever import RetrieverParams

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
import numpy as np, torch, torch.distributed as dist
from pathlib import Path
from models.dialogue.data.knowledge_base import KnowledgeBase
from models.params.index import IndexParams
from models.dialogue.retrieval import embedding
from models.dialogue.retrieval.encoder import Retriever
from models.dialogue.train.index_refresh import IndexRefresher
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
retriever, kb = Retriever.load(folder / "retriever"), KnowledgeBase.load(folder / "kb.jsonl")
refresher = IndexRefresher(retriever, kb, cfg=IndexParams(), device="cpu", batch_size=8)
calls = []
plain = Retriever.encode_entities
Retriever.encode_entities = lambda self, ids, mask: calls.append(len(ids)) or plain(self, ids, mask)
refresher.refresh()
np.savez(folder / f"{rank}.npz", reps=refresher.index.reconstruct(np.arange(len(kb))), calls=calls)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_make_the_index_of_one(tmp_path: Path) -> None:
    from models.dialogue.data.records import write_kb

    kb = KnowledgeBase([Entity(str(i), "x", {"name": " ".join(["house"] * (i % 9 + 1)), "phone": str(i)}) for i in range(150)])
    sizes = {"vocab_size": 200, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    made = build_retriever(RetrieverParams(pico=sizes), texts=["house 0123456789"], root=tmp_path)
    made.save(tmp_path / "retriever")
    write_kb(tmp_path / "kb.jsonl", kb.entities)
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path), str(rank)], cwd=ROOT) for rank in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    alone = embed_entities(Retriever.load(tmp_path / "retriever"), kb, batch_size=8)
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(2)]
    assert all(np.array_equal(part["reps"], alone) for part in found)
    embedded = [int(part["calls"].sum()) for part in found]
    assert sum(embedded) == len(kb) and max(embedded) < 0.6 * len(kb)
