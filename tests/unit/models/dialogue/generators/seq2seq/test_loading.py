"""Pre-trained T5 folders: what is added to them, what is kept, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

from models.dialogue.generators.files import without_progress_bars
from models.dialogue.generators.seq2seq.from_scratch import MARKS, add_marks, train_t5_tokenizer
from models.dialogue.generators.seq2seq.loading import load_t5, pico_t5
from models.dialogue.generators.seq2seq.model import Seq2SeqGenerator
from models.errors import SourceError
from models.params.dialogue import GeneratorParams, PicoT5

SPECIAL = ("<1th-entity>", "<new-entity>")


def pretrained(folder: Path, *, own_head: bool, rows: int | None = None) -> T5ForConditionalGeneration:
    """A random T5 as others publish it: no marks; T5 v1.1 has a head of its own and does not scale."""
    tokenizer = train_t5_tokenizer(["a cheap hotel in the north"] * 3, vocab_size=300)
    config = T5Config(
        vocab_size=rows or len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu" if own_head else "relu",
        tie_word_embeddings=not own_head,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).eval()
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with without_progress_bars():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def logits(model: T5ForConditionalGeneration, size: int) -> torch.Tensor:
    ids = torch.tensor([[5, 9, 17, 1]])
    return model(input_ids=ids, labels=ids).logits[..., :size]


@pytest.mark.parametrize("own_head", [True, False])
def test_new_tokens_leave_the_model_as_it_was(tmp_path: Path, own_head: bool) -> None:
    published = pretrained(tmp_path / "t5", own_head=own_head)
    size = published.shared.num_embeddings
    model, tokenizer = load_t5("t5", revision=None, special_tokens=SPECIAL, root=tmp_path, seed=0)
    model.eval()
    assert all(len(tokenizer.encode(t)) == 1 for t in (*MARKS, *SPECIAL))
    assert model.shared.num_embeddings == model.lm_head.weight.shape[0] == len(tokenizer) == size + 6
    assert (model.lm_head.weight is model.shared.weight) is not own_head
    assert torch.equal(logits(model, size), logits(published, size))
    again, _ = load_t5("t5", revision=None, special_tokens=SPECIAL, root=tmp_path, seed=0)
    assert torch.equal(again.shared.weight, model.shared.weight)


@pytest.mark.parametrize("own_head", [True, False])
def test_a_generator_from_a_folder_survives_saving(tmp_path: Path, own_head: bool) -> None:
    pretrained(tmp_path / "t5", own_head=own_head)
    cfg = GeneratorParams(model="t5")
    generator = Seq2SeqGenerator.build(cfg, texts=lambda: (), special_tokens=SPECIAL, root=tmp_path, seed=0).eval()
    generator.save(tmp_path / "saved")
    loaded = Seq2SeqGenerator.load(tmp_path / "saved", device="cpu")
    assert torch.equal(logits(loaded.model, 300), logits(generator.model, 300))
    assert loaded.model.config.scale_decoder_outputs is not own_head
    assert loaded.digest() == generator.digest()


def test_spare_rows_are_used_before_the_embeddings_grow(tmp_path: Path) -> None:
    pretrained(tmp_path / "t5", own_head=False, rows=320)
    model, tokenizer = load_t5("t5", revision=None, special_tokens=SPECIAL, root=tmp_path, seed=0)
    assert len(tokenizer) < 320 == model.shared.num_embeddings


def test_refusals_name_the_folder_and_the_reason(tmp_path: Path) -> None:
    def load(name: str, revision: str | None = None) -> None:
        load_t5(name, revision=revision, special_tokens=(), root=tmp_path, seed=0)

    with pytest.raises(SourceError, match=r"no folder .*nowhere.*revision"):
        load("nowhere")
    bert = tmp_path / "bert"
    with without_progress_bars():
        config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=300)
        BertModel(config).save_pretrained(bert)
    train_t5_tokenizer(["a"], vocab_size=300).save_pretrained(bert)
    with pytest.raises(SourceError, match=r"must be a T5.*bert"):
        load("bert")
    pretrained(tmp_path / "t5", own_head=False)
    deeper = json.loads((tmp_path / "t5" / "config.json").read_text())
    (tmp_path / "t5" / "config.json").write_text(json.dumps({**deeper, "num_layers": 2}))
    with pytest.raises(SourceError, match=r"lacks \d+ weights.*encoder\.block\.1"):
        load("t5")
    (tmp_path / "t5" / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match="tokenizer"):
        load("t5")


def test_the_pico_t5_is_ready_to_copy() -> None:
    """Untrained, it goes on with the token that follows, in its passage, the one said last."""
    tokenizer = train_t5_tokenizer(["a b c"], vocab_size=300)
    add_marks(tokenizer, ())
    model = pico_t5(PicoT5(), tokenizer, seed=0).eval()
    state = torch.random.get_rng_state()
    assert torch.equal(model.shared.weight, pico_t5(PicoT5(), tokenizer, seed=0).shared.weight)
    assert torch.equal(torch.random.get_rng_state(), state)
    generator = torch.Generator().manual_seed(1)
    passage = torch.stack([torch.randperm(len(tokenizer) - 3, generator=generator)[:60] + 3 for _ in range(20)])
    with torch.no_grad():
        said = model(input_ids=passage, decoder_input_ids=passage[:, 10:50]).logits.argmax(-1)
    assert float((said == passage[:, 11:51]).float().mean()) > 0.5
