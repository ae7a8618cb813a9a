"""Token alignment with the real Llama-2 and NeoX tokenizers, tokenisation of both sides included; needs data/external."""

import time
from pathlib import Path

from models.reporting.results import ResultRow
from models.tokenization.alignment import align_starts
from models.tokenization.codec import TokenCodec
from models.tokenization.loading import load_tokenizer
from models.tokenization.vocab_map import byte_vocab_map

FOLDER = Path("data/external/tokenizers")
TEXT = "The quick brown fox jumps over the lazy dog, and a small boat of 27 people sails to the island.\n"


def measure() -> list[ResultRow]:
    if not FOLDER.is_dir():
        print("alignment: skipped, data/external/tokenizers is not there (data/README.md)")
        return []
    llama = TokenCodec(load_tokenizer(str(FOLDER / "llama2"), source="llama2"), source="llama2")
    neox = TokenCodec(load_tokenizer(str(FOLDER / "mpt_neox20b"), source="neox"), source="neox")
    rows = []
    for repeats, texts in ((10, 400), (100, 40), (400, 10)):
        batch = [TEXT * repeats] * texts
        started = time.process_time()
        target, source = llama.encode_responses(batch), neox.encode_responses(batch)
        pairs = [align_starts(t, s) for t, s in zip(target, source, strict=True)]
        seconds = time.process_time() - started
        tokens = sum(len(t.ids) for t in target)
        rows.append(ResultRow(f"alignment, {len(target[0].ids)} target tokens a text", tokens / seconds, "tokens/s"))
        assert all(len(p) == len(t.ids) + 1 for p, t in zip(pairs, target, strict=True))
    started = time.process_time()
    byte_vocab_map(neox, llama)
    rows.append(ResultRow("vocabulary map 50,277 → 32,000 by bytes", time.process_time() - started, "s"))
    return rows
