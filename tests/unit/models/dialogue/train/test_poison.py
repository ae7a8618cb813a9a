"""Inference never sees the response, the negative entity or the gold of a turn (acceptance check f)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import dialogue_parts as parts

from models.dialogue.train import entity_choice
from models.dialogue.train.validation import DialogueValidation


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = parts.make_parts(parts.make_folders(tmp_path_factory.mktemp("town")), k=3)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():  # large random weights: what it writes hangs on all it reads
        for parameter in made.generator.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=g), alpha=0.5)
    return made


def run(made, turns, *, condensed=False, limit=None):
    validation = DialogueValidation(
        turns,
        made.data.kb,
        meta=made.meta,
        value_index=made.data.value_index,
        values=made.data.values,
        num_retrieved=3,
        limit=limit,
        condensed=condensed,
        device="cpu",
    )
    return validation.run(made.retriever, made.generator, made.refresher.index, temperature=0.1)


@pytest.mark.parametrize("condensed", [False, True])
def test_poisoned_fields_change_neither_rows_nor_texts(made, condensed, monkeypatch):
    turns = made.data.valid
    monkeypatch.setattr(entity_choice, "negative_rows", lambda *_, **__: pytest.fail("chose a negative entity"))
    clean = run(made, turns, condensed=condensed)
    other = made.data.kb[0]
    poison = {
        "response": f"{other.name} {other.attributes['phone']} poison",
        "gold_values": (other.name,),
        "gold_entities": (other.id,),
        "first_mention": True,
    }
    if not condensed:
        poison["kb"] = (other.id,)
    poisoned = run(made, [replace(turn, **poison) for turn in turns], condensed=condensed)
    assert np.array_equal(clean.hits.rows, poisoned.hits.rows) and np.array_equal(clean.hits.scores, poisoned.hits.scores)
    assert clean.texts == poisoned.texts and len(set(clean.texts)) > len(clean.texts) // 2
    assert clean.metrics["valid/nll"] != poisoned.metrics["valid/nll"]  # the poison was there to be seen


def test_what_may_be_seen_does_change_them(made):
    """Guards the test above."""
    turns = made.data.valid
    clean = run(made, turns)
    changed = run(made, [replace(turn, context=("what about the harbour or a phone ?",)) for turn in turns])
    assert not np.array_equal(clean.hits.scores, changed.hits.scores) and clean.texts != changed.texts
    sessions = [tuple(made.data.kb[row].id for row in (1, 2, 3, 4)) for _ in turns]
    bounded = run(made, [replace(t, kb=kb) for t, kb in zip(turns, sessions, strict=True)], condensed=True)
    assert set(bounded.hits.rows[:, :3].ravel().tolist()) <= {1, 2, 3, 4}
