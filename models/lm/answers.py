"""In-process generation of a source's responses for inference mode (ỹ_i^j of eq. 2 of ProFuser), independent of batching."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from models.errors import NumericsError
from models.lm.loading import LoadedSource
from models.lm.prompts import FittedPrompt, Ids, Overflow, PromptItem, fit_prompts, pad_rows, plan_batches, source_response_lead
from models.memory import release_memory_after
from models.params.teach import ResponseParams
from models.schema import Response


def sample_seed(seed: int, item_id: str, sample: int) -> int:
    """Return the seed of one answer, 63 bits, from the stage's seed, the prompt's id and the number of the sample."""
    digest = hashlib.sha256(f"{seed}\x00{item_id}\x00{sample}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_uniforms(seeds: Sequence[int | None], *, steps: int, device: torch.device) -> Tensor:
    """Return float32[B, steps] in [0, 1): row b comes from its own generator, the same on every device.

    A row without a seed is 0: the first token of the cumulative distribution, which is the most probable one.
    """
    rows = [
        torch.zeros(steps) if seed is None else torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds
    ]
    return torch.stack(rows).to(device)


class NextTokenProcessor(LogitsProcessor):
    """Logits processor that masks ids outside the vocabulary and, when sampling, leaves only the sampled token possible.

    `generate` then takes the arg-max. Sampling inverts the cumulative distribution of the nucleus at the row's uniform number:
    the smallest set of tokens whose probabilities sum to at least `top_p`, after division of the logits by `temperature`.

    Attributes:
        broken: bool[B], rows with a NaN logit; read it after `generate`.
    """

    def __init__(
        self, *, vocab_rows: int, prompt_length: int, uniforms: Tensor | None, temperature: float = 1.0, top_p: float = 1.0
    ) -> None:
        self._vocab_rows = vocab_rows
        self._prompt_length = prompt_length
        self._uniforms = uniforms
        self._temperature = temperature
        self._top_p = top_p
        self.broken: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Map scores float32[B, V] to scores whose arg-max is the next token."""
        real = scores[:, : self._vocab_rows]
        bad = real.isnan().any(dim=-1)
        self.broken = bad if self.broken is None else self.broken | bad
        if self._uniforms is None and self._vocab_rows == scores.shape[1]:
            return scores
        masked = torch.full_like(scores, float("-inf"))
        if self._uniforms is None:
            masked[:, : self._vocab_rows] = real
            return masked
        step = input_ids.shape[1] - self._prompt_length
        chosen = sample_top_p(real / self._temperature, self._uniforms[:, step], top_p=self._top_p)
        return masked.scatter_(1, chosen[:, None], 0.0)


def sample_top_p(logits: Tensor, uniforms: Tensor, *, top_p: float) -> Tensor:
    """Sample one id per row from logits [B, V] by the uniform numbers [B]; returns int64[B]."""
    probs, ids = torch.softmax(logits.float(), dim=-1).sort(dim=-1, descending=True, stable=True)
    cumulative = probs.cumsum(dim=-1)
    kept = (cumulative - probs < top_p).sum(dim=-1, keepdim=True).clamp(min=1)
    mass = cumulative.gather(1, kept - 1)
    rank = (cumulative <= uniforms[:, None] * mass).sum(dim=-1, keepdim=True)
    return ids.gather(1, torch.minimum(rank, kept - 1)).squeeze(1)


Progress = Callable[[int], None]
_Row = tuple[int, int]  # index of the prompt, number of the sample


def generate_responses(
    source: LoadedSource,
    items: Sequence[PromptItem],
    cfg: ResponseParams,
    *,
    overflow: Overflow = "truncate_left",
    on_progress: Progress | None = None,
) -> list[Response]:
    """Generate `cfg.num_samples` responses of a source to every prompt.

    Prompts of similar length are generated together, padded on the left. Decoding is greedy at temperature 0, and for the
    first answer with `greedy_first`; otherwise each
    (prompt, sample) has its own random numbers from `cfg.seed`, so that neither the batch nor the order changes an answer
    (beyond ties within rounding). The decoding settings of the checkpoint's own generation config are not used, except for its
    stop tokens. Ids that the tokenizer does not know are never produced.

    Args:
        source: The source.
        items: Prompts; the result holds `cfg.num_samples` consecutive responses for each, in this order.
        cfg: Length, temperature, seed, batch size.
        overflow: What to do with a prompt that leaves no room for `cfg.max_new_tokens` in the context.
        on_progress: Called with the number of finished responses after each batch.

    Returns:
        Responses; `num_tokens` counts generated tokens without the stop token.

    Raises:
        ParamsError: `max_new_tokens` leaves no room for a prompt.
        DataError: A prompt is empty, or too long under overflow `error`.
        NumericsError: The model's logits are NaN.
    """
    prompts = fit_prompts(source.source, source.codec, items, room=cfg.max_new_tokens, overflow=overflow)
    rows: list[_Row] = [(i, s) for i in range(len(items)) for s in range(cfg.num_samples)]
    answers: dict[int, Response] = {}
    for batch in plan_batches([len(prompts[i].ids) for i, _ in rows], max_rows=cfg.batch_size):
        picked = [rows[b] for b in batch]
        answers.update(zip(batch, _answer(source, items, prompts, picked, cfg), strict=True))
        release_memory_after(source.device.type)  # each batch leaves keys and values of another length
        if on_progress is not None:
            on_progress(len(answers))
    return [answers[r] for r in range(len(rows))]


def stop_ids(source: LoadedSource) -> list[int]:
    """Return the ids that end a response (`TurnEnd.stops`), as far as the head has them."""
    return sorted(i for i in source.codec.end.stops if i < source.vocab_rows)


@torch.inference_mode()
def _answer(
    source: LoadedSource, items: Sequence[PromptItem], prompts: Sequence[FittedPrompt], rows: Sequence[_Row], cfg: ResponseParams
) -> list[Response]:
    input_ids, mask = pad_rows([prompts[i].ids for i, _ in rows], pad_id=source.pad_id, side="left", device=source.device)
    seeds = [None if cfg.is_greedy(s) else sample_seed(cfg.seed, items[i].id, s) for i, s in rows]
    choose = _chooser(source, seeds, cfg, prompt_length=input_ids.shape[1])
    stops = stop_ids(source)
    config = GenerationConfig(
        max_new_tokens=cfg.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=stops,
        pad_token_id=source.pad_id,
    )
    with _without_checkpoint_defaults(source.model):
        generate: Any = source.model.generate  # typed as Tensor | Module by nn.Module
        output: Tensor = generate(
            input_ids, attention_mask=mask, generation_config=config, logits_processor=LogitsProcessorList([choose])
        )
    _refuse_broken(choose, source, [items[i].id for i, _ in rows])
    new = np.asarray(output[:, input_ids.shape[1] :].cpu(), dtype=np.int32)
    # The lead belongs to the template: left in the text, it would be scored twice.
    lead = source_response_lead(source.source, source.codec)
    responses = []
    for (i, s), ids in zip(rows, new, strict=True):
        kept, finish = _until_stop(ids, stops)
        text = source.codec.decode(kept).removeprefix(lead)
        responses.append(Response(items[i].id, source.source.name, s, text, len(kept), finish, prompts[i].truncated))
    return responses


def _chooser(source: LoadedSource, seeds: Sequence[int | None], cfg: ResponseParams, *, prompt_length: int) -> NextTokenProcessor:
    if cfg.temperature == 0:
        return NextTokenProcessor(vocab_rows=source.vocab_rows, prompt_length=prompt_length, uniforms=None)
    return NextTokenProcessor(
        vocab_rows=source.vocab_rows,
        prompt_length=prompt_length,
        uniforms=draw_uniforms(seeds, steps=cfg.max_new_tokens, device=source.device),
        temperature=cfg.temperature,
        top_p=cfg.top_p,
    )


@contextmanager
def _without_checkpoint_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Keep `generate` from filling unset options from the checkpoint (repetition penalties, forced tokens)."""
    theirs = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = theirs


def _refuse_broken(choose: NextTokenProcessor, source: LoadedSource, ids: Sequence[str]) -> None:
    if choose.broken is None or not bool(choose.broken.any()):
        return
    bad = [i for i, broken in zip(ids, choose.broken.tolist(), strict=True) if broken]
    raise NumericsError(
        f"The logits of `{source.source.name}` must be numbers, but are NaN on {len(bad)} prompts: {', '.join(bad[:10])}. "
        f"Its dtype is {source.source.dtype}; float32 or bfloat16 have a wider range."
    )


def _until_stop(ids: Ids, stops: Sequence[int]) -> tuple[Ids, Literal["eos", "length"]]:
    ends = np.flatnonzero(np.isin(ids, stops))
    return (ids[: ends[0]], "eos") if len(ends) else (ids, "length")
