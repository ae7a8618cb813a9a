"""Loading: errors with folder and reason; digests that follow behaviour and nothing else."""

import copy
import json
from pathlib import Path

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from models.errors import SourceError
from models.tokenization.loading import load_tokenizer, tokenizer_digest


def test_round_trip_through_a_folder(pico_tokenizer, tmp_path: Path) -> None:
    pico_tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), source="pico")
    assert loaded.is_fast and tokenizer_digest(loaded) == tokenizer_digest(pico_tokenizer)


def test_errors_name_source_and_folder(pico_tokenizer, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source `pico` must be in a folder, but `\./nowhere` is not a folder"):
        load_tokenizer("./nowhere", source="pico")
    pico_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"broken": ', encoding="utf-8")
    with pytest.raises(SourceError, match=f"source `pico` cannot be loaded from `{tmp_path}`: .+tokenizer.json"):
        load_tokenizer(str(tmp_path), source="pico")


def test_digest_follows_what_changes_tokens_only(pico_tokenizer) -> None:
    backend = pico_tokenizer.backend_tokenizer
    plain = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    assert tokenizer_digest(plain) == tokenizer_digest(pico_tokenizer)  # the pad token decides nothing
    other_end = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="<pad>")
    lower = copy.deepcopy(pico_tokenizer)
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    spec = json.loads(backend.to_str())
    spec["model"]["merges"] = spec["model"]["merges"][:-1]
    fewer = PreTrainedTokenizerFast(tokenizer_object=type(backend).from_str(json.dumps(spec)), bos_token="<s>", eos_token="</s>")
    assert len({tokenizer_digest(t) for t in (plain, other_end, lower, fewer)}) == 4
