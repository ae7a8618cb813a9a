"""OpenAI-compatible endpoints by name: the URL from `runtime.endpoints`, the key from the environment, never logged."""

import os

from models.errors import BackendError
from models.generation.http import OpenAiClient
from models.params.runtime import Runtime


def endpoint(name: str, *, runtime: Runtime, model: str = "") -> OpenAiClient:
    """Return a client for the endpoint `name`; its key is FUSEDIAL_KEY_<NAME> or OPENAI_API_KEY.

    Raises:
        BackendError: `runtime.endpoints` has no such name.
    """
    url = runtime.endpoints.get(name)
    if url is None:
        known = ", ".join(sorted(runtime.endpoints)) or "none"
        raise BackendError(
            f"`runtime.endpoints` must name the server of `{name}`, but has {known}. Add `-S runtime.endpoints.{name}=http://…`."
        )
    variable = "FUSEDIAL_KEY_" + name.upper().replace("-", "_").replace(".", "_")
    key = os.environ.get(variable) or os.environ.get("OPENAI_API_KEY") or ""
    return OpenAiClient(url, model=model or name, api_key=key, timeout_s=runtime.timeout_s, concurrency=runtime.concurrency)
