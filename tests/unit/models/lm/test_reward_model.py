import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import NumericsError, SourceError
from models.fusion.scorers import reference_scores
from models.lm.prompts import TextItem
from models.lm.resolve import resolve_reward_model
from models.lm.reward_model import encode_conversations, load_reward_model, reward_scores
from models.params.sources import RewardModelSpec
from models.schema import Message
from models.tokenization.chat import PRESETS

ANSWERS = ["It is 42.", "", "The capital of Borland is Quenby, a little town on a hill.", "東京", "a"]


def items() -> list[TextItem]:
    prompts = ["Hi", "What is 17 plus 25?", "x", "Once upon a time", "def add(a, b):"]
    return [TextItem(f"row-{i}", [Message("user", p)], a) for i, (p, a) in enumerate(zip(prompts, ANSWERS, strict=True))]


@pytest.fixture(scope="module")
def make_reward_model(pico_tokenizer, tmp_path_factory):
    """`make(arch, pad_token_id=None, context=128)`: folder of an untrained reward model."""
    from transformers import AutoModelForSequenceClassification, BertConfig, GPTNeoXConfig, LlamaConfig

    def make(arch: str = "llama", pad: int | None = None, context: int = 128) -> Path:
        sizes = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "initializer_range": 0.2,
        }
        config = {"llama": LlamaConfig, "gpt_neox": GPTNeoXConfig, "bert": BertConfig}[arch](
            vocab_size=len(pico_tokenizer), num_labels=1, max_position_embeddings=context, pad_token_id=pad, **sizes
        )
        torch.manual_seed(2)
        folder = tmp_path_factory.mktemp(arch)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
        pico_tokenizer.save_pretrained(folder)
        return folder

    return make


def load(folder: Path):
    return load_reward_model(resolve_reward_model(RewardModelSpec(name="rm", model=str(folder)), root=Path()), device="cpu")


def one_by_one(judge, rows) -> list[float]:
    """The score head applied to the last token of each unpadded row."""
    with torch.no_grad():
        hidden = [judge.model.base_model(input_ids=torch.tensor([r.tolist()])).last_hidden_state[0, -1] for r in rows]
        return [judge.model.score(h).item() for h in hidden]


@pytest.mark.parametrize("arch", ["llama", "gpt_neox"])
@pytest.mark.parametrize("pad", [None, 2])
def test_batched_scores_are_read_at_each_rows_last_token(make_reward_model, arch, pad):
    judge = load(make_reward_model(arch, pad))
    rows = encode_conversations(judge.tokenizer, items(), template=judge.source.chat_template, context_length=128)
    scores = reward_scores(judge, items(), batch_size=3)
    np.testing.assert_allclose(scores, one_by_one(judge, rows), atol=1e-4)
    assert len({round(s, 3) for s in scores}) == 5
    assert judge.has_pad == (pad is not None)


def test_padding_never_uses_an_id_of_the_batch(make_reward_model):
    judge = load(make_reward_model("llama", None))
    texts = [TextItem(str(i), [Message("user", "x" * i)], "</s>" * i) for i in range(5)]
    rows = encode_conversations(judge.tokenizer, texts, template=judge.source.chat_template, context_length=128)
    np.testing.assert_allclose(reward_scores(judge, texts, batch_size=5), one_by_one(judge, rows), atol=1e-4)


def test_encoder_models_do_not_see_the_padding(make_reward_model):
    judge = load(make_reward_model("bert", 2))
    np.testing.assert_allclose(
        reward_scores(judge, items(), batch_size=5), reward_scores(judge, items(), batch_size=1), atol=1e-4
    )


def test_reads_the_conversation_with_the_answer_as_its_last_turn(pico_tokenizer):
    (row,) = encode_conversations(pico_tokenizer, items()[:1], template=PRESETS["plain"], context_length=128)
    assert pico_tokenizer.decode(row) == "<s>Q: Hi\nA: It is 42.\n"
    (row,) = encode_conversations(pico_tokenizer, items()[:1], template=PRESETS["chatml"], context_length=128)
    assert pico_tokenizer.decode(row).endswith("<|im_start|>assistant\nIt is 42.<|im_end|>\n")


def test_long_conversations_lose_their_beginning_but_not_bos(pico_tokenizer, caplog):
    item = TextItem("a", [Message("user", "word " * 90)], "It is 42.")
    whole, cut = (encode_conversations(pico_tokenizer, [item], template=PRESETS["plain"], context_length=n)[0] for n in (999, 30))
    assert len(cut) == 30 and cut[0] == 0 and cut[1:].tolist() == whole[-29:].tolist()
    assert "1 of 1 texts exceed 30 tokens" in caplog.text
    assert encode_conversations(pico_tokenizer, [], template=PRESETS["plain"], context_length=9) == []


def test_context_length_is_respected(make_reward_model):
    judge = load(make_reward_model("bert", 2, context=24))
    long = TextItem("a", [Message("user", "word " * 90)], "It is 42.")
    assert np.isfinite(reward_scores(judge, [long, *items()], batch_size=8)).all()


def test_progress_counts_responses(make_reward_model):
    seen: list[int] = []
    reward_scores(load(make_reward_model()), items(), batch_size=2, on_progress=seen.append)
    assert seen == [2, 4, 5]


def test_scores_that_are_not_finite_name_the_ids(make_reward_model):
    judge = load(make_reward_model())
    with torch.no_grad():
        judge.model.score.weight.fill_(float("inf"))
    with pytest.raises(
        NumericsError, match="The scores of reward model `rm` must be finite, but are not for 5 responses: row-0, row-1"
    ):
        reward_scores(judge, items(), batch_size=2)


def test_language_model_is_refused(pico_folder, tmp_path):
    folder = shutil.copytree(pico_folder("llama"), tmp_path / "m")
    path = folder / "config.json"
    path.write_text(path.read_text().replace("{", '{"num_labels": 1,', 1))
    with pytest.raises(SourceError, match=r"lacks 1: score\.weight"):
        load(folder)


def test_reference_is_sentence_chrf():
    import sacrebleu

    texts = items()[:3]
    references = ["It is 42.", "It is 42.", "The capital is Quenby."]
    scores = reference_scores(texts, references)
    assert scores[0] == pytest.approx(100) and scores[1] == 0
    assert scores[2] == pytest.approx(sacrebleu.sentence_chrf(texts[2].response, [references[2]]).score)
    with pytest.raises(ValueError, match="argument"):
        reference_scores(texts, references[:2])
