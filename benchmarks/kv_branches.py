"""The likelihoods of K single entities by a causal LM: the common beginning of their prompts computed once, or in every prompt.

Forward and backward of one turn with the sizes of SmolLM2-135M (random weights) and a usual prompt; peers are one row for each
entity, and one batch of them.
"""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.timing import paired
from models.dialogue.generators.decoder_only.branches import Branches, BranchReader
from models.reporting.results import ResultRow

K, PREFIX, ENTITY, T = 7, 180, 60, 20
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMOLLM2)).train()
    reader, random = BranchReader(model, pad_id=0, longest=512), torch.Generator().manual_seed(1)
    assert reader.shares

    def draw(length: int) -> list[int]:
        return torch.randint(3, 49152, (length,), generator=random).tolist()

    prefix, response = draw(PREFIX), draw(T)
    # Of different lengths, as entities are.
    entities = [draw(ENTITY + 3 * (k - K // 2)) for k in range(K)]

    def finish(logprobs: Tensor) -> float:
        model.zero_grad()
        (-logprobs.sum()).backward()
        return float(logprobs.detach().sum())

    def ours() -> float:
        return finish(reader.logprobs([Branches(prefix, entities, response)]))

    def naive() -> float:
        return sum(finish(reader.logprobs([Branches(prefix, [entity], response)])) for entity in entities)

    def rows_of_a_batch() -> float:
        return finish(reader.logprobs([Branches(prefix, [entity], response) for entity in entities]))

    found = {way.__name__: way() for way in (ours, naive, rows_of_a_batch)}
    if max(found.values()) - min(found.values()) > 1e-4 * K * T:
        raise SystemExit(f"the ways differ: {found}")
    model.zero_grad()
    fast, slow, ratio = paired(ours, naive, rounds=2)
    _, batched, by_batch = paired(ours, rows_of_a_batch, rounds=2)
    sizes = {"prefix": PREFIX, "entity": ENTITY, "response": T, "target": "<= 0.5"}
    name = f"likelihoods of {K} single entities, SmolLM2-135M's sizes: shared beginning / "
    return [
        ResultRow(f"{name}a row each", ratio, "ratio", more={**sizes, "ours_s": fast, "peer_s": slow}),
        ResultRow(f"{name}one batch", by_batch, "ratio", more={**sizes, "ours_s": fast, "peer_s": batched}),
    ]
