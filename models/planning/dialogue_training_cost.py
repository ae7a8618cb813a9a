"""Cost model of joint training: forward passes of one turn, refreshes, validation, memory of a micro-batch."""

from dataclasses import dataclass, field, replace

from models.dialogue.train.schedule import DialogueSchedule, StepMode
from models.params.dialogue import DialogueParams, Variant
from models.params.retriever import RetrieverParams
from models.planning.causal_footprint import (
    bare_flops,
    branches_flops,
    branches_tokens,
    kept_bytes,
    together_flops,
    together_tokens,
)
from models.planning.dialogue_footprint import (
    DialogueModels,
    DialogueSize,
    Reading,
    embed_flops,
    fused_flops,
    project_flops,
    read_flops,
    reading_bytes,
    single_flops,
    write_flops,
    writing_bytes,
)
from models.planning.footprint import (
    ModelSize,
    activation_bytes,
    generation_calls,
    lora_parameters,
    training_state_bytes,
    weights_bytes,
)

# Logits made at a time and their gradient (`models.dialogue.generators.trainable`).
_LOGITS_BYTES = 2 * 4 * (1 << 24)
# Turns answered together in an evaluation during training.
_ANSWERED_TOGETHER = 16


@dataclass(frozen=True)
class JointCost:
    """One joint training in numbers; W = K, or K + 1 with the negative entity.

    Attributes:
        models: Sizes of the models.
        size: The dialogues in numbers.
        cfg: K, lengths, joint training.
        retriever: Lengths of the retriever.
        variant: Kind of meta knowledge.
    """

    models: DialogueModels
    size: DialogueSize
    cfg: DialogueParams = field(kw_only=True)
    retriever: RetrieverParams = field(kw_only=True)
    variant: Variant = field(kw_only=True)

    def flops(self) -> float:
        """Return all operations: steps, refreshes of the index, and evaluations on the validation split."""
        schedule = DialogueSchedule(self.cfg.joint)
        total = num_refreshes(schedule) * self._entity_flops(self.size.num_entities)
        total += num_evaluations(schedule) * self._validation_flops()
        for mode, steps in _steps_by_mode(schedule).items():
            total += steps * (self._retriever_flops(mode) + self.cfg.joint.batch_size * self.turn_flops(mode))
        return total

    def layer_calls(self) -> float:
        """Return the passes through layers that wait for each other: three for what is trained, and answers of evaluations."""
        schedule, joint = DialogueSchedule(self.cfg.joint), self.cfg.joint
        encoder, generator = self.models.encoder.num_layers, self.models.generator.num_layers
        total = 0.0
        for mode, steps in _steps_by_mode(schedule).items():
            passes = 1 + mode.joint + (not self._causal)
            layers = 3 * generator * passes + encoder * (6 if mode.retriever else 1)
            total += steps * -(-joint.batch_size // joint.micro_batch_size) * layers
        limit, length = joint.validation_limit, self.cfg.generator.max_response_tokens
        texts = self.size.num_valid if limit is None else min(limit, self.size.num_valid)
        answers = answer_calls(
            self.cfg, self.models.generator, texts=texts, batch=_ANSWERED_TOGETHER, tokens=self.size.response_tokens, limit=length
        )
        return total + num_evaluations(schedule) * answers

    def turn_flops(self, mode: StepMode) -> float:
        """Return the generator's operations on one turn of a training step.

        The likelihood given all W entities is always trained. A joint step adds W decodes of single entities over the same
        encoder states (with `concat`: over passages of their own); trained for `mml` and the contrastive loss, else only read.
        The contrastive loss adds a pass without entities, a target by leaving one out W decodes, one by attention one more.
        What is trained costs three forward passes, with checkpointing four.
        """
        generator, reading = self.models.generator, self._reading(negative=True)
        trained, read = answer_flops(self.cfg, generator, reading), 0.0
        has_objective = mode.joint and self.cfg.joint.beta > 0 and (mode.retriever or self._objective_trains)
        wants_ctr = mode.joint and self._contrasts
        if has_objective or wants_ctr:
            alone = self._singles(reading, width=self._width)
            trained, read = (trained + alone, 0.0) if wants_ctr or self._objective_trains else (trained, alone)
        if has_objective:
            read += self._further_reads(reading)
        if wants_ctr:
            bare = replace(reading, passages=1, passage_tokens=reading.context_tokens)
            trained += bare_flops(generator, reading) if self._causal else fused_flops(generator, bare)
        return trained * (4 if self._checkpointing else 3) + read

    def device_bytes(self) -> int:
        """Return the peak of the process: training state of both models, activations of the longest micro-batch, logits."""
        joint, encoder = self.cfg.joint, self.models.encoder
        trained, kept = trained_parameters(self.cfg, self.models.generator), self.models.retriever_bytes
        if DialogueSchedule(joint).trains_retriever:
            trained += self.models.retriever_parameters
            tokens = self.retriever.max_context_tokens + self._width * self.retriever.max_entity_tokens
            kept = activation_bytes(encoder, tokens=joint.micro_batch_size * tokens, dtype=joint.dtype, checkpointing=False)
        if (lora := self.cfg.generator.lora) is not None:  # the frozen weights
            kept += weights_bytes(self.models.generator, lora.base_dtype)
        state = training_state_bytes(trained, recipe="bfloat16_autocast" if joint.dtype == "bfloat16" else "float32")
        return state + kept + joint.micro_batch_size * self._turn_bytes() + _LOGITS_BYTES

    @property
    def _width(self) -> int:
        return self.size.width(self.cfg, negative=True)

    @property
    def _causal(self) -> bool:
        return self.cfg.generator.kind == "causal"

    @property
    def _checkpointing(self) -> bool:
        return self.cfg.generator.gradient_checkpointing

    @property
    def _contrasts(self) -> bool:
        return self.variant == "contrastive" and self.cfg.joint.gamma > 0

    @property
    def _objective_trains(self) -> bool:
        """Whether the objective has a gradient for the generator."""
        return self.cfg.joint.objective == "mml" and not self.cfg.joint.stop_generator

    def _reading(self, *, negative: bool) -> Reading:
        return self.size.reading(self.cfg, variant=self.variant, negative=negative)

    def _singles(self, reading: Reading, *, width: int) -> float:
        """Return the likelihoods of single entities, with what they cannot share with the fused one."""
        generator = self.models.generator
        if self._causal:
            return branches_flops(generator, replace(reading, passages=width))
        if self.cfg.generator.fusion == "concat":
            entity = (reading.passage_tokens - reading.context_tokens) / width
            apart = replace(reading, passages=width, passage_tokens=reading.context_tokens + entity)
            passages = read_flops(generator, passages=width, tokens=apart.passage_tokens)
            return passages + project_flops(generator, tokens=apart.memory) + single_flops(generator, apart)
        again = project_flops(generator, tokens=reading.memory) if self._checkpointing else 0.0
        return again + single_flops(generator, reading)

    def _further_reads(self, reading: Reading) -> float:
        """Return what a target reads on top of the likelihoods: W − 1 entities W times, or the decoder's attention."""
        from models.dialogue.train.objectives import TARGETS

        target = TARGETS.get(self.cfg.joint.objective)
        if target is None or target.utility == "likelihood":
            return 0.0
        one_out = target.utility == "leave_one_out"
        decodes = self._width if one_out else 1
        memory = reading.memory * ((self._width - 1) / self._width if one_out else 1)
        return write_flops(self.models.generator, responses=decodes, tokens=reading.response_tokens, memory=memory)

    def _entity_flops(self, texts: float) -> float:
        return embed_flops(self.models.encoder, texts=texts, tokens=self.size.entry_tokens(self.retriever))

    def _context_flops(self, texts: float) -> float:
        return embed_flops(self.models.encoder, texts=texts, tokens=self.size.query_tokens(self.retriever))

    def _retriever_flops(self, mode: StepMode) -> float:
        """Return one step's operations: all contexts, and if it trains, the distinct entities of every micro-batch."""
        joint = self.cfg.joint
        contexts = self._context_flops(joint.batch_size)
        if not mode.retriever:
            return contexts
        distinct = min(joint.micro_batch_size * self._width, self.size.num_entities)
        return 3 * (contexts + self._entity_flops(distinct * joint.batch_size / joint.micro_batch_size))

    def _validation_flops(self) -> float:
        """Return one evaluation: all validation contexts embedded; the answered turns generated, their references scored."""
        limit, num_valid = self.cfg.joint.validation_limit, self.size.num_valid
        answered = num_valid if limit is None else min(limit, num_valid)
        reading = self._reading(negative=False)
        alone = self._singles(reading, width=self.size.width(self.cfg, negative=False))
        return self._context_flops(num_valid) + answered * (2 * answer_flops(self.cfg, self.models.generator, reading) + alone)

    def _turn_bytes(self) -> int:
        """Return what backward keeps of a turn's encoder pass, the decode over all entities, and that over single ones."""
        longest, generator = self.size.longest(self.cfg), self.models.generator
        if self._causal:
            rows = [together_tokens(longest)]
            if self._contrasts or (self._objective_trains and self.cfg.joint.beta > 0):
                rows.append(branches_tokens(longest))
            dtype, again = self.cfg.joint.dtype, self._checkpointing
            return sum(kept_bytes(generator, tokens, dtype=dtype, checkpointing=again) for tokens in rows)
        tokens, memory, again = longest.response_tokens, longest.memory, self._checkpointing
        kept = reading_bytes(generator, longest, checkpointing=again)
        kept += writing_bytes(generator, responses=1, tokens=tokens, memory=memory, read=memory, checkpointing=again)
        if self._contrasts or (self._objective_trains and self.cfg.joint.beta > 0):
            of_one = memory / longest.passages
            read = self._width * of_one
            kept += writing_bytes(
                generator, responses=self._width, tokens=tokens, memory=of_one, read=read, checkpointing=again
            )  # fmt: skip
        return kept


def answer_flops(cfg: DialogueParams, generator: ModelSize, reading: Reading) -> float:
    """Return one likelihood or greedy response given all entities, by the kind of generator."""
    return together_flops(generator, reading) if cfg.generator.kind == "causal" else fused_flops(generator, reading)


def answer_calls(cfg: DialogueParams, generator: ModelSize, *, texts: int, batch: int, tokens: float, limit: int) -> float:
    """Return the layers' share of decoding: a T5's decoder layer attends twice."""
    attentions = 1 if cfg.generator.kind == "causal" else 2
    return attentions * generation_calls(generator, texts=texts, batch=batch, tokens=tokens, limit=limit)


def trained_parameters(cfg: DialogueParams, generator: ModelSize) -> int:
    """Return the generator's parameters that have a gradient: all, or its adapters."""
    lora = cfg.generator.lora
    return generator.num_parameters if lora is None else lora_parameters(generator, rank=lora.rank)


def num_evaluations(schedule: DialogueSchedule) -> int:
    """Return the evaluations on the validation split, the one before the first step included."""
    return 1 + sum(schedule.evaluation_due(done) for done in range(1, schedule.total_steps + 1))


def num_refreshes(schedule: DialogueSchedule) -> int:
    """Return how often the knowledge base is embedded: at the start, and where one is due and the encoder has changed."""
    count, changed = 1, False
    for done in range(1, schedule.total_steps + 1):
        changed = changed or schedule.mode_at(done - 1).retriever
        due = schedule.evaluation_due(done) or schedule.checkpoint_due(done) or schedule.refresh_due(done)
        if due and changed:
            count, changed = count + 1, False
    return count


def _steps_by_mode(schedule: DialogueSchedule) -> dict[StepMode, int]:
    counts: dict[StepMode, int] = {}
    for step in range(schedule.total_steps):
        mode = schedule.mode_at(step)
        counts[mode] = counts.get(mode, 0) + 1
    return counts
