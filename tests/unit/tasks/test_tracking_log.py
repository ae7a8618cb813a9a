"""Names as MLflow takes them: checked by MLflow's own rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.tracking_log import metric_key, model_name, originals, safe_name, safe_text

NAMES = ["GSM8K (main)", "C++", "a,b", "q&a", "it's", "50%", "..", "x" * 260, "", 'a"b', "../x", "[x]", "a//b", "a\n", "`x`"]


def _is_taken(name: str) -> None:
    from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name, _validate_param_name, _validate_tag_name

    for validate in (_validate_metric_name, _validate_param_name, _validate_tag_name):
        validate(name)
    assert len(name) <= MAX_ENTITY_KEY_LENGTH


@given(st.text() | st.text(max_size=400) | st.sampled_from(NAMES))
def test_every_name_is_taken_and_its_original_is_kept(name: str) -> None:
    for mapped in (safe_name(name), metric_key(f"final/accuracy_{name}"), *originals([name])):
        _is_taken(mapped)
    changed = metric_key(name) != name.replace("@", "_at_")
    assert originals([name]) == ({f"original.{metric_key(name)}": safe_text(name)} if changed else {})


@pytest.mark.parametrize("name", ["wins/train_gsm8k", "final/recall_at_1", "知识", "café au lait", "a.b-c:d/e"])
def test_a_name_that_is_taken_stays(name: str) -> None:
    assert safe_name(name) == name == metric_key(name)


def test_names_that_become_one_stay_apart() -> None:
    for pair in (("C+", "C#"), ("x" * 300 + "a", "x" * 300 + "b"), ("a b?", "a b!"), ("a/", "a/.")):
        assert len({safe_name(name) for name in pair}) == 2
    assert len({model_name(name) for name in ("a.b", "a:b", "a_b")}) == 3


def test_metrics_at_k_are_readable() -> None:
    assert metric_key("recall@5/pool") == "recall_at_5/pool"


def test_values_are_cut_and_can_be_encoded() -> None:
    assert safe_text("a\0b\ud800c") == "a�b?c"
    assert len(safe_text("x" * 9000)) == 5000
