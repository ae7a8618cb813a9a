"""Acceptance check b of MK-TOD on a task where one entity alone explains the response, through the real encoder and T5.

Six kinds of entities with eight names each; a dialogue's own knowledge base has one entity of every kind. The context asks for a
kind by a word that no entity has, and the response is the entity's name. So the names cannot be learned from the context: the
generator must copy, and only the likelihood of the response tells the retriever which word means which kind.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from support import town

from models.dialogue.data.records import Entity, Turn, write_kb, write_turns
from models.dialogue.train.run import train_dialogue
from models.records import from_row

KINDS = ("zinc", "opal", "ruby", "jade", "onyx", "topaz")
WORDS = ("alpha", "bravo", "delta", "gamma", "omega", "sigma")
SYLLABLES = ("ba", "ko", "mi", "du", "re", "fo", "ti", "la", "se", "nu")
NAMES_PER_KIND = 8
STEPS = 60


def write_riddle(data: Path) -> Path:
    rng = np.random.default_rng(0)
    names = rng.permutation([a + b for a in SYLLABLES for b in SYLLABLES]).tolist()
    kb = [Entity(f"e{i}", "x", {"name": names[i], "kind": KINDS[i // NAMES_PER_KIND]}) for i in range(6 * NAMES_PER_KIND)]
    data.mkdir(parents=True)
    write_kb(data / "kb.jsonl", kb)
    for split, num in (("train", 400), ("valid", 60), ("test", 2)):
        turns = []
        for i in range(num):
            rows = [kind * NAMES_PER_KIND + int(rng.integers(NAMES_PER_KIND)) for kind in range(6)]
            kind = int(rng.integers(6))
            meant = kb[rows[kind]]
            turn = Turn(f"{split}{i}#0", f"{split}{i}", 0, "x", (f"ask {WORDS[kind]}",), meant.name)
            row = turn.to_json() | {"gold_values": [meant.name], "gold_entities": [meant.id], "kb": [kb[r].id for r in rows]}
            turns.append(from_row(Turn, row))
        write_turns(data / f"{split}.jsonl", turns)
    (data / "values.json").write_text(json.dumps([entity.name for entity in kb]))
    return data


@pytest.fixture(scope="module")
def recall_at_1(tmp_path_factory):
    root = tmp_path_factory.mktemp("riddle")
    data = write_riddle(root / "data")
    warm = town.write_warm(root / "warm", data, pico={"vocab_size": 400, "hidden_size": 32, "num_layers": 1, "num_heads": 2})
    pico = {"vocab_size": 500, "hidden_size": 64, "num_layers": 1, "num_heads": 4, "dropout": 0.0}

    def run(name, **changes):
        """Train, and return recall@1 by id on the validation split by step."""
        joint = {
            "steps": STEPS,
            "batch_size": 16,
            "micro_batch_size": 16,
            "k": 6,
            "negative_entity": "none",
            "every_evaluation": STEPS // 2,
            "every_checkpoint": 1000,
            "retriever_lr": 2e-3,
            "refresh": {"every_steps": 10},
            "generator": {"pico": pico, "max_context_tokens": 8, "max_entity_tokens": 12, "max_response_tokens": 6},
        }
        call = town.make_call(root, name, data=data, warm=warm, variant="none", setting="condensed", **(joint | changes))
        sink = town.RecordingSink()
        train_dialogue(call.pop("cfg"), call.pop("index"), sink=sink, log_every=10, **call)
        return {step: row["valid/recall@1_id"] for step, row in sink.rows.items() if "valid/nll" in row}, sink

    return run


def test_recall_rises_with_mml_and_is_flat_without(recall_at_1):
    with_mml, sink = recall_at_1("mml")
    assert with_mml[0] < 0.4 and with_mml[STEPS] > 0.95
    last = sink.rows[STEPS]
    assert last["valid/q_max"] > 0.9 and last["train/agreement_top1"] > 0.6 and last["train/score_gap"] > 0.3
    without, sink = recall_at_1("beta0", beta=0.0, steps=STEPS // 2)
    assert without == {0: with_mml[0], STEPS // 2: with_mml[0]}
    assert "train/mml" not in sink.rows[STEPS // 2] and sink.rows[STEPS // 2]["train/nll"] < sink.rows[10]["train/nll"]
