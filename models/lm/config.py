"""Validation of a model folder's configuration: values checked key by key, and quantisation that cannot be loaded refused."""

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.hub import cached_file

from models.errors import SourceError, reason

CONFIG, GENERATION = "config.json", "generation_config.json"
CONTEXT_KEYS = ("max_position_embeddings", "max_seq_len", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
_SIZES = (
    "vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "num_attention_heads", "n_head",
    "n_heads", "num_key_value_heads", "head_dim", "sliding_window", "word_embed_proj_dim",
)  # fmt: skip
_PER_LAYER = ("intermediate_size", "num_attention_heads", "num_key_value_heads")  # some models write a list
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_labels", "num_experts", "num_local_experts")
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon")
_SHARES = ("rotary_pct", "partial_rotary_factor")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "unk_token_id", "decoder_start_token_id")
_FLAGS = ("output_hidden_states", "output_attentions")
_ROPE_POSITIVE = ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_ROPE_TYPES = {"default", "mrope", "su", *ROPE_INIT_FUNCTIONS}
_HUGE = 1e300
_MOST_ROWS, _MOST_COUNTED, _LEAST_CONTEXT, _MOST_CONTEXT = 2**31 - 1, 10_000, 16, 1_000_000_000


class ConfigFile:
    """One of a model's two configuration files, with errors that name file and key.

    Attributes:
        values: Its content; empty if the file does not exist.
    """

    def __init__(self, location: str, name: str, *, revision: str | None, where: str) -> None:
        """Read the file.

        Args:
            location: Folder or hub name.
            name: `CONFIG` or `GENERATION`.
            revision: Hub revision.
            where: Name of the model for errors, such as `` `sources.models[scholar]` ``.

        Raises:
            SourceError: It is not a JSON object in UTF-8.
        """
        self._where, self._location, self._name = where, location, name
        path = _find(location, name, revision)
        self.values: Mapping[str, Any] = {} if path is None else self._read(path)

    def refuse(
        self, key: str, rule: str, value: object, *, cure: str = "Copy the model's files again, or correct it."
    ) -> NoReturn:
        """Raise the error about a key.

        Raises:
            SourceError: Always.
        """
        raise SourceError(f"{self._where}: `{key}` {rule}, but is {_short(value)} ({self._location}/{self._name}). {cure}")

    def scopes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield (prefix of the keys, mapping) of the file itself and of the config of its text model, if it has one."""
        yield "", self.values
        text = self.values.get("text_config")
        if text is not None:
            if not isinstance(text, dict):
                self.refuse("text_config", "must be a mapping", text)
            yield "text_config.", text

    def _read(self, path: Path) -> Mapping[str, Any]:
        try:
            text = path.read_bytes().decode("utf-8")
            values = json.loads(text)
        except (OSError, ValueError, RecursionError) as err:
            what = "nested too deeply" if isinstance(err, RecursionError) else str(err)
            raise self._unreadable(f"must be JSON in UTF-8, but is not ({what})") from err
        if not isinstance(values, dict) or (not values and path.name == CONFIG):
            raise self._unreadable(f"must be a JSON object with keys, but is {_short(values)}")
        try:
            json.dumps(values, ensure_ascii=False).encode("utf-8")
        except (UnicodeEncodeError, RecursionError) as err:
            raise self._unreadable("must be valid Unicode, but has a lone surrogate") from err
        return values

    def _unreadable(self, what: str) -> SourceError:
        return SourceError(f"{self._where}: the config of {self._location} cannot be loaded: {self._name} {what}. Copy it again.")


def check_config(file: ConfigFile, *, trust: bool) -> None:
    """Check what the pipeline and transformers rely on: model type, sizes, context length, position encoding, dtype.

    Raises:
        SourceError: Naming file, key, value and rule.
    """
    _check_kind(file, trust=trust)
    for prefix, values in file.scopes():

        def each(names: tuple[str, ...], good: Callable[[Any], bool], rule: str) -> None:
            for name in names:
                value = values.get(name)  # noqa: B023 (called at once)
                if value is not None and not good(value) and not (name in _PER_LAYER and isinstance(value, list)):
                    file.refuse(prefix + name, rule, value)  # noqa: B023

        each(_SIZES, lambda v: _whole(v, 1, _MOST_ROWS), f"must be a whole number from 1 to {_MOST_ROWS}")
        each(_COUNTS, lambda v: _whole(v, 1, _MOST_COUNTED), f"must be a whole number from 1 to {_MOST_COUNTED}")
        rule = f"must be a whole number from {_LEAST_CONTEXT} to {_MOST_CONTEXT}"
        each(CONTEXT_KEYS, lambda v: _whole(v, _LEAST_CONTEXT, _MOST_CONTEXT), rule)
        each(_EPSILONS, lambda v: _number(v) and 0 < v < 1, "must be a number between 0 and 1")
        each(_SHARES, lambda v: _number(v) and 0 < v <= 1, "must be a number above 0, at most 1")
        each(_ACTIVATIONS, lambda v: isinstance(v, str) and v in ACT2FN, "must be an activation that transformers has")
        each(("rope_theta",), lambda v: _number(v) and v > 0, "must be a number above 0")
        each(_FLAGS, lambda v: isinstance(v, bool), "must be true or false")
        each(("return_dict",), lambda v: v is True, "must be true, as outputs are read by name")
        each(("dtype", "torch_dtype"), _is_dtype, "must be the name of a torch dtype of floating point")
        for name in ("rope_scaling", "rope_parameters"):
            _check_rope(file, prefix + name, values.get(name))


def check_token_ids(file: ConfigFile, *, rows: int | None) -> None:
    """Check that the special tokens of a file have a row in the embedding (`rows`; None = as `vocab_size` says).

    Raises:
        SourceError: Naming file, key, value and rule.
    """
    for prefix, values in file.scopes():
        most = rows if rows is not None else values.get("vocab_size")
        limit = most if isinstance(most, int) and _whole(most, 1, _MOST_ROWS) else _MOST_ROWS
        for name in _IDS:
            value = values.get(name)
            ids = value if isinstance(value, list) and name == "eos_token_id" else [value]
            if value is not None and not (ids and all(_whole(i, 0, limit - 1) for i in ids)):
                file.refuse(prefix + name, f"must be a row of the embedding (0 to {limit - 1}), or null", value)


def _check_kind(file: ConfigFile, *, trust: bool) -> None:
    values = file.values
    kind = values.get("model_type")
    brings_code = bool(values.get("auto_map"))
    if not (isinstance(kind, str) and kind in CONFIG_MAPPING) and not (trust and brings_code):
        cure = "Set `trust_remote_code` if you trust the code it brings." if brings_code else "Name another model."
        file.refuse("model_type", "must be a type that transformers knows", kind, cure=cure)
    names = values.get("architectures")
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) and n for n in names)):
        file.refuse("architectures", "must be a list of class names", names)


def _check_rope(file: ConfigFile, key: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        file.refuse(key, "must be a mapping or null", value)
    if value and all(isinstance(part, dict) for part in value.values()):  # one for each type of layer
        for name, part in value.items():
            _check_rope(file, f"{key}.{name}", part)
        return
    kind = value.get("rope_type", value.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPE_TYPES:
        file.refuse(f"{key}.rope_type", f"must be one of {', '.join(sorted(_ROPE_TYPES))}", kind)
    for name in _ROPE_POSITIVE:
        if value.get(name) is not None and not (_number(value[name]) and value[name] > 0):
            file.refuse(f"{key}.{name}", "must be a number above 0", value[name])


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_HUGE < value < _HUGE


def _is_dtype(value: Any) -> bool:
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else None
    return value == "auto" or (isinstance(found, torch.dtype) and found.is_floating_point)


def _short(value: object) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 100 else text[:99] + "…"


def _find(location: str, name: str, revision: str | None) -> Path | None:
    if Path(location).is_dir():
        path = Path(location, name)
        return path if path.is_file() else None
    found = cached_file(
        location,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return Path(found) if found else None


_KEY = "quantization_config"
_CURE = "Install what it needs, or name the model's own weights."


def is_quantised(file: ConfigFile) -> bool:
    """Say whether a model's config declares quantised weights.

    Raises:
        SourceError: transformers does not know how they are quantised, or cannot read them on this machine.
    """
    found = False
    for prefix, values in file.scopes():
        given = values.get(_KEY)
        if given is not None:
            _check(file, prefix + _KEY, given)
            found = True
    return found


def _check(file: ConfigFile, key: str, given: object) -> None:
    if not isinstance(given, Mapping):
        file.refuse(key, "must be a mapping with `quant_method`", given)
    try:
        known = AutoHfQuantizer.supports_quant_method(given)
    except Exception:  # no method, or none that can be looked up
        known = False
    if not known:
        file.refuse(key, "must name in `quant_method` a method that transformers knows", given, cure=_CURE)
    try:
        quantiser = AutoHfQuantizer.from_config(deepcopy(dict(given)), pre_quantized=True)
        quantiser.validate_environment(device_map=None, weights_only=True)
    except Exception as err:  # each method has its own packages, devices and keys
        file.refuse(key, f"must be of a method that can be loaded here ({reason(err)})", given, cure=_CURE)
