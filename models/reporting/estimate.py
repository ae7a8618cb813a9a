"""What a run of the fusion pipeline will need, before it starts: disk, memory and computing of each stage.

Host memory is the main memory of the machine, device memory that of one accelerator; on a CPU both come from the same memory.
Peaks are per machine (host) and per process (device). The formulas stand in `models.reporting.footprint`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.fusion.schedule import Schedule, resolve_schedule
from models.params.evaluation import EvaluationParams
from models.params.fusion import FusionParams
from models.params.teach import TeachParams
from models.reporting.footprint import (
    ModelSize,
    activation_bytes,
    forward_flops,
    kv_cache_bytes,
    lora_parameters,
    loss_chunk_bytes,
    signal_bytes_per_token,
    store_bytes,
    training_flops,
    training_state_bytes,
    weights_bytes,
)

PROCESS_BYTES = 500_000_000
"""Resident memory of a Python process with torch and transformers imported (measured: 487 MB)."""
_ROW_BYTES = 150
"""JSON around a prompt, a response or a score: names, ids, quotes."""
_SCORING_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """The corpus in numbers; lengths are means.

    Attributes:
        num_train: Training prompts.
        num_test: Held-out prompts.
        prompt_bytes: UTF-8 bytes of a prompt.
        response_bytes: UTF-8 bytes of a ground-truth response.
        bytes_per_token: Of the tokenizers; about 4 for English with 32k entries, 1 to 3 for small vocabularies.
    """

    num_train: int
    num_test: int
    prompt_bytes: float
    response_bytes: float
    bytes_per_token: float = 4.0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt, rounded up."""
        return -int(-self.prompt_bytes // self.bytes_per_token)

    @property
    def response_tokens(self) -> int:
        """Tokens of a response, rounded up, with the end token."""
        return -int(-self.response_bytes // self.bytes_per_token) + 1

    def answer_tokens(self, max_new_tokens: int) -> int:
        """Tokens of a model's answer: as long as the ground truth, unless cut."""
        return min(self.response_tokens, max_new_tokens)


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What one stage needs.

    Attributes:
        stage: Its name.
        disk_bytes: Written and kept, resume state included.
        host_bytes: Peak of main memory.
        device_bytes: Peak of one process on its device.
        flops: Floating-point operations over all processes.
    """

    stage: str
    disk_bytes: int
    host_bytes: int
    device_bytes: int
    flops: float

    def hours(self, flops_per_second: float, *, processes: int = 1) -> float:
        """Return the hours at a sustained rate per process (40 % of the peak is good for training, 5 % for generation)."""
        return self.flops / (flops_per_second * processes) / 3600


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
    processes: int = 1,
    fsdp: bool = False,
) -> tuple[StageEstimate, ...]:
    """Estimate the stages prepare, sources, teach, fuse (all methods and targets) and evaluate_fusion.

    Args:
        sources: Sizes by name; holds `fusion.targets`.
        corpus: The corpus in numbers.
        teach: Answers, signals.
        fusion: Targets, batches, dtype, checkpoints.
        evaluation: Limits of the held-out scores.
        methods: Presets or `custom`.
        reward_models: Sizes of the reward models.
        pretrain_tokens: Tokens each source is trained on in `sources`; 0 = sources are taken as they are.
        processes: Processes of `fuse`.
        fsdp: Weights and optimiser are sharded over them.
    """
    schedules = [resolve_schedule(method, fusion) for method in methods]
    return (
        _prepare(corpus),
        _sources([*sources.values(), *reward_models], pretrain_tokens=pretrain_tokens),
        _teach(list(sources.values()), reward_models, corpus, cfg=teach),
        _fuse(
            [sources[name] for name in fusion.targets], corpus,
            cfg=fusion, teach=teach, schedules=schedules, processes=processes, fsdp=fsdp,
        ),
        _evaluate(
            [*sources.values(), *(sources[name] for name in fusion.targets for _ in methods)], corpus, cfg=evaluation
        ),
    )  # fmt: skip


def _prepare(corpus: CorpusSize) -> StageEstimate:
    rows = corpus.num_train + corpus.num_test
    disk = rows * (corpus.prompt_bytes + corpus.response_bytes + _ROW_BYTES)
    seen = 100 * rows  # digests of the prompts, kept to find leaks and doubles
    return StageEstimate("prepare", int(disk), PROCESS_BYTES + seen, 0, 0.0)


def _sources(models: Sequence[ModelSize], *, pretrain_tokens: int) -> StageEstimate:
    trained = max((training_state_bytes(m.num_parameters, recipe="float32") for m in models), default=0)
    flops = sum(training_flops(m, tokens=pretrain_tokens, context=0, checkpointing=False) for m in models)
    disk = sum(weights_bytes(m) for m in models)
    return StageEstimate("sources", disk, PROCESS_BYTES, trained if pretrain_tokens else 0, flops)


def _teach(sources: Sequence[ModelSize], judges: Sequence[ModelSize], corpus: CorpusSize, *, cfg: TeachParams) -> StageEstimate:
    n, k, samples = corpus.num_train, cfg.signals.top_k, cfg.responses.num_samples
    prompt, truth = corpus.prompt_tokens, corpus.response_tokens
    answer = corpus.answer_tokens(cfg.responses.max_new_tokens)
    texts = n * samples * (answer * corpus.bytes_per_token + 2 * _ROW_BYTES)  # the answer, its score
    disk, flops = len(sources) * texts, 0.0
    for model in sources:
        disk += store_bytes(model.vocab_size, top_k=k, num_samples=n, num_tokens=n * truth)
        # Ground truth once, each answer twice: once as it is generated, once when it is scored.
        flops += forward_flops(model, tokens=n * (prompt + truth), context=prompt + truth)
        flops += 2 * samples * forward_flops(model, tokens=n * (prompt + answer), context=prompt + answer)
    if sources:  # one winner a prompt has its distribution stored
        winner = max(sources, key=lambda m: signal_bytes_per_token(m.vocab_size, top_k=k))
        disk += store_bytes(winner.vocab_size, top_k=k, num_samples=n, num_tokens=n * answer)
        flops += max(forward_flops(m, tokens=n * (prompt + answer), context=prompt + answer) for m in sources)
    for judge in judges:
        tokens = n * samples * len(sources) * (prompt + answer)
        flops += forward_flops(judge, tokens=tokens, context=prompt + answer)
    generated = cfg.responses.batch_size * (prompt + cfg.responses.max_new_tokens)
    device = [_inference_bytes(m, generated=generated, scored=cfg.signals.batch_tokens) for m in sources]
    device += [weights_bytes(judge) for judge in judges]
    shard = cfg.shard_size * truth * max((signal_bytes_per_token(m.vocab_size, top_k=k) for m in sources), default=0)
    host = PROCESS_BYTES + shard + max((weights_bytes(m) for m in (*sources, *judges)), default=0)
    return StageEstimate("teach", int(disk), host, max(device, default=0), flops)


def _inference_bytes(model: ModelSize, *, generated: int, scored: int) -> int:
    """Weights, and the larger of a batch being generated and one being scored.

    Scoring holds the padded batch's states of one layer, and the float32 logits of a chunk.
    """
    one_layer = replace(model, num_layers=1)
    states = activation_bytes(one_layer, tokens=scored, dtype=model.dtype, checkpointing=False)
    scoring = states + loss_chunk_bytes(model, chunk=_SCORING_CHUNK) // 2
    return weights_bytes(model) + max(kv_cache_bytes(model, tokens=generated), scoring)


def _fuse(
    targets: Sequence[ModelSize],
    corpus: CorpusSize,
    *,
    cfg: FusionParams,
    teach: TeachParams,
    schedules: Sequence[Schedule],
    processes: int,
    fsdp: bool,
) -> StageEstimate:
    answer = corpus.answer_tokens(teach.responses.max_new_tokens)
    disk, flops = 0, 0.0
    for target in targets:
        for tokens in (corpus.response_tokens, answer):  # the two aligned stores
            rows = corpus.num_train * tokens
            disk += store_bytes(target.vocab_size, top_k=teach.signals.top_k, num_samples=corpus.num_train, num_tokens=rows)
        for schedule in schedules:
            disk += len(schedule) * weights_bytes(target, "float32")
            for tokens, passes in zip((corpus.response_tokens, answer), text_passes(schedule), strict=True):
                length = corpus.prompt_tokens + tokens
                trained = corpus.num_train * passes * length
                flops += training_flops(target, tokens=trained, context=length, checkpointing=cfg.gradient_checkpointing)
    largest = max(targets, key=lambda m: m.num_parameters)
    # Weights and both moments in float32, of the run in progress only.
    disk += cfg.checkpoints.keep * 12 * _trained_parameters(largest, cfg)
    host = processes * (PROCESS_BYTES + weights_bytes(largest, "float32"))
    device = max(fuse_device_bytes(m, cfg, processes=processes, fsdp=fsdp) for m in targets)
    return StageEstimate("fuse", disk, host, device, flops)


def text_passes(schedule: Schedule) -> tuple[float, float]:
    """Return over how many epochs a schedule trains on ground truths, and on winning responses.

    `profuser` with 2 epochs: (1, 2), as its second phase trains on both.
    """
    truths = sum(phase.epochs for phase in schedule if phase.w_train > 0)
    winners = sum(phase.epochs for phase in schedule if phase.w_infer > 0)
    return truths, winners


def _trained_parameters(model: ModelSize, cfg: FusionParams) -> int:
    return model.num_parameters if cfg.lora is None else lora_parameters(model, rank=cfg.lora.rank)


def fuse_device_bytes(target: ModelSize, cfg: FusionParams, *, processes: int = 1, fsdp: bool = False) -> int:
    """Return the peak of one training process: training state, activations of a micro-batch, a loss chunk.

    Under FSDP the state is divided by the processes, and one layer's weights are whole at a time.
    """
    autocast = cfg.dtype == "bfloat16"
    state = training_state_bytes(_trained_parameters(target, cfg), recipe="bfloat16_autocast" if autocast else "float32")
    if cfg.lora is not None:
        state += weights_bytes(target, "float32")
    if fsdp:
        state = state // processes + 4 * target.num_parameters // max(target.num_layers, 1)
    tokens = cfg.micro_batch_size * cfg.max_length
    dtype, checkpointing = cfg.dtype, cfg.gradient_checkpointing
    kept = activation_bytes(target, tokens=tokens, dtype=dtype, checkpointing=checkpointing)
    return state + kept + loss_chunk_bytes(target, chunk=cfg.loss_chunk)


def _evaluate(models: Sequence[ModelSize], corpus: CorpusSize, *, cfg: EvaluationParams) -> StageEstimate:
    n = corpus.num_test if cfg.limit is None else min(cfg.limit, corpus.num_test)
    prompt, truth = corpus.prompt_tokens, corpus.response_tokens
    answer = corpus.answer_tokens(cfg.max_new_tokens) if cfg.answers else 0
    flops = sum(forward_flops(m, tokens=n * (prompt + truth), context=prompt + truth) for m in models)
    if cfg.answers:
        flops += sum(forward_flops(m, tokens=n * (prompt + answer), context=prompt + answer) for m in models)
    generated = cfg.batch_size * (prompt + cfg.max_new_tokens) if cfg.answers else 0
    device = max(_inference_bytes(m, generated=generated, scored=cfg.batch_tokens) for m in models)
    disk = len(models) * n * (answer * corpus.bytes_per_token + _ROW_BYTES)
    return StageEstimate("evaluate_fusion", int(disk), PROCESS_BYTES + max(weights_bytes(m) for m in models), device, flops)
