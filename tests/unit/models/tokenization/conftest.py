"""The real tokenizers of data/external as codecs, loaded once a session."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2TokenizerFast, PreTrainedTokenizerFast, T5Tokenizer

from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer

ROOT = Path("data/external")
FOLDERS = {
    "llama2": "tokenizers/llama2",
    "mpt_neox20b": "tokenizers/mpt_neox20b",
    "stories260K": "lms/stories260K/hf",
    "babyllama105": "lms/babyllama105/hf",
    "qa_llama": "lms/trained_here/qa_llama",
    "math_mpt": "lms/trained_here/math_mpt",
    "code_neox": "lms/trained_here/code_neox",
    "gpt2": "tokenizers/gpt2",
    "t5": "tokenizers/t5",
    "mistral": "tokenizers/mistral",
    "qwen": "tokenizers/qwen",
}
QWEN_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
Real = Callable[[str], TokenCodec]


@pytest.fixture(scope="session")
def real() -> Real:
    """`real(name)`: the codec of a tokenizer in data/external; skips the test where the data is not there."""
    made: dict[str, TokenCodec] = {}

    def make(name: str) -> TokenCodec:
        folder = ROOT / FOLDERS[name]
        if not folder.is_dir():
            pytest.skip(f"{folder} is not here: see data/external/README.md")
        if name not in made:
            made[name] = TokenCodec(_load(name, folder), source=name)
        return made[name]

    return make


def _load(name: str, folder: Path):
    if name == "gpt2":
        return GPT2TokenizerFast.from_pretrained(folder)
    if name == "t5":
        return T5Tokenizer.from_pretrained(folder)
    if name == "mistral":
        return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer_v1.json"), bos_token="<s>", eos_token="</s>")
    if name == "qwen":
        return _from_ranks(folder / "qwen.tiktoken")
    return load_tokenizer(str(folder), source=name)


def _from_ranks(path: Path) -> PreTrainedTokenizerFast:
    """tiktoken knows ranks only: any two neighbours that make up a token may merge, at that token's rank."""
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in path.read_bytes().splitlines())}
    spelling = _byte_spelling()
    spelled = {token: "".join(spelling[b] for b in token) for token in ranks}
    merges = [
        (spelled[token[:cut]], spelled[token[cut:]])
        for token in ranks
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    backend = Tokenizer(models.BPE({spelled[token]: rank for token, rank in ranks.items()}, merges))
    split = pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _byte_spelling() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(hidden)) for b in range(256)]
