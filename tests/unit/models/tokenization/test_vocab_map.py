"""Vocabulary maps between real tokenizers, against brute force and by hand."""

import random
from pathlib import Path

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from models.errors import ArtifactError
from models.tokenization.codec import TokenCodec
from models.tokenization.vocab_map import VocabMap, byte_vocab_map, min_edit_distance_map

PAIRS = [("mpt_neox20b", "llama2"), ("llama2", "mpt_neox20b"), ("math_mpt", "qa_llama"), ("gpt2", "mistral")]


def mapped(vocab_map: VocabMap, source: TokenCodec, target: TokenCodec, piece: str) -> str:
    return target.pieces[vocab_map.ids[source.pieces.index(piece)]]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_byte_map_by_definition(real, first: str, second: str) -> None:
    source, target = real(first), real(second)
    result = byte_vocab_map(source, target)
    known = {b for b in target.token_bytes if b}
    for i, data in enumerate(source.token_bytes):
        if i == source.eos_id:
            assert (result.ids[i], result.exact[i]) == (target.eos_id, True)
        elif data is None:
            assert (result.ids[i], result.exact[i]) == (-1, False)
        elif data in known:
            assert result.exact[i] and target.token_bytes[result.ids[i]] == data
        else:
            assert not result.exact[i]
            assert result.ids[i] == -1 or data.startswith(target.token_bytes[result.ids[i]])


def test_byte_map_by_hand(real) -> None:
    neox, llama = real("mpt_neox20b"), real("llama2")
    result = byte_vocab_map(neox, llama)
    pairs = {"Ċ": "<0x0A>", "ĠHello": "▁Hello", "Ã©": "é", "ĠcafÃ©": "▁c", "A": "A", "ĉ": "<0x09>", "ðŁ": "<0xF0>"}
    assert {p: mapped(result, neox, llama, p) for p in pairs} == pairs
    # The first piece of the target's own segmentation, not a look-alike.
    assert mapped(result, neox, llama, "Ġstrengthening") == "▁strength"
    assert (result.ids == -1).sum() == 1 and result.ids[neox.pieces.index("<|padding|>")] == -1


def test_equal_bytes_prefer_the_same_spelling_then_what_the_target_writes(real) -> None:
    llama, neox = real("llama2"), real("mpt_neox20b")
    own = byte_vocab_map(llama, llama)
    ordinary = [i for i, b in enumerate(llama.token_bytes) if b]
    assert np.array_equal(own.ids[ordinary], ordinary) and own.exact[ordinary].all()
    # Two blanks exist twice in the GPT-NeoX vocabulary; its tokenizer writes the added one.
    twice = [i for i, b in enumerate(neox.token_bytes) if b == b"  "]
    assert len(twice) == 2
    (written,) = neox.encode_ids(["  "])[0]
    assert byte_vocab_map(llama, neox).ids[llama.pieces.index("▁▁")] == written


def test_first_piece_never_is_a_special_token(real) -> None:
    source, target = real("gpt2"), real("t5")
    result = byte_vocab_map(source, target)
    hit = result.ids[np.arange(source.vocab_size) != source.eos_id]
    assert all(target.token_bytes[i] is not None for i in np.unique(hit[hit >= 0]))


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [("code_neox", "qa_llama", 150), pytest.param("mpt_neox20b", "llama2", 60, marks=pytest.mark.slow)],
)
def test_min_edit_distance_map_equals_brute_force(real, first: str, second: str, count: int) -> None:
    source, target = real(first), real(second)
    result = min_edit_distance_map(source, target)
    for i in random.Random(0).sample(range(source.vocab_size), count):
        name = source.pieces[i].replace("Ġ", "▁")
        scored = [Levenshtein.distance(name, piece) for piece in target.pieces]
        wanted = target.pieces.index(name) if name in target.pieces else scored.index(min(scored))
        assert result.ids[i] == (target.eos_id if i == source.eos_id else wanted)
        assert result.exact[i] == (name in target.pieces or i == source.eos_id)
    assert (result.ids >= 0).all()


def test_save_load_summary(tmp_path: Path) -> None:
    one = VocabMap(np.array([3, -1, 0, 2], np.int32), np.array([True, False, False, True]))
    assert one.summary() == {"num_source": 4, "num_exact": 2, "num_approximate": 1, "num_unmapped": 1}
    path = tmp_path / "map.safetensors"
    one.save(path)
    again = VocabMap.load(path)
    assert again.ids.tolist() == [3, -1, 0, 2] and again.exact.tolist() == [True, False, False, True]
    assert again.ids.dtype == np.int32 and again.exact.dtype == np.bool_
    assert [p.name for p in tmp_path.iterdir()] == ["map.safetensors"]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=r"map.safetensors.*Delete it and rerun"):
        VocabMap.load(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        VocabMap.load(tmp_path / "missing.safetensors")
