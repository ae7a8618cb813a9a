"""A GGUF file as a plain model folder: dense weights in safetensors, config, tokenizer, chat template, generation config.

transformers reads GGUF, but refuses to save what it has read, as that counts as quantised. So the weights are put into a model
of the same config without the quantisation, and that is saved.
"""

import copy
import gc
import json
import logging
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from models.errors import SourceError, reason
from models.files import write_atomic
from models.lm.gguf.find import GgufFile
from models.lm.gguf.header import GgufHeader, read_header, refuse_shorter
from models.memory import release_memory

FACTS = "gguf.json"
Dtype = Literal["float32", "bfloat16"]
_log = logging.getLogger(__name__)


def require_gguf(where: str) -> None:
    """Check that the package that unpacks GGUF is installed.

    Raises:
        SourceError: It is not.
    """
    if find_spec("gguf") is None:
        raise SourceError(
            f"{where} is a GGUF file, which needs the package `gguf`, but that is not installed. Install the extra: "
            'pip install -c constraints.txt -e ".[gguf]" (`make models` does, too).'
        )


def convert_gguf(file: GgufFile, *, dtype: Dtype, out: Path, scratch: Path) -> Mapping[str, Any]:
    """Write a GGUF file as a model folder.

    Needs the memory of the weights in float32, whatever `dtype`, that of the embedding twice more while it is unpacked, and about
    2,000 bytes for each entry of the vocabulary.

    Args:
        file: The file.
        dtype: What the weights are unpacked to.
        out: The folder; it gets `gguf.json` with what is returned, too.
        scratch: Where parts are joined.

    Returns:
        Architecture, number of parameters, and parameters by the type that the file stores them as.

    Raises:
        SourceError: `gguf` is not installed, or the file is none, truncated, or of an architecture that transformers cannot read.
    """
    require_gguf(file.where)
    header = read_header(file)
    kinds = _check_data(header)
    _check_architecture(header)
    place = _whole(file, scratch)
    _log.info("converting %s: %s, %d parameters, to %s", file.name, header.architecture, header.num_parameters, dtype)
    _write_model(place, header, dtype=dtype, out=out)
    _clear()
    _write_tokenizer(place, header, out=out)
    facts = {"architecture": header.architecture, "num_parameters": header.num_parameters, "stored_as": kinds, "dtype": dtype}
    write_atomic(out / FACTS, json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return facts


def _check_data(header: GgufHeader) -> dict[str, int]:
    """Compare the tensors' sizes with the file's, and return how many parameters each type stores."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    known = {int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    file = header.file
    end = header.data_start
    for tensor in header.tensors:
        if tensor.kind not in known:
            raise SourceError(
                f"{file.where}: {file.name} must store its weights in types that the package `gguf` knows, but {tensor.name} has "
                f"the type {tensor.kind}. Install a newer `gguf`, or name another file."
            )
        _, block, num_bytes = known[tensor.kind]
        count = 1
        for size in tensor.shape:
            count *= size
        end = max(end, header.data_start + tensor.offset + count // block * num_bytes)
    refuse_shorter(header, end)
    return {known[kind][0]: count for kind, count in sorted(header.kinds().items())}


def _check_architecture(header: GgufHeader) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    def plain(name: str) -> str:
        return name.replace("_", "").replace("-", "")

    if plain(header.architecture) not in {plain(name) for name in GGUF_SUPPORTED_ARCHITECTURES}:
        raise SourceError(
            f"{header.file.where}: {header.file.name} must have an architecture that transformers reads from GGUF "
            f"({', '.join(sorted(GGUF_SUPPORTED_ARCHITECTURES))}), but has {header.architecture}. Name the "
            "model's own folder instead."
        )


def _whole(file: GgufFile, scratch: Path) -> Path:
    if len(file.parts) == 1:
        return file.parts[0]
    target = scratch / file.name
    with file.open() as stream, target.open("wb") as whole:
        shutil.copyfileobj(stream, whole, 1 << 20)
    return target


def _write_model(place: Path, header: GgufHeader, *, dtype: Dtype, out: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    try:
        config = AutoConfig.from_pretrained(place.parent, gguf_file=place.name)
        _clear()
        packed, info = auto.from_pretrained(
            place.parent, gguf_file=place.name, config=config, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except Exception as err:  # transformers and gguf let through whatever their readers raise
        raise _unreadable(header, "no causal language model can be read from it", err) from err
    if missing := sorted(info["missing_keys"]):
        raise SourceError(
            f"{header.file.where}: {header.file.name} must hold every weight of {type(packed).__name__}, but lacks "
            f"{len(missing)}: {', '.join(missing[:5])}. Name another file."
        )
    config = copy.deepcopy(packed.config)
    del config.quantization_config
    config.name_or_path = ""
    with torch.device("meta"):
        dense = type(packed)(config)
    weights = packed.state_dict()
    settings = packed.generation_config
    del packed
    # The tensors themselves are taken over: nothing is copied.
    dense.load_state_dict(weights, assign=True)
    dense.tie_weights()
    dense.generation_config = settings
    del weights
    dense.save_pretrained(out)


def _clear() -> None:
    """Free what a reader of GGUF leaves: a vocabulary is hundreds of megabytes of small objects, which refer to each other."""
    gc.collect()
    release_memory()


def _write_tokenizer(place: Path, header: GgufHeader, *, out: Path) -> None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place.parent, gguf_file=place.name)
    except Exception as err:  # as above
        raise _unreadable(header, "its tokenizer cannot be read", err) from err
    tokenizer.name_or_path = ""
    tokenizer.save_pretrained(out)


def _unreadable(header: GgufHeader, what: str, err: Exception) -> SourceError:
    return SourceError(
        f"{header.file.where}: {header.file.name} ({header.architecture}) must be a file that transformers reads, but {what}: "
        f"{reason(err)} Name another file, or the model's own folder."
    )
