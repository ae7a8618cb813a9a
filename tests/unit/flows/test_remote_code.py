import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.context import StageContext
from models.errors import SourceError
from models.params.sources import SourceSpec
from tasks.artifact import MANIFEST
from tasks.workspace import project_root


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FUSEDIAL_ROOT", str(tmp_path))
    project_root.cache_clear()
    yield tmp_path
    project_root.cache_clear()


def context(root: Path, *, trust: bool) -> StageContext:
    spec = SourceSpec(name="owl", model="org/owl", revision="abc", trust_remote_code=trust)
    params = SimpleNamespace(profile="p", sources=SimpleNamespace(models=(spec,)))
    return StageContext(root=root, params=params)  # type: ignore[arg-type]


def doctored(root: Path, *parts: str, inner: str = ".") -> None:
    """An artifact in good order whose record asks for code."""
    folder = root.joinpath("artifacts/p", *parts)
    (folder / inner).mkdir(parents=True)
    text = json.dumps({"name": "owl", "trust_remote_code": True})
    (folder / inner / "source.json").write_text(text)
    path = (Path(inner) / "source.json").as_posix()
    files = [{"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}]
    (folder / MANIFEST).write_text(json.dumps({"schema": 1, "kind": "k", "files": files, "meta": {}}))


@pytest.mark.parametrize(
    ("parts", "inner"),
    [(("sources", "models", "owl"), "."), (("fuse", "sft", "owl"), "model"), (("sources", "reward_models", "rm"), ".")],
)
def test_a_record_alone_lets_no_code_run(project, parts, inner):
    doctored(project, *parts, inner=inner)
    with pytest.raises(
        SourceError, match=rf"`sources\.models\[{parts[-1]}\]\.trust_remote_code` must be true .*but is not, while"
    ):
        context(project, trust=False).input(*parts)
    if parts[1] != "reward_models":
        assert context(project, trust=True).input(*parts).kind == "k"


def test_reward_models_never_run_code_whatever_a_source_of_that_name_may(project):
    doctored(project, "sources", "reward_models", "owl")
    with pytest.raises(SourceError, match="must be true"):
        context(project, trust=True).input("sources", "reward_models", "owl")
