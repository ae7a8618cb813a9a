"""Execution choices. They never enter a cache key: changing them re-runs nothing."""

from typing import Literal

from pydantic import Field

from models.params.base import Name, Section


class Runtime(Section):
    """Where and how to execute; results do not depend on it beyond the stated tolerance across devices."""

    device: str = Field("auto", description="`auto` (CUDA, then MPS, then CPU) or a torch device such as `cpu`, `cuda:1`.")
    threads: int = Field(0, ge=0, description="torch threads a process; 0 = all cores. A resumed run keeps its first value.")
    workers: int = Field(1, ge=1, description="Tasks run at the same time where a stage has independent ones.")
    task_runner: Literal["thread", "process", "dask", "ray"] = Field(
        "thread", description="Prefect task runner for independent tasks; dask and ray need their extras."
    )
    keep_models_s: float = Field(
        20.0,
        ge=0,
        description="Seconds a source or judge stays in memory behind its last use, for the next shard to find; 0 = none.",
    )
    endpoints: dict[str, str] = Field(
        default_factory=dict,
        description="Source or judge name → base URL of an OpenAI-compatible server (backend `http`).",
    )
    concurrency: int = Field(8, ge=1, description="Requests in flight per endpoint.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds until one request to an endpoint is given up.")
    progress: bool = Field(True, description="Show progress bars on a terminal.")
    nproc: int = Field(1, ge=1, description="Processes for `fuse`; above 1 it is launched through torchrun.")
    fsdp: bool = Field(False, description="Shard target and optimiser over the processes (FSDP); needs accelerators.")


class Tracking(Section):
    """Where runs are recorded. Never part of a cache key."""

    uri: str = Field("", description="MLflow tracking URI; empty = MLFLOW_TRACKING_URI, then mlflow.db in the project root.")
    log_every: int = Field(5, ge=1, description="Optimiser steps between two recorded training metrics.")
    log_models: bool = Field(True, description="Log each fused model to MLflow (by path, safetensors).")


class SizeHint(Section):
    """The size of a model, for `plan` where its config is not at hand (a hub name before it is downloaded)."""

    name: Name = Field(
        description="Source or reward model; `encoder` (of the retriever) or `generator` (T5) of the dialogue half."
    )
    num_parameters: int = Field(gt=0, description="Parameters.")
    vocab_size: int = Field(gt=0, description="Rows of the output head.")
    hidden_size: int = Field(gt=0, description="Width.")
    num_layers: int = Field(gt=0, description="Layers.")


class CorpusHint(Section):
    """The size of the corpus, for `plan` before `prepare` has run; lengths are means."""

    num_train: int = Field(gt=0, description="Training prompts.")
    num_test: int = Field(gt=0, description="Held-out prompts.")
    prompt_bytes: float = Field(gt=0, description="UTF-8 bytes of a prompt.")
    response_bytes: float = Field(gt=0, description="UTF-8 bytes of a ground-truth response.")
    num_prompts_only: int = Field(0, ge=0, description="Training prompts without a ground truth.")


class DialogueHint(Section):
    """The size of a data set of dialogues, for `plan` before `prepare` has run; lengths are means before anything is cut."""

    kind: Literal["smd", "camrest", "multiwoz", "maker", "jsonl"] = Field(description="`dialogues.kind` it holds for.")
    num_train: int = Field(gt=0, description="System turns to train on.")
    num_valid: int = Field(gt=0, description="System turns to validate on.")
    num_test: int = Field(gt=0, description="Held-out system turns.")
    num_entities: int = Field(gt=0, description="Entities of the knowledge base (condensed: of all dialogues together).")
    context_tokens: float = Field(gt=0, description="Tokens of a context.")
    entity_tokens: float = Field(gt=0, description="Tokens of an entity with its attributes.")
    response_tokens: float = Field(gt=0, description="Tokens of a response.")


class Planning(Section):
    """Assumptions of `plan`; without effect on anything else."""

    sizes: tuple[SizeHint, ...] = Field((), description="Sizes of models that are not at hand.")
    corpus: CorpusHint | None = Field(None, description="Size of the corpus.")
    dialogues: tuple[DialogueHint, ...] = Field((), description="Sizes of data sets of dialogues.")
    flops_per_second: float = Field(
        4e10,
        gt=0,
        description="Sustained speed of one process, for the time estimates (two laptop cores: 4e10; an H100 in bf16: 3e14).",
    )
    seconds_per_layer: float = Field(
        1e-3,
        ge=0,
        description="Time to start one layer, whatever it computes: while generating, and in training of small models.",
    )
