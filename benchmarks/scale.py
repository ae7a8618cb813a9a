"""What a turn, an entity or a step costs when there are ten and a hundred times as many of them: about 1 where costs are linear.

Each row is the cost of one at 10 or 100 times the base size over its cost at the base size, all measured in one run. Where the
cost at the base size is dominated by what comes once, ratios are below 1.
"""

import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from models.dialogue.data.knowledge_base import KnowledgeBase
from models.dialogue.data.pseudo_positive import ValueIndex, pseudo_positive
from models.dialogue.data.records import Entity, Turn
from models.dialogue.generators.seq2seq.from_scratch import add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.prompt import PassageBuilder
from models.dialogue.retrieval.embedding import embed_entities
from models.dialogue.retrieval.encoder import build_retriever
from models.dialogue.train.index_refresh import IndexRefresher
from models.dialogue.train.schedule import turns_at
from models.evaluation.dialogue.comparison import read_columns
from models.evaluation.dialogue.scores import DialogueRow, Retrieved
from models.evaluation.dialogue.system import DialogueSystem
from models.params.dialogue import GeneratorParams
from models.params.index import IndexParams
from models.params.retriever import PicoEncoder, RetrieverParams
from models.reporting.results import ResultRow

FACTORS = (1, 10, 100)
WORDS = [a + b for a in ("ba", "ke", "lo", "mu", "ri", "so") for b in ("dan", "fel", "gor", "hum", "jin", "lat", "nor", "per")]
Cost = Callable[[int], float]
# What is measured, what it is the cost of, of what there is more, how many at the base, the cost, what to expect.
Scale = tuple[str, str, str, int, Cost, str]


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    flat, bounded = "about 1 or less", "bounded by `max_context_tokens`"
    scales: tuple[Scale, ...] = (
        ("order of training", "step", "turns", 50_000, _step_seconds, flat),
        ("pseudo positives by a common value", "turn", "entities", 1_000, _positive_seconds, flat),
        ("contexts for the generator", "turn", "utterances of a dialogue", 8, _context_seconds, bounded),
        ("index refresh", "entity", "entities", 100, _refresh_seconds, flat),
        ("bytes of a comparison", "turn", "turns", 100, _comparison_bytes, flat),
    )
    return [*(row for scale in scales for row in _ratios(scale)), *_shares(), _columns()]


def _ratios(scale: Scale) -> Iterator[ResultRow]:
    what, unit, of, base, cost, target = scale
    costs = [cost(base * factor) for factor in FACTORS]
    for factor, found in zip(FACTORS[1:], costs[1:], strict=True):
        more = {"base": costs[0], "scaled": found, "target": target}
        name = f"{what}, per {unit}: {base * factor:,} {of} / {base:,}"
        yield ResultRow(name, found / costs[0], "ratio", num=base * factor, more=more)


def _step_seconds(num: int) -> float:
    """An epoch is drawn once: a step's part of that, and its cut."""
    steps, batch = num // 64, 64
    started = time.process_time()
    for step in range(steps):
        turns_at(step, num_turns=num, batch_size=batch, seed=1)
    return (time.process_time() - started) / steps


def _positive_seconds(num: int) -> float:
    index, rounds = ValueIndex(_town(num)), 200
    turns = [Turn(f"d#{i}", "d", i, "x", (f"{WORDS[9]} please",), f"many in the {WORDS[i % 5]}") for i in range(rounds)]
    started = time.process_time()
    found = [pseudo_positive(turn, index) for turn in turns]
    seconds = (time.process_time() - started) / rounds
    if not all(row is not None and WORDS[i % 5] in index.kb[row].attributes["area"] for i, row in enumerate(found)):
        raise SystemExit("a pseudo positive lacks the value")
    return seconds


def _context_seconds(num: int) -> float:
    tokenizer = train_t5_tokenizer([" ".join(WORDS)] * 3, vocab_size=400)
    add_marks(tokenizer, ())
    builder, dialogues = PassageBuilder(tokenizer, GeneratorParams()), max(1, 800 // num)
    said = [[f"{WORDS[(d + i) % 48]} {WORDS[i % 7]} {d} {i}" for i in range(num)] for d in range(dialogues)]
    started = time.process_time()
    for dialogue in said:
        for turn in range(1, num + 1, 2):
            builder.context_ids(dialogue[:turn])
    return (time.process_time() - started) / (dialogues * num / 2)


def _refresh_seconds(num: int) -> float:
    sizes = PicoEncoder(vocab_size=400, hidden_size=64, num_layers=2, num_heads=2)
    retriever = build_retriever(RetrieverParams(pico=sizes), texts=[" ".join(WORDS)], root=Path())
    refresher = IndexRefresher(retriever, _town(num), cfg=IndexParams(), device="cpu")
    started = time.process_time()
    refresher.refresh()
    return (time.process_time() - started) / num


def _comparison_bytes(num: int) -> float:
    system = DialogueSystem("prompt", "variant", "prompt")
    return _held(lambda: read_columns({system: _rows(num)})) / num


def _shares() -> Iterator[ResultRow]:
    sizes = PicoEncoder(vocab_size=400, hidden_size=64, num_layers=2, num_heads=2)
    retriever, kb = build_retriever(RetrieverParams(pico=sizes), texts=[" ".join(WORDS)], root=Path()), _town(4000)
    seconds = []
    for processes in (1, 2, 8):
        started = time.process_time()
        embed_entities(retriever, kb, share=(0, processes))
        seconds.append(time.process_time() - started)
    for processes, mine in zip((2, 8), seconds[1:], strict=True):
        more = {"base": seconds[0], "scaled": mine, "target": f"{1 / processes:g} and the tokenizer"}
        yield ResultRow(f"index refresh: one of {processes} processes / one alone", mine / seconds[0], "ratio", more=more)


def _columns() -> ResultRow:
    rows, columns = _held(lambda: list(_rows(2000))) / 2000, _comparison_bytes(2000)
    more = {"base": rows, "scaled": columns}
    return ResultRow("bytes of a comparison: a turn as columns / as a row", columns / rows, "ratio", num=2000, more=more)


def _held(make: Callable[[], object]) -> int:
    tracemalloc.start()
    kept = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size


def _rows(num: int) -> Iterator[DialogueRow]:
    counts = {"bleu": 10, "entity_f1": 3, "hallucination": 2, "mrr": 2, **{f"recall_value@{k}": 2 for k in (1, 3, 5, 7)}}
    for i in range(num):
        seen = tuple(Retrieved(f"e{j}", i + j / 7, f"the top-{j} entity of turn {i}") for j in range(7))
        numbers = {name: tuple(float(i + n) for n in range(count)) for name, count in counts.items()}
        yield DialogueRow(
            f"d{i // 5}#{i % 5}", f"d{i // 5}", "x", "response", True, True, seen, f"said {i}", f"says {i}", numbers
        )


def _town(num: int) -> KnowledgeBase:
    def entity(i: int) -> Entity:
        kind = {"area": WORDS[i % 5], "food": WORDS[5 + i % 40], "phone": f"0{10**9 + i}"}
        return Entity(str(i), "x", {"name": f"{WORDS[i % 48]} {WORDS[i // 48 % 48]} {i}", **kind})

    return KnowledgeBase(map(entity, range(num)), digest=f"town of {num}")


if __name__ == "__main__":
    for line in measure():
        print(f"{line.name:90s} {line.value:10.3f} {dict(line.more)}")
