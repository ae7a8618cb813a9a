"""A scripted server that returns `prompt_logprobs`, as vLLM does."""

import json

import torch


def vllm(source, *, entries: int = 10**6):
    """Answer `/v1/completions` with `prompt_logprobs` as vLLM does: top-k and the prompt's own token, keys as strings."""

    def answer(path, body):
        assert path == "/v1/completions" and body["max_tokens"] == 1
        ids, k = body["prompt"], body["prompt_logprobs"]
        assert len(ids) < source.source.context_length, "the server must have room for one token"
        with torch.no_grad():
            logits = source.model(input_ids=torch.tensor([ids])).logits[0].float()
        rows: list[dict | None] = [None]
        for label, logprobs in zip(ids[1:], logits.log_softmax(-1), strict=False):
            best = logprobs.topk(min(k, entries)).indices.tolist() if k else []
            rows.append({str(i): {"logprob": logprobs[i].item(), "rank": 1, "decoded_token": "?"} for i in {*best, label}})
        return 200, {}, json.dumps({"choices": [{"text": "x", "prompt_logprobs": rows}], "usage": {}}).encode()

    return answer
