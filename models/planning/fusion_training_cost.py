"""Cost model of the fusion's training: texts of a schedule, memory of one process, disk, computing."""

from collections.abc import Sequence

from models.fusion.schedule import Schedule, has_truth, has_winners
from models.params.fusion import Budget, FusionParams
from models.params.teach import TeachParams
from models.planning.footprint import (
    SCATTERED,
    CorpusSize,
    ModelSize,
    Recipe,
    activation_bytes,
    gathered_bytes,
    lora_parameters,
    loss_chunk_bytes,
    store_bytes,
    training_flops,
    training_state_bytes,
    weights_bytes,
)
from models.planning.stage_estimate import PROCESS_BYTES, StageEstimate


def estimate_fuse(
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
    """Estimate the stage `fuse`, all schedules and targets: aligned stores, training, checkpoints of the run in progress.

    Args:
        targets: Their sizes.
        corpus: The corpus in numbers.
        cfg: Batches, dtype, adapters, checkpoints.
        teach: Lengths of answers, K of the signals.
        schedules: One a method.
        processes: That train together.
        fsdp: Weights and optimiser are sharded over them.
        on_cpu: Trained on the processor, out of main memory.
    """
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
    return state + int(kept * (SCATTERED if on_cpu else 1)) + loss_chunk_bytes(target, chunk=cfg.loss_chunk)
