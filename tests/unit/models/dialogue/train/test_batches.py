import pytest
import torch
from support import dialogue_parts as parts

from models.dialogue.train.batches import TurnSampler
from models.dialogue.train.schedule import turns_at


@pytest.mark.parametrize(("micro", "world"), [(8, 1), (2, 1), (2, 2), (1, 4)])
def test_steps_hold_the_same_turns_however_they_are_cut(micro, world):
    options = {"total_steps": 3, "batch_size": 8, "micro_batch_size": micro, "seed": 5, "world_size": world}
    ranks = [TurnSampler(11, rank=rank, **options) for rank in range(world)]
    assigned = [list(sampler) for sampler in ranks]
    assert {len(d) for d in assigned} == {len(ranks[0])} == {3 * 8 // (micro * world)}
    planned = sorted(turn for d in assigned for batch in d for turn in batch)
    assert [t for *_, t in planned] == [int(t) for s in range(3) for t in turns_at(s, num_turns=11, batch_size=8, seed=5)]
    assert [(s, p) for s, p, _ in planned] == [(s, p) for s in range(3) for p in range(8)]
    assert all(len(batch) == micro and len({s for s, *_ in batch}) == 1 for d in assigned for batch in d)


def test_collator_lays_out_what_both_models_read(tmp_path):
    made = parts.make_parts(parts.make_folders(tmp_path), condensed=True)
    batch = made.collator([(3, 0, 7), (3, 1, 2)])
    turns = [made.data.train[7], made.data.train[2]]
    tokenizer = made.generator.tokenizer
    for b, turn in enumerate(turns):
        query = batch.query_ids[b][batch.query_mask[b].bool()].tolist()
        assert turn.context[0] in made.retriever.tokenizer.decode(query)
        response = batch.response_ids[b][batch.response_mask[b]].tolist()
        assert response[-1] == tokenizer.eos_token_id and turn.response.startswith(tokenizer.decode(response[:-1]).strip())
        assert turn.context[0] in tokenizer.decode(batch.contexts[b])
        assert batch.within[b] == made.data.kb.rows(turn.kb)
    assert (batch.turns, batch.places, batch.step, batch.num_tokens) == ((7, 2), (0, 1), 3, int(batch.response_mask.sum()))
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.query_ids, batch.query_ids) and moved.within is batch.within
    assert parts.make_parts(parts.make_folders(tmp_path / "b")).collator([(0, 0, 1)]).within is None
