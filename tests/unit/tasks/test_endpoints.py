"""Endpoints by name, and which of their failures are worth another attempt."""

from dataclasses import dataclass

import pytest

from models.errors import BackendError, DataError
from models.params.runtime import Runtime
from tasks.caching import _endpoint_failed
from tasks.endpoints import endpoint


@dataclass
class Failed:
    """Stands for Prefect's state of a failed task run."""

    error: Exception

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BackendError("is away", transient=True), True),
        (BackendError("refuses the key"), False),
        (DataError("Bad rows", []), False),
        (RuntimeError("a bug"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    assert _endpoint_failed(None, None, Failed(error)) is again  # type: ignore[arg-type]


def test_an_endpoint_without_address_fails_at_once_with_the_setting() -> None:
    with pytest.raises(BackendError, match=r"must name the server of `b`, but has a\. Add `-S runtime.endpoints.b=") as caught:
        endpoint("b", runtime=Runtime(endpoints={"a": "http://127.0.0.1:1"}))
    assert not caught.value.transient


def test_the_key_comes_from_the_environment_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-general")
    monkeypatch.setenv("FUSEDIAL_KEY_MY_JUDGE_1", "sk-special")
    runtime = Runtime(endpoints={"my-judge.1": "http://127.0.0.1:1", "other": "http://127.0.0.1:1"})
    for name, key in (("my-judge.1", "sk-special"), ("other", "sk-general")):
        with endpoint(name, runtime=runtime) as client:
            assert client._http._headers["Authorization"] == f"Bearer {key}"
            assert key not in repr(client) and client.model == name
