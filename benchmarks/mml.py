"""The K + 1 likelihoods of MK-TOD's joint loss: passages encoded once, against encoded again for each single likelihood.

`flops` is the same ratio counted in multiplications: the encoder, and the decoder's keys and values of its states, once
instead of twice; the decoder's own work for K + 1 responses is the same on both sides.
"""

import torch
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.timing import paired
from models.dialogue.generators.seq2seq.from_scratch import add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.params.dialogue import GeneratorParams
from models.reporting.results import ResultRow

# T5-small, and the lengths of Table 13: K = 7 entities, contexts of 200 and entities of 100 tokens, a usual response.
B, K, CONTEXT, ENTITY, T = 1, 7, 200, 100, 20
VOCABULARY = 32128
SMALL = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8}


def _generator() -> Seq2SeqGenerator:
    tokenizer = train_t5_tokenizer(["a cheap hotel in the north"], vocab_size=300)
    add_marks(tokenizer, ())
    torch.manual_seed(0)
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = T5Config(**SMALL, **ends, vocab_size=VOCABULARY, decoder_start_token_id=tokenizer.pad_token_id, dropout_rate=0.0)
    return Seq2SeqGenerator(GeneratorParams(), T5ForConditionalGeneration(config), tokenizer).train()


def _flops() -> float:
    """Return multiplications of ours over those of the naive way, forward (backward is twice both)."""
    d, inner, ff, layers = SMALL["d_model"], SMALL["num_heads"] * SMALL["d_kv"], SMALL["d_ff"], SMALL["num_layers"]
    length = CONTEXT + ENTITY + 1
    read = K * length
    encoder = read * layers * (4 * d * inner + 2 * length * inner + 2 * d * ff)
    keys_values = read * layers * 2 * d * inner
    said = (K + 1) * T * (layers * (6 * d * inner + 2 * T * inner + 2 * d * ff) + d * VOCABULARY)
    decoder = said + 2 * T * layers * 2 * read * inner
    return (encoder + keys_values + decoder) / (2 * (encoder + keys_values) + decoder)


def measure() -> list[ResultRow]:
    torch.set_num_threads(1)
    generator = _generator()
    model, random = generator.model, torch.Generator().manual_seed(1)

    def draw(length: int) -> list[int]:
        return torch.randint(3, 32000, (length,), generator=random).tolist()

    contexts = [draw(CONTEXT) for _ in range(B)]
    entities = [[draw(ENTITY) for _ in range(K)] for _ in range(B)]
    response, mask = torch.tensor([draw(T) for _ in range(B)]), torch.ones(B, T, dtype=torch.bool)
    passages = torch.tensor([[[*c, *e, 1] for e in es] for c, es in zip(contexts, entities, strict=True)])
    weights = torch.linspace(0.5, 1.5, K)

    def finish(fused: Tensor, single: Tensor) -> float:
        loss = -(fused.sum() + (single * weights).sum())
        generator.zero_grad()
        loss.backward()
        return loss.item()

    def ours() -> float:
        encoded = generator.encode(contexts, entities, device="cpu")
        fused = generator.response_logprobs(encoded, response, mask)
        return finish(fused, generator.single_logprobs(encoded, response, mask).sum(2))

    def logprobs(states: Tensor, labels: Tensor) -> Tensor:
        logits = model(encoder_outputs=(states,), labels=labels).logits
        return torch.log_softmax(logits, -1).gather(2, labels[:, :, None])[:, :, 0]

    def naive() -> float:
        states = model.encoder(input_ids=passages.flatten(0, 1)).last_hidden_state
        fused = logprobs(states.unflatten(0, (B, K)).flatten(1, 2), response)
        again = model.encoder(input_ids=passages.flatten(0, 1)).last_hidden_state
        single = logprobs(again, response.repeat_interleave(K, 0)).sum(1)
        return finish(fused, single.unflatten(0, (B, K)))

    a, first = ours(), model.shared.weight.grad.clone()
    b, second = naive(), model.shared.weight.grad.clone()
    if abs(a - b) > 1e-4 * abs(b) or not torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(second.abs().max())):
        raise SystemExit(f"the two ways differ: {a} and {b}")
    fast, slow, ratio = paired(ours, naive, rounds=2)
    name = f"MML step, T5-small, K={K}: reused / re-encoded passages"
    return [ResultRow(name, ratio, "ratio", more={"target": "<= 0.65", "ours_s": fast, "peer_s": slow, "flops": _flops()})]
