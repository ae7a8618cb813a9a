"""Sources that are outputs of other profiles: a fused model may teach the next round, never the one that made it."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows.sources import _content
from models.errors import SourceError

WHERE = "`sources.models[student].model`"
STUDENT = "artifacts/first/fuse/profuser/solver/model"


def context(root: Any, profile: str) -> Any:
    return SimpleNamespace(root=root, params=SimpleNamespace(profile=profile))


def test_a_fused_model_of_another_profile_counts_by_its_content(tmp_path) -> None:
    folder = tmp_path / STUDENT
    folder.mkdir(parents=True)
    digests = []
    for text in ("a", "b"):
        (folder / "config.json").write_text(text)
        digests.append(_content(context(tmp_path, "second"), STUDENT, WHERE))
    assert all(digests) and digests[0] != digests[1]


def test_one_that_is_not_there_says_which_profile_makes_it(tmp_path) -> None:
    with pytest.raises(SourceError) as error:
        _content(context(tmp_path, "second"), STUDENT, WHERE)
    command = "python -m flows run fusion --profile first -S 'methods=[profuser]'"
    assert str(error.value).endswith(f"an output of the profile `first`. Run that first: `{command}`")


@pytest.mark.parametrize("there", [True, False])
def test_no_profile_reads_its_own_outputs(tmp_path, there: bool) -> None:
    if there:
        (tmp_path / STUDENT).mkdir(parents=True)
    with pytest.raises(SourceError, match=r"models\[student\]\.model` must not be an output of the profile that reads it"):
        _content(context(tmp_path, "first"), STUDENT, WHERE)
