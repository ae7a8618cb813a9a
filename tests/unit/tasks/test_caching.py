from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.params.fusion import Phase
from models.params.runtime import Runtime
from tasks.artifact import publish
from tasks.caching import Execution, Work, canonical, step_key


def scored(phase: Phase, names: list[str], *, runtime: Runtime, work: Work) -> Mapping[str, Any]:
    return {}


def key(**arguments: Any) -> str:
    base = {"phase": Phase(w_infer=1, w_train=0), "names": ["a"], "runtime": Runtime()}
    return step_key(scored, {**base, **arguments}, name="scored")


def test_the_same_call_has_the_same_key() -> None:
    assert key() == key()


def test_a_param_changes_the_key() -> None:
    assert key() != key(phase=Phase(w_infer=1, w_train=0.1))
    assert key() != key(names=["a", "b"])


def test_execution_choices_do_not() -> None:
    class Where(Execution):
        pass

    assert key() == key(runtime=Runtime(device="cuda:1", workers=7, threads=3))
    assert key(where=Where()) == key()


def test_the_name_is_part_of_the_key() -> None:
    assert step_key(scored, {}, name="a") != step_key(scored, {}, name="b")


def test_an_artifact_counts_by_its_content(tmp_path: Path) -> None:
    for name, text in (("x", "1"), ("y", "1"), ("z", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(text)
    x, y, z = (publish(tmp_path / n, "k", meta={}) for n in "xyz")
    assert key(data=x) == key(data=y) != key(data=z)


@pytest.mark.parametrize("value", [{1, 2}, object(), Path("x"), b"bytes", {1: "a"}, lambda: 0])
def test_a_value_without_stable_identity_raises_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"scored\.names\[0\]"):
        canonical([value], "scored.names")


def test_true_and_one_differ() -> None:
    import json

    assert json.dumps(canonical(True, "x")) != json.dumps(canonical(1, "x"))
