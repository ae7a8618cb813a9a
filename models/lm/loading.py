"""Loading of source models: device choice, tokenizer and weights, and refusal of checkpoints with missing weights."""

import logging
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from models.errors import ParamsError, Problem, SourceError, reason
from models.lm.weights import refuse_adapter
from models.schema import ResolvedSource
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer

Dtype = Literal["float32", "bfloat16", "float16"]
_DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """A source ready for inference: its record, its tokenizer as a codec, its model in evaluation mode on a device."""

    source: ResolvedSource
    codec: TokenCodec
    model: PreTrainedModel

    @property
    def device(self) -> torch.device:
        """Device that inputs must be on."""
        return self.model.device

    @property
    def vocab_rows(self) -> int:
        """Size of the vocabulary that probabilities range over: ids that both the tokenizer and the head have."""
        return min(self.codec.vocab_size, self.source.head_size)

    @property
    def pad_id(self) -> int:
        """Padding id: never attended to, but it must have an embedding row."""
        return self.codec.pad_id if self.codec.pad_id < self.vocab_rows else self.codec.eos_id


def pick_device(device: str) -> str:
    """Resolve `runtime.device`: `auto` is CUDA, then MPS, then CPU; else the device must exist here.

    Raises:
        ParamsError: It is not a torch device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError) as err:
        rule = "must be `auto` or a torch device of this machine"
        hint = f"torch says: {reason(err)} Use `auto` or `cpu`."
        raise ParamsError("Invalid parameters", [Problem("`runtime.device`", rule, repr(device), hint)]) from err
    return device


def pick_devices(device: str) -> list[str]:
    """Resolve `runtime.device` to all devices it stands for: `auto` and `cuda` are every CUDA device, any other is one.

    Raises:
        ParamsError: As `pick_device`.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available() and torch.cuda.device_count() > 1:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [pick_device(device)]


def load_codec(source: ResolvedSource) -> TokenCodec:
    """Load a source's tokenizer alone.

    Raises:
        SourceError: It cannot be loaded, or has changed since the source was resolved.
    """
    tokenizer = load_tokenizer(
        source.location, revision=source.revision, trust_remote_code=source.trust_remote_code, source=source.name
    )
    codec = TokenCodec(
        tokenizer,
        source=source.name,
        chat_template=source.chat_template,
        stop_ids=source.end_ids,
        date=date.fromisoformat(source.template_date),
    )
    if codec.digest != source.tokenizer_digest:
        raise SourceError(
            f"The tokenizer of source `{source.name}` in {source.location} must have the digest {source.tokenizer_digest[:12]}…, "
            f"but has {codec.digest[:12]}…: it changed after the source was resolved. Run the `sources` stage again."
        )
    return codec


def load_model(source: ResolvedSource, *, device: str, dtype: Dtype | torch.dtype | None = None) -> PreTrainedModel:
    """Load a source's causal language model in evaluation mode.

    Args:
        source: What to load.
        device: A torch device, see `pick_device`.
        dtype: Weights' dtype; None is the source's own.

    Raises:
        SourceError: Files are missing, truncated or of another shape, or the checkpoint lacks weights of the model.
    """
    return _load(AutoModelForCausalLM, source, device=device, dtype=dtype)


def load_reward_classifier(source: ResolvedSource, *, device: str) -> PreTrainedModel:
    """Load a reward model (sequence classifier) in evaluation mode.

    Raises:
        SourceError: As `load_model`: a plain language model, whose score head would be random, is refused.
    """
    return _load(AutoModelForSequenceClassification, source, device=device, dtype=None)


def load_source(source: ResolvedSource, *, device: str) -> LoadedSource:
    """Load tokenizer and model of a source.

    Raises:
        SourceError: As `load_codec` and `load_model`.
    """
    return LoadedSource(source, load_codec(source), load_model(source, device=device))


def _load(auto: Any, source: ResolvedSource, *, device: str, dtype: Dtype | torch.dtype | None) -> PreTrainedModel:
    refuse_adapter(source.location, revision=source.revision, where=f"The model of `{source.name}`")
    wanted = dtype if isinstance(dtype, torch.dtype) else _DTYPES[dtype or source.dtype]
    try:
        model, info = auto.from_pretrained(
            source.location,
            revision=source.revision,
            dtype=wanted,
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
        )
    except Exception as err:  # transformers passes on whatever its loaders raise
        raise SourceError(
            f"The model of `{source.name}` cannot be loaded from {source.location}: {reason(err)} "
            "Copy the model again, or run the stage that made it."
        ) from err
    _refuse_missing(info, source)
    loaded: PreTrainedModel = model.to(device).eval()
    _log.info("loaded %s: %s, %d parameters, %s on %s", source.name, source.architecture, source.num_parameters, wanted, device)
    return loaded


def _refuse_missing(info: dict[str, Any], source: ResolvedSource) -> None:
    """Transformers fills weights that the checkpoint lacks with random numbers and only warns."""
    missing = sorted(info["missing_keys"])
    if missing:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise SourceError(
            f"The checkpoint of `{source.name}` in {source.location} must hold every weight of {source.architecture}, but lacks "
            f"{len(missing)}: {shown}. It belongs to another kind of model; name the right one."
        )
