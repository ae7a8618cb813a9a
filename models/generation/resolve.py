"""From a name in the parameters to a concrete model: place, digest, sizes, chat template. No weights are loaded."""

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from models.adapters import refuse_adapter
from models.errors import SourceError
from models.generation.reasons import reason
from models.generation.weights import folder_digest
from models.params.sources import RewardModelSpec, SourceSpec
from models.schema import ResolvedSource
from models.tokenization.chat import reads_date, resolve_template
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer, tokenizer_digest
from models.tokenization.turn_end import TurnEnd

_CONTEXT_FIELDS = ("max_position_embeddings", "max_seq_len", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
_UNLIMITED = 1_000_000_000  # tokenizers without a limit say 1e30
Kind = Literal["causal", "reward"]


def resolve_source(spec: SourceSpec, *, root: Path) -> ResolvedSource:
    """Make a source of `sources.models` concrete without loading its weights.

    Args:
        spec: The source; `model` is a folder (relative to `root`, or absolute) or a hub name with a revision.
        root: The project root.

    Returns:
        The source with an absolute folder, or a hub name with the commit of its revision. `digest` is over config and weights.

    Raises:
        SourceError: It cannot be found, is no causal language model, or has no usable tokenizer, template or context length.
    """
    where = f"`sources.models[{spec.name}]`"
    return _resolve(spec, kind="causal", where=where, root=root, template=spec.chat_template, context=spec.context_length)


def resolve_reward_model(spec: RewardModelSpec, *, root: Path) -> ResolvedSource:
    """Make a reward model of `sources.reward_models` concrete; without a chat template of its own it reads preset `plain`.

    Raises:
        SourceError: As `resolve_source`; or it does not give exactly one score.
    """
    where = f"`sources.reward_models[{spec.name}]`"
    return _resolve(spec, kind="reward", where=where, root=root, template=None, context=None)


def _resolve(
    spec: SourceSpec | RewardModelSpec, *, kind: Kind, where: str, root: Path, template: str | None, context: int | None
) -> ResolvedSource:
    trust = isinstance(spec, SourceSpec) and spec.trust_remote_code
    folder = _find_folder(spec.model, spec.revision, where=where, root=root)
    location = str(folder) if folder else spec.model
    revision = None if folder else spec.revision
    refuse_adapter(location, revision=revision, where=where)
    # A hub download of a large model happens only when it is loaded; the commit already says which weights they will be.
    digest = folder_digest(folder, where=where) if folder else ""
    config = _load_config(location, revision, trust=trust, where=where)
    if folder is None:
        revision = getattr(config, "_commit_hash", None) or revision
        digest = f"hub:{spec.model}@{revision}"
    tokenizer = load_tokenizer(location, revision=revision, trust_remote_code=trust, source=spec.name)
    preset = template or ("plain" if kind == "reward" and not tokenizer.chat_template else None)
    written = resolve_template(preset, tokenizer, source=spec.name)
    end = _turn_end(spec, tokenizer, written, _stop_ids(config, location, revision)) if kind == "causal" else None
    skeleton = _skeleton(config, kind=kind, trust=trust, where=where)
    return ResolvedSource(
        name=spec.name,
        location=location,
        revision=revision,
        digest=digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
        chat_template=written,
        context_length=_context_length(config, tokenizer.model_max_length, context, kind=kind, where=where),
        dtype=spec.dtype,
        architecture=(config.architectures or [type(skeleton).__name__])[0],
        num_parameters=sum(p.numel() for p in skeleton.parameters()),
        head_size=_head_size(skeleton, kind=kind, where=where),
        vocab_size=len(tokenizer),
        trust_remote_code=trust,
        end_ids=() if end is None else end.stops,
        template_date=spec.template_date.isoformat(),
        notes=_notes(spec, written, end),
    )


def _turn_end(spec: SourceSpec | RewardModelSpec, tokenizer: PreTrainedTokenizerBase, template: str, stops: list[int]) -> TurnEnd:
    codec = TokenCodec(tokenizer, source=spec.name, chat_template=template, stop_ids=stops, date=spec.template_date)
    return codec.end


def _stop_ids(config: PreTrainedConfig, location: str, revision: str | None) -> list[int]:
    """Return where the checkpoint's `generate` would stop: its generation config says so, or else its config."""
    try:
        found = GenerationConfig.from_pretrained(location, revision=revision or "main").eos_token_id
    except (OSError, ValueError):
        found = None
    if found is None:
        found = getattr(config.get_text_config(), "eos_token_id", None)
    ids = found if isinstance(found, list) else [found]
    return [i for i in ids if isinstance(i, int)]


def _notes(spec: SourceSpec | RewardModelSpec, template: str, end: TurnEnd | None) -> tuple[str, ...]:
    notes = [] if end is None or not end.notice else [end.notice]
    if reads_date(template):
        notes.append(
            f"The chat template of `{spec.name}` reads the date: it is told {spec.template_date} (`template_date`) in every run."
        )
    return tuple(notes)


def _find_folder(model: str, revision: str | None, *, where: str, root: Path) -> Path | None:
    """Return the absolute folder, or None for a hub name."""
    if model == "embedded":
        raise SourceError(f"{where} is `embedded`: it has no files before it is trained. Run the `sources` stage first.")
    path = (root / Path(model).expanduser()).absolute()
    if path.is_dir():
        return path
    looks_like_path = model.startswith((".", "/", "~")) or model.count("/") != 1 or (root / model.partition("/")[0]).is_dir()
    if looks_like_path and revision is None:
        raise SourceError(f"{where} names the folder {path}, but it does not exist. {_hint(model)}")
    if revision is None:
        raise SourceError(
            f"{where} names `{model}`, which is no folder under {root}; as a hub name it needs `revision`, but that is null. "
            "Give the commit to use, so that the run can be repeated, or a folder."
        )
    return None


def _hint(model: str) -> str:
    if model.removeprefix("./").startswith("data/external"):
        return "data/external is not part of the repository: the README files in it say what belongs there and where it is from."
    return "Check the path (relative ones start at the project root), or give `revision` if it is a hub name."


def _load_config(location: str, revision: str | None, *, trust: bool, where: str) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as err:
        raise SourceError(f"{where}: the config of {location} cannot be loaded: {reason(err)} {_cure(revision)}") from err
    return config


def _cure(revision: str | None) -> str:
    if revision is None:
        return "Copy the model folder again, or set `trust_remote_code` if the model brings its own code and you trust it."
    return (
        "If the hub cannot be reached from here, download the model on a machine that can and name the folder, "
        "or fill the cache at HF_HOME; a gated model needs HF_TOKEN."
    )


def _skeleton(config: PreTrainedConfig, *, kind: Kind, trust: bool, where: str) -> PreTrainedModel:
    """Build the model without memory (meta device): its true sizes, whatever the architecture calls them."""
    auto: Any = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(config, trust_remote_code=trust)
    except (ValueError, KeyError, ImportError, AttributeError, TypeError) as err:
        what = "a causal language model" if kind == "causal" else "a sequence classifier"
        raise SourceError(
            f"{where} must be {what}, but cannot be built from its config: {reason(err)} Name another model."
        ) from err
    return model


def _head_size(skeleton: PreTrainedModel, *, kind: Kind, where: str) -> int:
    if kind == "reward":
        labels = skeleton.config.num_labels
        if labels != 1:
            raise SourceError(f"{where} must give one score (`num_labels` 1), but gives {labels}. Name a reward model.")
        return 1
    head = skeleton.get_output_embeddings()
    if head is None:
        raise SourceError(f"{where} ({type(skeleton).__name__}) has no output embeddings: it is no causal language model.")
    return int(head.weight.shape[0])


def _context_length(config: PreTrainedConfig, model_max: int, asked: int | None, *, kind: Kind, where: str) -> int:
    text_config = config.get_text_config()
    found = next((int(v) for f in _CONTEXT_FIELDS if isinstance(v := getattr(text_config, f, None), int) and v > 0), None)
    if found is None or (kind == "reward" and model_max < found):
        # Encoders such as RoBERTa count two positions they cannot use: there the tokenizer's limit is the true one.
        found = int(model_max) if model_max < _UNLIMITED else found
    if found is None and asked is None:
        raise SourceError(f"{where}: the model's config names no context length. Set `context_length`.")
    if found is not None and asked is not None and asked > found:
        raise SourceError(
            f"{where}: `context_length` must be at most {found}, the model's own, but is {asked}. "
            "A model with scaled positions needs them in its config."
        )
    return asked or found or 0
