"""From a GGUF file to a model folder, and what is refused on the way."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.gguf_files import CONTEXT, LAYERS, WIDTH, byte_tokens, tensor_shapes, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.errors import SourceError
from models.lm.gguf import convert
from models.lm.gguf.convert import convert_gguf
from models.lm.gguf.find import GgufFile
from models.lm.gguf.header import read_header
from models.lm.loading import load_source
from models.lm.resolve import resolve_source
from models.params.sources import SourceSpec

WHERE = "`sources.models[owl].model`"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def named(*parts: Path, name: str = "tiny.gguf") -> GgufFile:
    return GgufFile(name, parts, WHERE)


def converted(file: GgufFile, folder: Path, *, dtype: convert.Dtype = "float32") -> Path:
    out, scratch = folder / "out", folder / "scratch"
    for place in (out, scratch):
        place.mkdir()
    convert_gguf(file, dtype=dtype, out=out, scratch=scratch)
    return out


def num_parameters() -> int:
    return sum(torch.Size(shape).numel() for shape in tensor_shapes(len(byte_tokens())).values())


def test_the_header_gives_the_sizes(tiny):
    header = read_header(named(tiny))
    assert (header.architecture, header.vocab_size, header.has_template) == ("llama", 260, True)
    assert header.num_parameters == num_parameters()
    assert [header.number(key) for key in ("embedding_length", "block_count", "context_length")] == [WIDTH, LAYERS, CONTEXT]


def test_sizes_are_read_where_the_package_is_not_installed(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert read_header(named(tiny)).num_parameters == num_parameters()
    with pytest.raises(SourceError, match=r"needs the package `gguf`, but that is not installed\. Install the extra: .*\[gguf\]"):
        convert_gguf(named(tiny), dtype="float32", out=tiny.parent, scratch=tiny.parent)


def test_the_folder_holds_the_same_model_and_tokenizer_as_the_file(tiny, tmp_path):
    out = converted(named(tiny), tmp_path)
    packed = AutoModelForCausalLM.from_pretrained(tiny.parent, gguf_file=tiny.name, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert plain.dtype == torch.float32 and plain.config.tie_word_embeddings
    assert sorted(plain.state_dict()) == sorted(packed.state_dict())
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, packed.state_dict()[name]), name
    text = "a tin, two\n\ttins; naïve 東京 <|im_end|>"
    before, after = AutoTokenizer.from_pretrained(tiny.parent, gguf_file=tiny.name), AutoTokenizer.from_pretrained(out)
    assert before(text).input_ids == after(text).input_ids
    assert before.chat_template == after.chat_template
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config and str(tiny.parent) not in json.dumps(config)
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2
    facts = json.loads((out / "gguf.json").read_text())
    assert sum(facts["stored_as"].values()) == facts["num_parameters"] == num_parameters()
    assert set(facts["stored_as"]) == {"F32", "Q8_0"}


def test_the_folder_is_a_source_whose_turns_end_as_its_template_says(tiny, tmp_path):
    out = converted(named(tiny), tmp_path)
    source = resolve_source(SourceSpec(name="owl", model=str(out)), root=tmp_path)
    assert (source.architecture, source.context_length, source.num_parameters) == ("LlamaForCausalLM", CONTEXT, num_parameters())
    loaded = load_source(source, device="cpu")
    assert loaded.codec.end.label == byte_tokens().index("<|im_end|>")
    assert loaded.codec.end.notice == ""


def test_weights_may_be_unpacked_to_half(tiny, tmp_path):
    out = converted(named(tiny), tmp_path, dtype="bfloat16")
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert plain.dtype == torch.bfloat16
    assert (out / "model.safetensors").stat().st_size < 3 * num_parameters()


def test_parts_give_the_same_folder_as_the_file(tiny, tmp_path):
    content = tiny.read_bytes()
    cuts = (0, 3, 50, len(content) // 2, len(content))  # also within magic and header
    parts = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        parts.append(tmp_path / f"tiny.gguf.part{number}")
        parts[-1].write_bytes(content[start:stop])
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, joined = converted(named(tiny), tmp_path / "a"), converted(named(*parts), tmp_path / "b")
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in joined.iterdir())
    assert all((whole / name).read_bytes() == (joined / name).read_bytes() for name in names)


@pytest.mark.parametrize("keep", [0, 3, 20, 300, 0.5, -1])
def test_a_truncated_file_is_refused_before_any_weight_is_read(tiny, tmp_path, keep):
    content = tiny.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(SourceError, match=r"`sources\.models\[owl\]\.model`: short\.gguf must .* truncated\. Copy it again"):
        convert_gguf(named(short, name="short.gguf"), dtype="float32", out=tmp_path, scratch=tmp_path)


def test_a_last_part_that_is_missing_shows_as_truncated(tiny, tmp_path):
    content = tiny.read_bytes()
    for number in (0, 1):
        (tmp_path / f"p{number}").write_bytes(content[number * 40_000 : (number + 1) * 40_000])
    with pytest.raises(SourceError, match=r"in 2 parts: it is truncated, or its last part is missing"):
        read_header(named(tmp_path / "p0", tmp_path / "p1"))


def test_another_kind_of_file_is_refused(tmp_path):
    other = tmp_path / "other.gguf"
    other.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SourceError, match=r"tiny\.gguf must be a GGUF file, but begins with b'vers'\. Copy it again"):
        read_header(named(other))
    other.write_bytes(b"GGUF" + (3).to_bytes(4, "big") + bytes(16))
    with pytest.raises(SourceError, match="must have GGUF version 2 or 3 in little-endian order, but has 50331648"):
        read_header(named(other))


def test_one_of_several_files_is_refused(tmp_path):
    split = write_gguf(tmp_path / "a.gguf", values={"split.count": 3, "split.no": 1})
    with pytest.raises(
        SourceError, match=r"must be a whole GGUF file, but is part 2 of 3\. Merge them \(`llama-gguf-split --merge`\)"
    ):
        read_header(named(split))


def test_an_architecture_that_cannot_be_read_is_refused(tmp_path):
    strange = write_gguf(tmp_path / "a.gguf", architecture="owlformer")
    with pytest.raises(
        SourceError, match=r"must have an architecture that transformers reads from GGUF \(.*llama.*\), but has owlformer"
    ):
        convert_gguf(named(strange), dtype="float32", out=tmp_path, scratch=tmp_path)


def test_a_file_that_is_no_language_model_is_refused(tmp_path):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        SourceError, match=r"must describe a language model with its tokenizer, but has no tokenizer\.ggml\.tokens"
    ):
        read_header(named(tmp_path / "a.gguf"))


def test_a_file_that_lacks_a_weight_is_refused(tmp_path):
    partial = write_gguf(tmp_path / "a.gguf", without=("blk.1.ffn_up.weight",))
    with pytest.raises(
        SourceError, match=r"must hold every weight of LlamaForCausalLM, but lacks 1: model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        convert_gguf(named(partial), dtype="float32", out=tmp_path, scratch=tmp_path)
