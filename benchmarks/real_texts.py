"""Texts and tokenizers for the measurements: instruction data and the Llama-2 and GPT-NeoX tokenizers of `data/external`."""

import gzip
import json
import os
from functools import cache
from pathlib import Path

from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer

_ROOT = Path(__file__).resolve().parent.parent / "data" / "external"
LLAMA2, NEOX = _ROOT / "tokenizers" / "llama2", _ROOT / "tokenizers" / "mpt_neox20b"
_FILES = tuple(
    _ROOT / "instruct" / name
    for name in ("alpaca_gpt4_1k/alpaca_gpt4.jsonl.gz", "gpteacher/roleplay.jsonl.gz", "codealpaca_2k/codealpaca.jsonl.gz")
)


def missing() -> bool:
    """Say so and return True if the external data is not there (data/README.md)."""
    gone = [path for path in (LLAMA2, NEOX, *_FILES) if not path.exists()]
    if gone:
        print(f"skipped: {', '.join(str(path.relative_to(_ROOT.parent.parent)) for path in gone)} not there (data/README.md)")
    return bool(gone)


@cache
def codec(folder: Path) -> TokenCodec:
    """Return the codec of a tokenizer's folder, on one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return TokenCodec(load_tokenizer(str(folder), source=folder.name), source=folder.name)


def texts_of(num_tokens: int, codec: TokenCodec, *, num_texts: int) -> list[str]:
    """Cut the answers of the instruction data, end to end, into texts of about `num_tokens` tokens each (± 2 %).

    Raises:
        SystemExit: There is not as much text.
    """
    pieces = _pieces(codec)
    if len(pieces) < num_tokens * num_texts:
        raise SystemExit(f"{num_texts} texts of {num_tokens} tokens were asked for, but there are {len(pieces)} tokens")
    cuts = range(0, num_tokens * num_texts, num_tokens)
    return [b"".join(pieces[at : at + num_tokens]).decode(errors="ignore") for at in cuts]


@cache
def _pieces(codec: TokenCodec) -> list[bytes]:
    return [codec.token_bytes[i] or b"" for ids in codec.encode_ids(_answers()) for i in ids]


@cache
def _answers() -> tuple[str, ...]:
    rows = (json.loads(line) for path in _FILES for line in gzip.open(path, "rt", encoding="utf-8"))
    return tuple(row["output"] + "\n\n" for row in rows)
