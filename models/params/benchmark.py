"""`benchmark`: standard benchmarks, scored by lm-evaluation-harness."""

from pydantic import Field, field_validator

from models.params.base import MAX_SEED, Name, Place, Section, repeated


class BenchmarkTask(Section):
    """One benchmark."""

    name: Name = Field(
        description="arc_challenge, arc_easy, gsm8k, hellaswag, mmlu, piqa, truthfulqa_mc1, truthfulqa_mc2 or winogrande; "
        "without `benchmark.data` any task or group of lm-evaluation-harness."
    )
    num_fewshot: int | None = Field(None, ge=0, description="Solved examples in the prompt; null = the task's own number.")
    limit: int | None = Field(None, ge=1, description="Documents of each task, the first ones; null = `benchmark.limit`.")


class BenchmarkParams(Section):
    """Standard benchmarks for every source, the untrained target and every method; needs the extra `bench`."""

    tasks: tuple[BenchmarkTask, ...] = Field((), description="Benchmarks to run; none by default.")
    data: Place = Field(
        "", description="Folder with a folder of JSON lines for each benchmark, read without a network; empty = from the hub."
    )
    limit: int | None = Field(None, ge=1, description="Documents of each task (mmlu: of each subject); null = all.")
    batch_size: int = Field(8, ge=1, description="Sequences scored together.")
    bootstrap_samples: int = Field(2000, ge=100, description="Resamples of the paired bootstrap.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the bootstrap.")

    @field_validator("tasks")
    @classmethod
    def _distinct(cls, tasks: tuple[BenchmarkTask, ...]) -> tuple[BenchmarkTask, ...]:
        if twice := repeated(task.name for task in tasks):
            raise ValueError(f"names must be distinct, but {', '.join(twice)} stands there twice")
        return tasks


class BenchmarkShard(Section):
    """What one cached step scores: one benchmark, with every choice that its figures depend on."""

    name: Name = Field(description="Benchmark.")
    num_fewshot: int | None = Field(description="As `BenchmarkTask.num_fewshot`.")
    limit: int | None = Field(description="As `BenchmarkParams.limit`.")
    batch_size: int = Field(description="As `BenchmarkParams.batch_size`.")
    data: Place = Field(description="Folder with the files of this benchmark; empty = from the hub.")
