"""One end of a turn from resolving to scoring and answering: the tokenizer's `eos_token` alone decides nothing."""

import json
import shutil

import numpy as np
import pytest
import torch

from models.fusion.teacher_forcing import teacher_force
from models.lm.answers import generate_responses, stop_ids
from models.lm.loading import LoadedSource, load_source
from models.lm.prompts import PromptItem, TextItem, fit_texts
from models.lm.resolve import resolve_source
from models.lm.source_file import read_source, write_source
from models.params.sources import SourceSpec
from models.params.teach import ResponseParams
from models.schema import Message

ENDS_WITH_EOS = (
    "{{ '<s>' }}{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }}\nA: {% else %}{{ m.content }}</s>\n"
)
ENDS_WITH_EOS += "{% endif %}{% endfor %}"
ITEMS = [
    TextItem(str(i), [Message("user", f"question {i}")], text) for i, text in enumerate(["It is 42.", "", "東京", "The bell."])
]


@pytest.fixture
def variant(pico_folder, tmp_path):
    """`variant(name, eos_token=…, stops=…)`: the same weights and template, other settings."""

    def make(name: str, *, eos_token: str, stops: list[int] | None, template: str = ENDS_WITH_EOS) -> LoadedSource:
        folder = tmp_path / name
        shutil.copytree(pico_folder("llama"), folder)
        (folder / "chat_template.jinja").write_text(template)
        config = json.loads((folder / "tokenizer_config.json").read_text()) | {"eos_token": eos_token}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        if stops is not None:
            (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
        return load_source(resolve_source(SourceSpec(name=name, model=str(folder)), root=tmp_path), device="cpu")

    return make


def test_equal_weights_score_equally_whatever_the_eos_token(variant) -> None:
    own = variant("own", eos_token="</s>", stops=[1, 2])
    document = variant("document", eos_token="<pad>", stops=[2, 1])
    assert own.codec.eos_id == document.codec.eos_id == 1 and stop_ids(own) == stop_ids(document) == [1, 2]
    one, two = (list(teacher_force(s, ITEMS, top_k=4, batch_tokens=512)) for s in (own, document))
    for a, b in zip(one, two, strict=True):
        assert a.score == b.score and a.signals.token_ids[-1] == b.signals.token_ids[-1] == 1
        assert np.array_equal(a.signals.topk_ids, b.signals.topk_ids)


def test_the_end_s_cross_entropy_counts_every_token_that_ends_a_turn(variant) -> None:
    single, several = variant("single", eos_token="</s>", stops=[1]), variant("several", eos_token="</s>", stops=[1, 2, 0])
    alone, summed = (list(teacher_force(s, ITEMS, top_k=340, batch_tokens=512)) for s in (single, several))
    for a, b in zip(alone, summed, strict=True):
        probs = dict(zip(a.signals.topk_ids[-1].tolist(), np.exp(a.signals.topk_logprobs[-1].astype(float)), strict=True))
        assert np.exp(-b.signals.ce[-1]) == pytest.approx(probs[0] + probs[1] + probs[2], rel=5e-3)
        assert np.array_equal(a.signals.ce[:-1], b.signals.ce[:-1])


def test_a_cut_text_is_scored_without_an_end(pico) -> None:
    source = pico("llama")
    cut = [TextItem(i.id, i.messages, i.response, ended=False) for i in ITEMS]
    whole, short = (list(teacher_force(source, items, top_k=3, batch_tokens=512)) for items in (ITEMS, cut))
    for a, b in zip(whole, short, strict=True):
        assert b.signals.token_ids.tolist() == a.signals.token_ids[:-1].tolist()
        np.testing.assert_allclose(b.signals.ce, a.signals.ce[:-1], rtol=1e-5, atol=1e-6)
        assert b.score.num_tokens == a.score.num_tokens - 1 and b.score.nll == pytest.approx(b.signals.nll)
    assert short[1].score.nll == 0, "nothing is left of an empty answer that was cut"
    (text,) = fit_texts(source.source, source.codec, cut[:1], overflow="error")
    assert not text.ended and source.codec.eos_id not in text.labels


def test_answers_stop_at_the_template_s_end(variant) -> None:
    source = variant("document", eos_token="<pad>", stops=[2])
    assert stop_ids(source) == [1, 2]
    head = source.model.get_output_embeddings().weight
    prompt = [PromptItem("a", [Message("user", "Hi")])]
    with torch.no_grad():
        source.model.model.norm.weight.zero_()  # all logits are 0: ties go to the lowest id, never a stop
        (free,) = generate_responses(source, prompt, ResponseParams(max_new_tokens=4))
        assert free.finish == "length" and not free.ended and head.shape[0] == source.codec.vocab_size


def test_the_record_names_the_ends_and_what_to_know(variant, tmp_path) -> None:
    dated = ENDS_WITH_EOS.replace("{{ '<s>' }}", "{{ '<s>' }}{{ strftime_now('%Y') }}").replace("</s>", " END OF TURN")
    source = variant("odd", eos_token="<pad>", stops=[1], template=dated).source
    assert source.end_ids == (2, 1) and source.template_date == "2024-07-26"
    several, date = source.notes
    assert "ends a turn with 'END OF TURN', which is several tokens" in several and "'<pad>'" in several
    assert date.startswith("The chat template of `odd` reads the date: every run gives it 2024-07-26")
    write_source(tmp_path, source)
    assert read_source(tmp_path) == source
