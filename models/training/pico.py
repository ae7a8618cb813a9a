"""The embedded sources: small language models trained here, each on its own mix of the world's families."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)

from models.data.corpus import read_examples
from models.errors import ParamsError, Problem, SourceError
from models.metrics_sink import MetricsSink
from models.params.runtime import Runtime
from models.params.sources import PicoSpec, PicoTraining, SourcesParams, SourceSpec
from models.schema import Example
from models.tokenization.chat import render_prompt, resolve_template
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer
from models.training.causal_lm import TrainingRow, TrainingSummary, train_causal_lm
from models.training.pico_tokenizer import CONTEXT_LENGTH, train_tokenizer
