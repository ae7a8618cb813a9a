"""Estimates of the dialogue pipeline's disk, memory and computation per stage.

Counted are real tokens without padding: a long context in a batch makes it dearer. Memory is counted for the longest texts that
the params allow. Host memory, device memory and `StageEstimate` are those of `models.planning.stage_estimate`.
"""

from collections.abc import Mapping, Sequence

from models.params.dialogue import DialogueParams, Variant
from models.params.dialogue_evaluation import DialogueEvaluationParams, InContextParams
from models.params.dialogues import DialoguesParams
from models.params.retriever import RetrieverParams
from models.planning.causal_footprint import together_tokens
from models.planning.dialogue_footprint import DialogueModels, DialogueSize, embed_flops
from models.planning.dialogue_training_cost import JointCost, answer_calls, answer_flops, trained_parameters
from models.planning.footprint import (
    ModelSize,
    Recipe,
    activation_bytes,
    forward_flops,
    generation_calls,
    kv_cache_bytes,
    training_state_bytes,
    weights_bytes,
)
from models.planning.stage_estimate import LIGHT_PROCESS_BYTES, PROCESS_BYTES, StageEstimate

WARM_START, JOINT, EVALUATE, PREPARE = (
    "train_dialogue: warm start",
    "train_dialogue@{}",
    "evaluate_dialogue",
    "prepare: dialogues",
)
# JSON around a turn, its annotation included, and around an entity; measured on MultiWOZ and CamRest676.
_TURN_BYTES, _ENTITY_BYTES, _SESSION_BYTES = 240, 40, 80
_BYTES_PER_TOKEN = 4
# A Python object in memory, as a multiple of its JSON.
_IN_MEMORY = 4
# A row of the evaluation: ids and reference, an entry for each retrieved entity, its meta knowledge, and, of systems
# that answer, the answer and its statistics. A system's scores with their intervals.
_ROW_BYTES, _HIT_BYTES, _ANSWER_BYTES, _SCORE_BYTES = 330, 62, 240, 65_000
_META_BYTES: Mapping[str, int] = {"none": 0, "contrastive": 0, "prefix": 42, "prompt": 64}
_ADAM = 8
_CHECKPOINTS = 2
# Inverted lists: a row and a weight for each name, value and word of an entity, which has about as many as tokens.
_LIST_BYTES = 8
# Turns that a causal generator answers together; seconds to load and score a system, without its answers (measured: 1 to 1.5 s).
_PROMPTED_BATCH, _SYSTEM_SECONDS = 8, 1.2


def estimate_dialogue_stages(
    models: DialogueModels,
    size: DialogueSize,
    *,
    dialogues: DialoguesParams,
    retriever: RetrieverParams,
    dialogue: DialogueParams,
    evaluation: DialogueEvaluationParams,
    variants: Sequence[Variant],
) -> tuple[StageEstimate, ...]:
    """Estimate prepare (its dialogues), the warm start, the joint training of each variant, and evaluate_dialogue.

    The disk of a training is that of its result and of its resume state, which is deleted when the result is safe.

    Args:
        models: Sizes of the models.
        size: The dialogues in numbers.
        dialogues: Setting.
        retriever: Lengths, warm start.
        dialogue: K, lengths, joint training.
        evaluation: Limits, beams, further generators.
        variants: Kinds of meta knowledge.
    """
    host = PROCESS_BYTES + _IN_MEMORY * _data_bytes(size, dialogues)
    made = [_prepare(size, dialogues), _warm(models, size, retriever, host=host)]
    made += [_joint(models, size, dialogue, retriever, variant=variant, host=host) for variant in variants]
    return (*made, _evaluate(models, size, dialogue, retriever, cfg=evaluation, variants=variants, host=host))


def _data_bytes(size: DialogueSize, cfg: DialoguesParams) -> int:
    turn = _TURN_BYTES + _BYTES_PER_TOKEN * (size.context_tokens + size.response_tokens)
    turn += _SESSION_BYTES * (cfg.setting == "condensed")
    return int(size.num_turns * turn + size.num_entities * (_ENTITY_BYTES + _BYTES_PER_TOKEN * size.entity_tokens))


def _prepare(size: DialogueSize, cfg: DialoguesParams) -> StageEstimate:
    knowledge_base = size.num_entities * (_ENTITY_BYTES + _BYTES_PER_TOKEN * size.entity_tokens)
    return StageEstimate(PREPARE, _data_bytes(size, cfg), LIGHT_PROCESS_BYTES + _IN_MEMORY * int(knowledge_base), 0, 0.0)


def _warm(models: DialogueModels, size: DialogueSize, retriever: RetrieverParams, *, host: int) -> StageEstimate:
    """The warm start, which all variants share: contexts and positives with gradient, recall on the validation split."""
    cfg, encoder = retriever.warm_start, models.encoder
    entities = min(cfg.batch_size * (1 + cfg.hard_negatives) + cfg.negatives, size.num_entities)
    entities += cfg.batch_size * cfg.look_alikes
    step = embed_flops(encoder, texts=cfg.batch_size, tokens=size.query_tokens(retriever))
    step += embed_flops(encoder, texts=entities, tokens=size.entry_tokens(retriever))
    evaluations = 1 + -(-cfg.steps // cfg.every_evaluation)
    scored = embed_flops(encoder, texts=size.num_valid, tokens=size.query_tokens(retriever))
    scored += embed_flops(encoder, texts=size.num_entities, tokens=size.entry_tokens(retriever))
    weights = models.retriever_bytes
    tokens = cfg.batch_size * retriever.max_context_tokens + entities * retriever.max_entity_tokens
    recipe: Recipe = "bfloat16_autocast" if cfg.dtype == "bfloat16" else "float32"
    device = training_state_bytes(models.retriever_parameters, recipe=recipe)
    device += activation_bytes(encoder, tokens=tokens, dtype=cfg.dtype, checkpointing=False)
    # A checkpoint: present and best weights, Adam's moments.
    resume = 2 * weights + _ADAM * models.retriever_parameters
    flops, calls = 3 * cfg.steps * step + evaluations * scored, 6.0 * cfg.steps * encoder.num_layers
    return StageEstimate(WARM_START, weights + resume, host + weights, device, flops, calls, resume)


def _joint(
    models: DialogueModels, size: DialogueSize, cfg: DialogueParams, retriever: RetrieverParams, *, variant: Variant, host: int
) -> StageEstimate:
    """The joint training of one variant."""
    generator = weights_bytes(models.generator, "float32")
    both = models.retriever_bytes + generator
    chosen = both + models.retriever_bytes  # best generator with its retriever, best retriever
    state = _CHECKPOINTS * (both + _ADAM * (models.retriever_parameters + trained_parameters(cfg, models.generator)))
    # What was chosen when a checkpoint was written must stay as long as the checkpoint.
    resume = chosen + state
    cost = JointCost(models, size, cfg=cfg, retriever=retriever, variant=variant)
    host += both + index_bytes(models.encoder, size, retriever)
    device, flops, calls = cost.device_bytes(), cost.flops(), cost.layer_calls()
    return StageEstimate(JOINT.format(variant), chosen + resume, host, device, flops, calls, resume)


def index_bytes(encoder: ModelSize, size: DialogueSize, retriever: RetrieverParams, *, distractors: int = 0) -> int:
    """Return N·(4·D + 8), embeddings in float32 and their ids, and the inverted lists of hybrid scoring."""
    width = retriever.projection or encoder.hidden_size
    lists = round(_LIST_BYTES * size.entity_tokens) if retriever.scoring == "hybrid" else 0
    return (size.num_entities + distractors) * (4 * width + 8 + lists)


def _evaluate(
    models: DialogueModels,
    size: DialogueSize,
    dialogue: DialogueParams,
    retriever: RetrieverParams,
    *,
    cfg: DialogueEvaluationParams,
    variants: Sequence[Variant],
    host: int,
) -> StageEstimate:
    """Each variant retrieves and answers; both of its retrievers and the warm start have an index."""
    encoder, generator = models.encoder, models.generator
    turns = size.num_test if cfg.limit is None else min(cfg.limit, size.num_test)
    extra = _unseen(cfg)
    retrievers = 2 * len(variants) + 1 + len(extra)
    contexts = retrievers * turns
    entities = retrievers * size.num_entities + sum(extra)
    flops = embed_flops(encoder, texts=contexts, tokens=size.query_tokens(retriever))
    flops += embed_flops(encoder, texts=entities, tokens=size.entry_tokens(retriever))
    for variant in variants:
        reading = size.reading(dialogue, variant=variant, negative=False)
        flops += turns * cfg.num_beams * answer_flops(dialogue, generator, reading)
    device = [_answering_bytes(models, size, dialogue, cfg)]
    answers = dialogue.generator.max_response_tokens
    calls = len(variants) * answer_calls(
        dialogue, generator, texts=turns, batch=cfg.batch_size, tokens=size.response_tokens, limit=answers
    )
    by_cosine = len(variants) + 1 if retriever.scoring == "hybrid" else 0
    flops += embed_flops(encoder, texts=by_cosine * turns, tokens=size.query_tokens(retriever))
    systems = retrievers + len(variants) + 2 + by_cosine
    for spec in cfg.in_context:
        systems += len(spec.meta_knowledge)
        if spec.name in models.in_context:
            more, memory = _in_context(models.in_context[spec.name], spec, size, dialogue, turns=turns)
            flops += more
            calls += _in_context_calls(models.in_context[spec.name], spec, size, turns=turns)
            device.append(memory + models.retriever_bytes)
    shown = max(*cfg.recall_at, dialogue.num_retrieved)
    disk = systems * _SCORE_BYTES + (retrievers + 2 + by_cosine) * turns * _row_bytes(shown)
    disk += sum(turns * (_row_bytes(shown, meta=variant) + _ANSWER_BYTES) for variant in variants)
    for spec in cfg.in_context:
        rows = sum(_row_bytes(shown, meta=meta) + _ANSWER_BYTES for meta in spec.meta_knowledge)
        disk += rows * min(turns, spec.limit or turns)
    disk += retrievers * index_bytes(encoder, size, retriever)
    largest = max(weights_bytes(m) for m in (generator, *models.in_context.values()))
    host += largest + index_bytes(encoder, size, retriever)
    # Every system is loaded and scored by itself, with intervals by resampling.
    fixed = systems * _SYSTEM_SECONDS
    return StageEstimate(EVALUATE, disk, host, max(device), flops, calls, fixed_seconds=fixed)


def _row_bytes(hits: int, *, meta: str = "none") -> int:
    return _ROW_BYTES + hits * (_HIT_BYTES + _META_BYTES[meta])


def _in_context_calls(model: ModelSize, spec: InContextParams, size: DialogueSize, *, turns: int) -> float:
    asked = turns if spec.limit is None else min(spec.limit, turns)
    calls = generation_calls(model, texts=asked, batch=_PROMPTED_BATCH, tokens=size.response_tokens, limit=spec.max_new_tokens)
    return len(spec.meta_knowledge) * calls


def _unseen(cfg: DialogueEvaluationParams) -> list[int]:
    """Return the further entities of each system on renewed data."""
    unseen = cfg.unseen
    if unseen.variant is None:
        return []
    return ([0] if unseen.values else []) + ([unseen.distractors] * len(unseen.distractor_kinds) if unseen.distractors else [])


def _answering_bytes(models: DialogueModels, size: DialogueSize, dialogue: DialogueParams, cfg: DialogueEvaluationParams) -> int:
    """Return the weights, and a batch's encoder states with the decoder's keys and values of them, in float32."""
    generator = models.generator
    if dialogue.generator.kind == "causal":
        tokens = int(together_tokens(size.longest(dialogue))) * cfg.batch_size * cfg.num_beams
        return weights_bytes(generator, "float32") + kv_cache_bytes(generator, tokens=tokens) + models.retriever_bytes
    memory = size.longest(dialogue).memory * cfg.batch_size
    kept = 4 * memory * generator.hidden_size * (1 + 2 * generator.num_layers * cfg.num_beams)
    return int(kept) + weights_bytes(generator, "float32") + models.retriever_bytes


def _in_context(
    model: ModelSize, spec: InContextParams, size: DialogueSize, dialogue: DialogueParams, *, turns: int
) -> tuple[float, int]:
    """Return operations over all styles, and device memory: a prompt repeats context and entities for each demonstration."""
    shown = size.context_tokens + size.width(dialogue, negative=False) * size.entity_tokens
    prompt = min((1 + spec.demonstrations) * (shown + size.response_tokens), spec.max_prompt_tokens)
    answer = min(size.response_tokens + 1, spec.max_new_tokens)
    asked = turns if spec.limit is None else min(spec.limit, turns)
    tokens = len(spec.meta_knowledge) * asked * (prompt + answer)
    cache = kv_cache_bytes(model, tokens=spec.max_prompt_tokens + spec.max_new_tokens)
    return forward_flops(model, tokens=tokens, context=prompt + answer), weights_bytes(model) + cache
