from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.params.corpus import CorpusParams, CorpusSet
from models.params.dialogue_evaluation import DialogueEvaluationParams
from models.params.fusion import Phase
from models.params.retriever import RetrieverParams
from models.params.runtime import Runtime
from tasks.artifact import Artifact, publish
from tasks.caching import IDENTITY, Execution, Work, canonical, step_key


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


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_data_counts_by_its_content_not_its_place(kind: str, tmp_path: Path) -> None:
    def named(place: str, text: str) -> str:
        path = tmp_path / place
        if kind == "folder":
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        (path / "x" if kind == "folder" else path).write_text(text)
        return key(cfg=CorpusParams(kind="files", sets=(CorpusSet(name="s", path=str(path)),)))

    assert named("here", "1") == named("elsewhere/there", "1") != named("other", "2")
    relative = CorpusParams(kind="files", sets=(CorpusSet(name="s", path="here"),))
    assert key(cfg=relative) == key(cfg=CorpusParams(kind="files", sets=(CorpusSet(name="s", path=str(tmp_path / "here")),)))


def test_names_that_are_not_paths_count_as_they_are(tmp_path: Path) -> None:
    before = key(cfg=RetrieverParams(encoder="pico"))
    (tmp_path / "pico").mkdir()
    assert key(cfg=RetrieverParams(encoder="pico")) == before
    assert key(cfg=RetrieverParams(encoder="org/one", revision="1")) != key(cfg=RetrieverParams(encoder="org/two", revision="1"))


def test_a_list_of_values_that_was_edited_is_another(tmp_path: Path) -> None:
    cfg = DialogueEvaluationParams(entity_list="values.json")
    (tmp_path / "values.json").write_text("[]")
    before = key(cfg=cfg)
    (tmp_path / "values.json").write_text('["a"]')
    assert key(cfg=cfg) != before


def test_an_artifact_that_holds_a_path_counts_by_its_identity(tmp_path: Path) -> None:
    def made(name: str, identity: str) -> Artifact:
        (tmp_path / name).mkdir()
        (tmp_path / name / "place").write_text(name)
        return publish(tmp_path / name, "k", meta={IDENTITY: identity})

    assert key(data=made("a", "one")) == key(data=made("b", "one")) != key(data=made("c", "two"))
