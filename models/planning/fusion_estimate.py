"""Estimates of the fusion pipeline's stages: disk, memory, computation. The formulas stand in `models.planning.footprint`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from models.fusion.schedule import resolve_schedule
from models.params.evaluation import EvaluationParams
from models.params.fusion import FusionParams
from models.params.teach import ScorerSpec, TeachParams
from models.planning.footprint import (
    SCATTERED,
    CorpusSize,
    ModelSize,
    activation_bytes,
    forward_flops,
    generation_calls,
    judging_cost,
    kv_cache_bytes,
    loss_chunk_bytes,
    signal_bytes_per_token,
    store_bytes,
    training_flops,
    training_state_bytes,
    unpacking_bytes,
    weights_bytes,
)
from models.planning.fusion_training_cost import estimate_fuse
from models.planning.stage_estimate import LIGHT_PROCESS_BYTES, PROCESS_BYTES, StageEstimate

# To find, check and record one source, or the model it was trained into (measured: 1 to 1.5 s).
_OPENING_SECONDS = 1.0
_UNPACKING_SECONDS = 2e-7  # a parameter of a GGUF file, on one core (measured: SmolLM2, Gemma-3-270M)
_ROW_BYTES = 150
"""JSON around a prompt, a response or a score: names, ids, quotes."""
_SCORED_BYTES = 280
"""JSON of one system's scores of one held-out example, besides its answer (measured: 260 to 300)."""
_SCORING_CHUNK = 1024


def estimate_stages(
    sources: Mapping[str, ModelSize],
    corpus: CorpusSize,
    *,
    teach: TeachParams,
    fusion: FusionParams,
    evaluation: EvaluationParams,
    methods: Sequence[str],
    reward_models: Sequence[ModelSize] = (),
    pretrain_tokens: int = 0,
    in_place: Collection[str] = (),
    unpacked: Collection[str] = (),
    processes: int = 1,
    fsdp: bool = False,
    on_cpu: bool = False,
) -> tuple[StageEstimate, ...]:
    """Estimate the stages prepare, sources, teach, fuse (all methods and targets) and evaluate_fusion.

    Args:
        sources: Sizes by name; holds `fusion.targets`.
        corpus: The corpus in numbers.
        teach: Answers, signals.
        fusion: Targets, batches, dtype, checkpoints.
        evaluation: Limits of the held-out scores.
        methods: Presets, or names of `fusion.schedules`.
        reward_models: Sizes of the reward models.
        pretrain_tokens: Tokens each source is trained on in `sources`; 0 = sources are taken as they are.
        in_place: Sources whose folders are used in place: nothing is written for them.
        unpacked: Sources that are GGUF files, which the stage `sources` unpacks one after another.
        processes: Processes of `fuse`.
        fsdp: Weights and optimiser are sharded over them.
        on_cpu: Models run on the processor, out of main memory.
    """
    schedules = [resolve_schedule(method, fusion) for method in methods]
    return (
        _prepare(corpus),
        _sources(
            [*sources.values(), *reward_models],
            written=[*(size for name, size in sources.items() if name not in in_place), *reward_models],
            unpacked=[sources[name] for name in unpacked],
            pretrain_tokens=pretrain_tokens,
        ),
        _teach(list(sources.values()), reward_models, corpus, cfg=teach, on_cpu=on_cpu),
        estimate_fuse(
            [sources[name] for name in fusion.targets], corpus,
            cfg=fusion, teach=teach, schedules=schedules, processes=processes, fsdp=fsdp, on_cpu=on_cpu,
        ),
        _evaluate(
            [*sources.values(), *(sources[name] for name in fusion.targets for _ in methods)], corpus,
            judges=reward_models, scorers=teach.rewards.scorers, cfg=evaluation, num_sources=len(sources), on_cpu=on_cpu,
        ),
    )  # fmt: skip


def _prepare(corpus: CorpusSize) -> StageEstimate:
    rows = corpus.num_train + corpus.num_valid + corpus.num_test
    disk = rows * (corpus.prompt_bytes + corpus.response_bytes + _ROW_BYTES) + corpus.extra_bytes
    seen = 100 * rows  # digests of the prompts, kept to find leaks and doubles
    return StageEstimate("prepare", int(disk), LIGHT_PROCESS_BYTES + seen, 0, 0.0)


def _sources(
    models: Sequence[ModelSize], *, written: Sequence[ModelSize], unpacked: Sequence[ModelSize], pretrain_tokens: int
) -> StageEstimate:
    trained = max((training_state_bytes(m.num_parameters, recipe="float32") for m in models), default=0)
    flops = sum(training_flops(m, tokens=pretrain_tokens, context=0, checkpointing=False) for m in models)
    disk = sum(weights_bytes(m) for m in written)
    opened = _OPENING_SECONDS * len(models) + sum(_UNPACKING_SECONDS * m.num_parameters for m in unpacked)
    most = max((unpacking_bytes(model) for model in unpacked), default=0)
    return StageEstimate("sources", disk, PROCESS_BYTES + most, trained if pretrain_tokens else 0, flops, fixed_seconds=opened)


def _teach(
    sources: Sequence[ModelSize], judges: Sequence[ModelSize], corpus: CorpusSize, *, cfg: TeachParams, on_cpu: bool
) -> StageEstimate:
    n, truths, k, samples = corpus.num_train, corpus.num_truths, cfg.signals.top_k, cfg.responses.num_samples
    asked = n + min(cfg.rewards.validation_prompts, corpus.num_valid)  # the latter to judge the scorers
    prompt, truth = corpus.prompt_tokens, corpus.response_tokens
    answer = corpus.answer_tokens(cfg.responses.max_new_tokens)
    texts = asked * samples * (answer * corpus.bytes_per_token + 2 * _ROW_BYTES)  # the answer, its score
    disk, flops = len(sources) * texts, 0.0
    for model in sources:
        disk += store_bytes(model.vocab_size, top_k=k, num_samples=truths, num_tokens=truths * truth)
        # Ground truth once, each answer twice: once as it is generated, once when it is scored.
        flops += forward_flops(model, tokens=(asked - n + truths) * (prompt + truth), context=prompt + truth)
        flops += 2 * samples * forward_flops(model, tokens=asked * (prompt + answer), context=prompt + answer)
    if sources:  # one winner a prompt has its distribution stored
        winner = max(sources, key=lambda m: signal_bytes_per_token(m.vocab_size, top_k=k))
        disk += store_bytes(winner.vocab_size, top_k=k, num_samples=n, num_tokens=n * answer)
        flops += max(forward_flops(m, tokens=n * (prompt + answer), context=prompt + answer) for m in sources)
    for judge in judges:
        tokens = asked * samples * len(sources) * (prompt + answer)
        flops += forward_flops(judge, tokens=tokens, context=prompt + answer)
    generated, scored = (cfg.responses.batch_size, cfg.responses.max_new_tokens), cfg.signals.batch_tokens
    device = [_inference_bytes(m, corpus, generated=generated, scored=scored, on_cpu=on_cpu) for m in sources]
    device += [weights_bytes(judge) for judge in judges]
    shard = cfg.shard_size * truth * max((signal_bytes_per_token(m.vocab_size, top_k=k) for m in sources), default=0)
    host = PROCESS_BYTES + shard + max((weights_bytes(m) for m in (*sources, *judges)), default=0)
    calls = sum(
        generation_calls(
            m, texts=asked * samples, batch=cfg.responses.batch_size, tokens=answer, limit=cfg.responses.max_new_tokens
        )
        for m in sources
    )
    judging = judging_cost(cfg.rewards.scorers, corpus, answers=asked * samples * len(sources), answer=answer)
    return StageEstimate("teach", int(disk), host, max(device, default=0), flops, calls, judging=judging)


def _inference_bytes(model: ModelSize, corpus: CorpusSize, *, generated: tuple[int, int], scored: int, on_cpu: bool) -> int:
    """Weights, and the larger of a batch being generated and one being scored.

    Generating holds the states of one layer while it reads the longest prompts, and all keys and values; scoring the states of
    one layer and the float32 logits of a chunk.

    Args:
        model: Its size.
        corpus: How long prompts are.
        generated: Answers of a batch, and the tokens each may have.
        scored: Tokens of a scored batch, padding included.
        on_cpu: Whether the memory is given out in pieces.
    """
    one_layer = replace(model, num_layers=1)
    answers, limit = generated
    prompt = corpus.longest_prompt or corpus.prompt_tokens
    longest = corpus.longest_row or corpus.prompt_tokens + corpus.response_tokens
    read = activation_bytes(one_layer, tokens=answers * prompt, dtype=model.dtype, checkpointing=False, length=prompt)
    generating = read + kv_cache_bytes(model, tokens=answers * (prompt + limit))
    states = activation_bytes(one_layer, tokens=scored, dtype=model.dtype, checkpointing=False, length=longest)
    scoring = states + loss_chunk_bytes(model, chunk=_SCORING_CHUNK) // 2
    return weights_bytes(model) + int(max(generating, scoring) * (SCATTERED if on_cpu else 1))


def _evaluate(
    models: Sequence[ModelSize],
    corpus: CorpusSize,
    *,
    judges: Sequence[ModelSize],
    scorers: Sequence[ScorerSpec],
    cfg: EvaluationParams,
    num_sources: int,
    on_cpu: bool,
) -> StageEstimate:
    """Every model on the held-out split, its answers read by every judge; the sources, which come first, on validation, too."""
    held_out, valid = (n if cfg.limit is None else min(cfg.limit, n) for n in (corpus.num_test, corpus.num_valid))
    prompt, truth = corpus.prompt_tokens, corpus.response_tokens
    answer = corpus.answer_tokens(cfg.max_new_tokens) if cfg.answers else 0
    rows = [held_out + valid if i < num_sources else held_out for i in range(len(models))]
    flops, calls = 0.0, 0.0
    for model, n in zip(models, rows, strict=True):
        flops += forward_flops(model, tokens=n * (prompt + truth), context=prompt + truth)
        if cfg.answers:
            flops += forward_flops(model, tokens=n * (prompt + answer), context=prompt + answer)
            calls += generation_calls(model, texts=n, batch=cfg.batch_size, tokens=answer, limit=cfg.max_new_tokens)
            flops += sum(forward_flops(j, tokens=n * (prompt + answer), context=prompt + answer) for j in judges)
    generated = (cfg.batch_size if cfg.answers else 0, cfg.max_new_tokens)
    device = max(_inference_bytes(m, corpus, generated=generated, scored=cfg.batch_tokens, on_cpu=on_cpu) for m in models)
    judging = max((weights_bytes(judge) for judge in judges), default=0) if cfg.answers else 0
    disk = sum(rows) * (answer * corpus.bytes_per_token + _SCORED_BYTES)
    host = PROCESS_BYTES + max(judging, *(weights_bytes(m) for m in models))
    asked = judging_cost(scorers, corpus, answers=sum(rows) if cfg.answers else 0, answer=answer)
    return StageEstimate("evaluate_fusion", int(disk), host, max(device, judging), flops, calls, judging=asked)
