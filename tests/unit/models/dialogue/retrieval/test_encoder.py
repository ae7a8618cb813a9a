import json
from pathlib import Path

import pytest
import torch

from models.dialogue.data.records import Entity
from models.dialogue.retrieval.encoder import Retriever, build_retriever
from models.errors import ArtifactError, ParamsError
from models.params.retriever import PicoEncoder, RetrieverParams

TEXTS = ["name worth house ; area north ; pricerange cheap", "i need a cheap house in the north please"]
SIZES = PicoEncoder(vocab_size=200, hidden_size=32, num_layers=1, num_heads=2)
CFG = RetrieverParams(pico=SIZES, max_context_tokens=24, max_entity_tokens=16)


def _build(**changes: object) -> Retriever:
    return build_retriever(CFG.model_copy(update=changes), texts=TEXTS, root=Path())


def _q(retriever: Retriever, text: str = TEXTS[1]) -> torch.Tensor:
    with torch.no_grad():
        return retriever.encode_contexts(*retriever.pad(retriever.tokenise_contexts([text])))


def _e(retriever: Retriever, text: str) -> torch.Tensor:
    with torch.no_grad():
        return retriever.encode_entities(*retriever.pad(retriever.tokenise_entities([text])))


def test_shared_encoder_reads_both_sides_alike_and_untied_ones_do_not() -> None:
    shared, untied = _build(), _build(untied=True)
    assert torch.equal(_q(shared), _e(shared, TEXTS[1]))
    assert not torch.allclose(_q(untied), _e(untied, TEXTS[1]))
    assert sum(p.numel() for p in untied.parameters()) == 2 * sum(p.numel() for p in shared.parameters())


@pytest.mark.parametrize("changes", [{}, {"untied": True, "projection": 8}, {"pooling": "cls", "normalise": True}])
def test_saved_retriever_is_the_same(changes: dict[str, object], tmp_path: Path) -> None:
    first = _build(**changes)
    first.save(tmp_path / "retriever")
    again = Retriever.load(tmp_path / "retriever")
    assert again.cfg == first.cfg
    assert again.dim == (8 if "projection" in changes else 32)
    assert again.digest() == first.digest()
    assert torch.equal(_q(again), _q(first))
    assert torch.equal(_e(again, "name a"), _e(first, "name a"))
    assert {p.suffix for p in (tmp_path / "retriever").iterdir()} == {".json", ".safetensors"}


def test_digest_names_weights_and_settings() -> None:
    first = _build()
    assert _build().digest() == first.digest()
    assert _build(max_context_tokens=20).digest() != first.digest()
    # How it was trained does not change what it computes; what it learned does.
    assert _build(warm_start=CFG.warm_start.model_copy(update={"steps": 7})).digest() == first.digest()
    with torch.no_grad():
        next(first.parameters())[0, 0] += 1
    assert _build().digest() != first.digest()


def test_lengths_hold_for_each_side() -> None:
    retriever = _build()
    long = "cheap house " * 40
    assert len(retriever.tokenise_contexts([long])[0]) == 24
    row = retriever.tokenise_entities(["name worth house ; " + long])[0]
    assert len(row) == 16
    assert row[:4] == retriever.tokenise_entities(["name worth house"])[0][:4]


def test_texts_follow_the_params() -> None:
    retriever = _build(attributes=("area",), role_marks=True, max_utterances=1, normalise=True)
    assert retriever.context_text(["hi", "hello", "Cheap, please!"]) == "user cheap please"
    assert retriever.entity_text(Entity("1", "hotel", {"name": "A & B", "food": "x", "area": "north"})) == "name a b ; area north"


def test_lengths_beyond_the_positions_are_refused(tmp_path: Path) -> None:
    _build().save(tmp_path)
    settings = json.loads((tmp_path / "retriever.json").read_text())
    settings["cfg"]["max_context_tokens"] = 25
    (tmp_path / "retriever.json").write_text(json.dumps(settings))
    with pytest.raises(ArtifactError, match="must be at most the encoder's 24 positions"):
        Retriever.load(tmp_path)


def test_missing_file_is_an_artifact_error(tmp_path: Path) -> None:
    _build().save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="must hold a saved retriever"):
        Retriever.load(tmp_path)


def test_hub_name_without_revision_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"retriever\.revision"):
        build_retriever(RetrieverParams(encoder="org/bert"), texts=[], root=Path("/nonexistent"))
