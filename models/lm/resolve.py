"""Resolution of a configured model to location, digest, sizes and chat template, without loading weights."""

from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from models.errors import SourceError, reason
from models.lm.config import CONFIG, CONTEXT_KEYS, GENERATION, ConfigFile, check_config, check_token_ids, is_quantised
from models.lm.weights import check_checkpoint, embedding_rows, folder_digest, refuse_adapter
from models.params.sources import RewardModelSpec, SourceSpec
from models.schema import ResolvedSource
from models.tokenization.chat import reads_date, resolve_template
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer, tokenizer_digest
from models.tokenization.turn_end import TurnEnd

_UNLIMITED = 1_000_000_000  # tokenizers without a limit say 1e30
Kind = Literal["causal", "reward"]


def resolve_source(spec: SourceSpec, *, root: Path, where: str = "") -> ResolvedSource:
    """Resolve a source of `sources.models` without loading its weights.

    Args:
        spec: The source; `model` is a folder (relative to `root`, or absolute) or a hub name with a revision.
        root: The project root.
        where: The param that names it, for errors; empty = the source in `sources.models`.

    Returns:
        The source with an absolute folder, or a hub name with the commit of its revision. `digest` is over config and weights.

    Raises:
        SourceError: It cannot be found, is not a causal language model, or has no usable tokenizer, template or context length.
    """
    where = where or f"`sources.models[{spec.name}]`"
    return _resolve(spec, kind="causal", where=where, root=root, template=spec.chat_template, context=spec.context_length)


def resolve_reward_model(spec: RewardModelSpec, *, root: Path) -> ResolvedSource:
    """Resolve a reward model of `sources.reward_models`; without its own chat template it uses the preset `plain`.

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
    file = ConfigFile(location, CONFIG, revision=revision, where=where)
    quantised = is_quantised(file)
    config = _load_config(file, location, revision, trust=trust, where=where)
    if folder is None:
        revision = getattr(config, "_commit_hash", None) or revision
        digest = f"hub:{spec.model}@{revision}"
    tokenizer = load_tokenizer(location, revision=revision, trust_remote_code=trust, source=spec.name)
    preset = template or ("plain" if kind == "reward" and not tokenizer.chat_template else None)
    written = resolve_template(preset, tokenizer, source=spec.name)
    skeleton = _skeleton(config, kind=kind, trust=trust, where=where)
    head_size = _head_size(skeleton, kind=kind, where=where)
    _check_kind(file, skeleton, kind=kind, own_code=trust and "auto_map" in file.values)
    rows = embedding_rows(skeleton)
    _check_tokens(tokenizer, rows if kind == "reward" else min(rows, head_size), where=where)
    check_token_ids(file, rows=rows)
    _check_generation(location, revision, rows=rows, where=where)
    if folder is not None:
        check_checkpoint(folder, skeleton, file, where=where, quantised=quantised)
    end = _turn_end(spec, tokenizer, written, _stop_ids(config, location, revision)) if kind == "causal" else None
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
        head_size=head_size,
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
            f"The chat template of `{spec.name}` reads the date: every run gives it {spec.template_date} (`template_date`)."
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
            f"{where} names `{model}`, which is not a folder under {root}; as a hub name it needs `revision`, but that is null. "
            "Give the commit to use, so that the run can be repeated, or a folder."
        )
    return None


def _hint(model: str) -> str:
    if model.removeprefix("./").startswith("data/external"):
        return "data/external is not part of the repository: the README files in it say what belongs there and where to get it."
    return "Check the path (relative ones start at the project root), or give `revision` if it is a hub name."


def _load_config(file: ConfigFile, location: str, revision: str | None, *, trust: bool, where: str) -> PreTrainedConfig:
    if file.values:
        check_config(file, trust=trust)
        check_token_ids(file, rows=None)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(location, revision=revision, trust_remote_code=trust)
    except StrictDataclassFieldValidationError as err:
        key = str(err).partition("'")[2].partition("'")[0]
        file.refuse(key, f"must be what {file.values.get('model_type')} takes ({reason(err)})", file.values.get(key))
    except Exception as err:  # transformers passes on whatever its loaders raise
        raise SourceError(f"{where}: the config of {location} cannot be loaded: {reason(err)} {_cure(revision)}") from err
    return config


def _cure(revision: str | None) -> str:
    if revision is None:
        return "Copy the model folder again, or set `trust_remote_code` if the model comes with its own code and you trust it."
    return (
        "If the hub cannot be reached from here, download the model on a machine that can and name the folder, "
        "or fill the cache at HF_HOME; a gated model needs HF_TOKEN."
    )


def _skeleton(config: PreTrainedConfig, *, kind: Kind, trust: bool, where: str) -> PreTrainedModel:
    """Build the model on the meta device, without memory: its true sizes, whatever the config calls them."""
    auto: Any = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto.from_config(config, trust_remote_code=trust)
    except Exception as err:  # whatever a model's constructor makes of odd sizes
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
        raise SourceError(f"{where} ({type(skeleton).__name__}) has no output embeddings: it is not a causal language model.")
    return int(head.weight.shape[0])


def _check_kind(file: ConfigFile, skeleton: PreTrainedModel, *, kind: Kind, own_code: bool) -> None:
    """Refuse weights of another model class, of which transformers would load whatever names match."""
    if kind == "causal" and skeleton.config.is_encoder_decoder:
        rule = "must be false for a causal language model"
        file.refuse("is_encoder_decoder", rule, True, cure="Name a causal language model.")
    names = file.values.get("architectures")
    built = type(skeleton).__name__
    # A reward model is recognised by its score head.
    if kind == "causal" and names and not own_code and built.casefold() not in {name.casefold() for name in names}:
        file.refuse("architectures", f"must name {built}", names, cure="Name a causal language model.")


def _check_tokens(tokenizer: PreTrainedTokenizerBase, rows: int, *, where: str) -> None:
    token, last = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    if last >= rows:
        raise SourceError(
            f"{where}: every token must have a row in the model's embedding, but {token!r} has the id {last} and there are "
            f"{rows} rows (tokenizer.json, added_tokens). Name the tokenizer's own model, or resize the embedding."
        )
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest > 0:
        raise SourceError(
            f"{where}: `model_max_length` must be a number above 0, but is {longest!r} (tokenizer_config.json). Correct it."
        )


def _check_generation(location: str, revision: str | None, *, rows: int, where: str) -> None:
    file = ConfigFile(location, GENERATION, revision=revision, where=where)
    if not file.values:
        return
    check_token_ids(file, rows=rows)
    try:
        GenerationConfig.from_pretrained(location, revision=revision or "main")
    except Exception as err:  # as for the config
        raise SourceError(
            f"{where}: {location}/{GENERATION} must be what transformers takes, but is not: {reason(err)} Correct or remove it."
        ) from err


def _context_length(config: PreTrainedConfig, model_max: int, asked: int | None, *, kind: Kind, where: str) -> int:
    text_config = config.get_text_config()
    found = next((int(v) for f in CONTEXT_KEYS if isinstance(v := getattr(text_config, f, None), int) and v > 0), None)
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
