"""`evaluation`: held-out scores and their intervals."""

from pydantic import Field

from models.params.base import MAX_SEED, Section


class EvaluationParams(Section):
    """Scores of every source, the untrained target and every method."""

    limit: int | None = Field(None, ge=1, description="Held-out examples used; null = all.")
    max_new_tokens: int = Field(64, ge=1, description="Longest answer, greedy.")
    batch_size: int = Field(64, ge=1, description="Prompts generated together.")
    batch_tokens: int = Field(8192, ge=64, description="Padded tokens of one scoring pass.")
    answers: bool = Field(True, description="Let models answer (accuracy, reward); false = bits per byte only.")
    bootstrap_samples: int = Field(2000, ge=100, description="Resamples of the paired bootstrap.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the bootstrap.")
