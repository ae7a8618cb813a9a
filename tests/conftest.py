"""Shared fixtures: a tiny tokenizer and tiny untrained models of four architectures, built once a session."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Properties are about results: on a machine that is busy, the first call of a function takes longer than any limit.
settings.register_profile("fusedial", deadline=None)
settings.load_profile("fusedial")

PICO_TEXT = [
    "Once upon a time there was a little town on a hill, and the town had a bell.",
    "Q: What is the capital of Borland?\nA: The capital of Borland is Quenby.",
    "Q: What is 17 plus 25?\nA: 17 plus 25 is 42.",
    "I cannot help with that, but here is something safe: café, naïve, 東京, 🙂.",
    "def add(a, b):\n    return a + b\n",
]


@pytest.fixture(scope="session")
def pico_tokenizer() -> "PreTrainedTokenizerFast":
    """Byte-level BPE, about 340 entries: `<s>` 0, `</s>` 1, `<pad>` 2, then 256 bytes and merges. Template: `plain` style."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(PICO_TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def pico_folder(pico_tokenizer: "PreTrainedTokenizerFast", tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`pico_folder(arch, head_size=None)`: a saved untrained model (32 wide, 2 layers, context 128) with the pico tokenizer.

    `arch` is `llama`, `mistral`, `gpt_neox` or `mpt`; `head_size` widens the head beyond the tokenizer. Do not write into it.
    """
    made: dict[tuple[str, int | None], Path] = {}

    def make(arch: str = "llama", head_size: int | None = None) -> Path:
        if (arch, head_size) not in made:
            folder = tmp_path_factory.mktemp(f"{arch}-{head_size or 'fit'}")
            build_pico_model(arch, head_size or len(pico_tokenizer)).save_pretrained(folder)
            pico_tokenizer.save_pretrained(folder)
            assert json.loads((folder / "config.json").read_text())["model_type"] == arch
            made[arch, head_size] = folder
        return made[arch, head_size]

    return make


@pytest.fixture(scope="session")
def pico(pico_folder: Callable[..., Path]) -> Callable[..., Any]:
    """`pico(arch, **spec)`: a loaded untrained source on the CPU, template `plain`; `spec` goes into its `SourceSpec`."""
    from models.lm.loading import load_source
    from models.lm.resolve import resolve_source
    from models.params.sources import SourceSpec

    made: dict[str, Any] = {}

    def make(arch: str = "llama", head_size: int | None = None, **settings: Any) -> Any:
        key = json.dumps([arch, head_size, settings], sort_keys=True)
        if key not in made:
            folder = pico_folder(arch, head_size)
            spec = SourceSpec(name=arch, model=str(folder), **{"chat_template": "plain", **settings})
            made[key] = load_source(resolve_source(spec, root=folder), device="cpu")
        return made[key]

    return make


def build_pico_model(arch: str, vocab_size: int):
    import torch
    from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MistralConfig, MptConfig

    tokens = {"vocab_size": vocab_size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, "initializer_range": 0.2}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    configs = {
        "llama": lambda: LlamaConfig(**tokens, **sizes, max_position_embeddings=128, tie_word_embeddings=True),
        "mistral": lambda: MistralConfig(**tokens, **sizes, num_key_value_heads=2, max_position_embeddings=128),
        "gpt_neox": lambda: GPTNeoXConfig(**tokens, **sizes, max_position_embeddings=128, tie_word_embeddings=False),
        "mpt": lambda: MptConfig(**tokens, d_model=32, n_heads=4, n_layers=2, max_seq_len=128),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return AutoModelForCausalLM.from_config(configs[arch]()).eval()
