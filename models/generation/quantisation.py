"""Checkpoints whose weights are stored quantised: taken where transformers can load them here, refused otherwise."""

from collections.abc import Mapping
from copy import deepcopy

from transformers.quantizers.auto import AutoHfQuantizer

from models.generation.config_file import ConfigFile
from models.generation.reasons import reason

_KEY = "quantization_config"
_CURE = "Install what it needs, or name the model's own weights."


def is_quantised(file: ConfigFile) -> bool:
    """Say whether a model's config declares quantised weights.

    Raises:
        SourceError: transformers does not know how they are quantised, or lacks what it takes to read them on this machine.
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
