import logging
import sys
from types import SimpleNamespace

import pytest

from models.generation.token_estimate import bytes_as_tokens, text_counter


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("four", 1), ("fives", 2), ("éé", 1), ("🙂🙂", 2)])
def test_four_bytes_are_a_token(text, tokens):
    assert bytes_as_tokens(text) == tokens


def module(encoding_for_model):
    return SimpleNamespace(encoding_for_model=encoding_for_model)


def test_tiktoken_counts_where_it_knows_the_model(monkeypatch):
    encoding = SimpleNamespace(encode_ordinary=lambda text: text.split())
    monkeypatch.setitem(sys.modules, "tiktoken", module(lambda model: encoding if model == "gpt-x" else {}[model]))
    assert text_counter("gpt-x")("three small words") == 3
    assert text_counter("my-llama") is bytes_as_tokens


def test_without_tiktoken_or_network_tokens_are_estimated(monkeypatch, caplog):
    def no_network(model):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert text_counter("gpt-x") is bytes_as_tokens
    monkeypatch.setitem(sys.modules, "tiktoken", module(no_network))
    with caplog.at_level(logging.WARNING):
        assert text_counter("gpt-x") is bytes_as_tokens
    assert "cannot be fetched (ConnectionError)" in caplog.text


def test_the_real_tiktoken_does_not_know_local_models():
    pytest.importorskip("tiktoken")
    assert text_counter("tiny") is bytes_as_tokens
