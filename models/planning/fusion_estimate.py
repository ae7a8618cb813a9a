"""Estimates of the fusion pipeline's disk, memory and computation per stage.

Host memory is the main memory of the machine, device memory that of one accelerator; on a CPU both come from the same memory.
Peaks are per machine (host) and per process (device). The formulas stand in `models.planning.footprint`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from models.fusion.schedule import Schedule, has_truth, has_winners, resolve_schedule
from models.params.evaluation import EvaluationParams
from models.params.fusion import Budget, FusionParams
from models.params.teach import ScorerSpec, TeachParams
from models.planning.footprint import (
    CorpusSize,
    JudgingCost,
    ModelSize,
    Recipe,
    activation_bytes,
    forward_flops,
    gathered_bytes,
    generation_calls,
    judging_cost,
    kv_cache_bytes,
    lora_parameters,
    loss_chunk_bytes,
    signal_bytes_per_token,
    store_bytes,
    training_flops,
    training_state_bytes,
    unpacking_bytes,
    weights_bytes,
)

# To find, check and record one source, or the model it was trained into (measured: 1 to 1.5 s).
_OPENING_SECONDS = 1.0
_UNPACKING_SECONDS = 2e-7  # a parameter of a GGUF file, on one core (measured: SmolLM2, Gemma-3-270M)
PROCESS_BYTES = 690_000_000
"""Resident memory of a stage before it computes: Python, torch, transformers, Prefect, MLflow (measured: 685 to 700 MB)."""
LIGHT_PROCESS_BYTES = 300_000_000
"""The same without torch, as `prepare` runs."""
START_SECONDS = 3.0
"""Start-up time of a stage: libraries, models, records (measured: 2 to 4 s)."""
_ROW_BYTES = 150
"""JSON around a prompt, a response or a score: names, ids, quotes."""
_SCORED_BYTES = 280
"""JSON of one system's scores of one held-out example, besides its answer (measured: 260 to 300)."""
_SCORING_CHUNK = 1024
# On a CPU the C library gives out tensors: what lies between them is lost until the step ends (measured next to an allocation
# page by page, which took a third longer: 1.2 to 1.4 GPT-NeoX, 1.4 to 1.5 Llama, 1.3 to 2.1 MPT).
_SCATTERED = 1.5


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """Resources of one stage.

    Attributes:
        stage: Its name.
        disk_bytes: Written and kept, resume state included.
        host_bytes: Peak of main memory.
        device_bytes: Peak of one process on its device.
        flops: Floating-point operations over all processes.
        resume_bytes: Part of `disk_bytes` that is resume state, deleted when the result is safe.
        layer_calls: Passes through one layer that wait for each other (steps × layers): with small models and while generating,
            starting them takes longer than what they compute.
        fixed_seconds: Time independent of the machine's speed, besides `START_SECONDS`.
        judging: What it asks of judges behind endpoints, where each answer is graded at the first reply.
    """

    stage: str
    disk_bytes: int
    host_bytes: int
    device_bytes: int
    flops: float
    layer_calls: float = 0.0
    resume_bytes: int = 0
    fixed_seconds: float = 0.0
    judging: JudgingCost | None = None

    def seconds(self, flops_per_second: float, *, seconds_per_layer: float = 0.0, processes: int = 1) -> float:
        """Return the seconds at a sustained rate per process (40 % of the peak is good for training)."""
        computed = self.flops / flops_per_second + self.layer_calls * seconds_per_layer
        return START_SECONDS + self.fixed_seconds + computed / processes


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
        _fuse(
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
    return weights_bytes(model) + int(max(generating, scoring) * (_SCATTERED if on_cpu else 1))


def _fuse(
    targets: Sequence[ModelSize],
    corpus: CorpusSize,
    *,
    cfg: FusionParams,
    teach: TeachParams,
    schedules: Sequence[Schedule],
    processes: int,
    fsdp: bool,
    on_cpu: bool,
) -> StageEstimate:
    answer = corpus.answer_tokens(teach.responses.max_new_tokens)
    disk, flops = 0, 0.0
    for target in targets:
        # The two aligned stores.
        for num, tokens in ((corpus.num_truths, corpus.response_tokens), (corpus.num_train, answer)):
            disk += store_bytes(target.vocab_size, top_k=teach.signals.top_k, num_samples=num, num_tokens=num * tokens)
        for schedule in schedules:
            disk += len(schedule) * weights_bytes(target, "float32")
            texts_of = trained_texts(schedule, corpus, budget=cfg.budget)
            for tokens, num_texts in zip((corpus.response_tokens, answer), texts_of, strict=True):
                length = corpus.prompt_tokens + tokens
                trained = num_texts * length
                flops += training_flops(target, tokens=trained, context=length, checkpointing=cfg.gradient_checkpointing)
    largest = max(targets, key=lambda m: m.num_parameters)
    # Weights and both moments in float32, of the run in progress only.
    resume = cfg.checkpoints.keep * 12 * _trained_parameters(largest, cfg)
    host = processes * (PROCESS_BYTES + weights_bytes(largest, "float32" if cfg.lora is None else cfg.lora.base_dtype))
    longest = corpus.longest_tokens(cfg.max_length)
    texts = 2 if any(has_truth(s, i) and has_winners(s, i) for s in schedules for i in range(len(s))) else 1
    device = max(
        fuse_device_bytes(m, cfg, processes=processes, fsdp=fsdp, length=longest, texts=texts, on_cpu=on_cpu) for m in targets
    )
    steps = [
        sum(-(-_pool(s, i, corpus, budget=cfg.budget) // cfg.batch_size) * phase.epochs for i, phase in enumerate(s))
        for s in schedules
    ]
    micro = -(-cfg.batch_size // (cfg.micro_batch_size * processes))
    calls = sum(3 * micro * m.num_layers * each for m in targets for each in steps)
    return StageEstimate("fuse", disk + resume, host, device, flops, calls * processes, resume)


def trained_texts(schedule: Schedule, corpus: CorpusSize, *, budget: Budget) -> tuple[float, float]:
    """Return over how many ground truths and winning responses a schedule goes, repetitions counted; every prompt has a winner.

    `profuser` with 2 epochs: (N, 2·N) for N prompts with a ground truth, as its second phase trains on both.
    """
    truths = winners = 0.0
    for index, phase in enumerate(schedule):
        texts = _pool(schedule, index, corpus, budget=budget) * phase.epochs
        both = has_truth(schedule, index) and has_winners(schedule, index)
        if has_truth(schedule, index):
            truths += corpus.num_truths * phase.epochs if both else texts
        if has_winners(schedule, index):
            winners += texts
    return truths, winners


def _pool(schedule: Schedule, index: int, corpus: CorpusSize, *, budget: Budget) -> int:
    """Return the prompts of a phase's epoch (see `fusion.budget`)."""
    return corpus.num_truths if budget == "ground_truth" and has_truth(schedule, index) else corpus.num_train


def _trained_parameters(model: ModelSize, cfg: FusionParams) -> int:
    return model.num_parameters if cfg.lora is None else lora_parameters(model, rank=cfg.lora.rank)


def fuse_device_bytes(
    target: ModelSize,
    cfg: FusionParams,
    *,
    processes: int = 1,
    fsdp: bool = False,
    length: int | None = None,
    texts: int = 1,
    on_cpu: bool = False,
) -> int:
    """Return the peak of one training process: training state, activations of a micro-batch, a loss chunk.

    Under FSDP the state is divided by the processes, without a bfloat16 copy; what is gathered comes on top (`gathered_bytes`).

    Args:
        target: The model.
        cfg: Batches, dtype, adapters.
        processes: How many share the state under FSDP.
        fsdp: Whether they do.
        length: Tokens of the longest row; None = `cfg.max_length`.
        texts: Rows of a prompt in one step: 2 where a phase trains on both modes.
        on_cpu: Trained on the processor, whose memory is given out in pieces.
    """
    autocast = cfg.dtype == "bfloat16"
    recipe: Recipe = "bfloat16_autocast" if autocast and not fsdp else "float32"
    state = training_state_bytes(_trained_parameters(target, cfg), recipe=recipe)
    if cfg.lora is not None:
        state += weights_bytes(target, cfg.lora.base_dtype)
    if fsdp:
        state = state // processes + gathered_bytes(target, dtype=cfg.dtype, trained=cfg.lora is None)
    row = cfg.max_length if length is None else length
    tokens, checkpointing = cfg.micro_batch_size * texts * row, cfg.gradient_checkpointing
    kept = activation_bytes(target, tokens=tokens, dtype=cfg.dtype, checkpointing=checkpointing, length=row)
    return state + int(kept * (_SCATTERED if on_cpu else 1)) + loss_chunk_bytes(target, chunk=cfg.loss_chunk)


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
