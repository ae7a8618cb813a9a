"""A message to a webhook when a flow run fails or crashes."""

import json
import logging
import os
import urllib.request
from typing import Any
from urllib.error import URLError

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun
from prefect.utilities.urls import url_for

from flows.context import StageContext
from models.errors import FusedialError
from models.redaction import redact, register_address, register_secrets

WEBHOOK = "FUSEDIAL_FAILURE_WEBHOOK"
_ANSWER_S = 10.0
_log = logging.getLogger(__name__)


def report_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send {text, flow, run, profile, state, message, url} to the webhook, if there is one; stages leave it to the larger flow.

    A webhook that cannot be reached is a warning: the run's own error is what counts.
    """
    address = "" if flow_run.parent_task_run_id is not None else webhook_of(flow_run.parameters)
    if not address:
        return
    body = json.dumps(message_of(flow.name, flow_run, state)).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"}, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S):
            pass
    except (URLError, OSError, ValueError) as error:
        _log.warning("The failure webhook could not be reached: %s", redact(str(getattr(error, "reason", error))))


def webhook_of(parameters: dict[str, Any]) -> str:
    """Return the address that the environment names, else the params; "" where neither does, or the params cannot be read."""
    address = os.environ.get(WEBHOOK, "")
    if not address:
        try:
            ctx = StageContext.load(profile=parameters.get("profile"), overrides=parameters.get("overrides") or ())
        except (FusedialError, OSError):
            return ""
        address = ctx.params.runtime.failure_webhook
    if address:
        register_address(address)
        register_secrets(address)  # its path is often the secret
    return address


def message_of(flow: str, flow_run: FlowRun, state: State[Any]) -> dict[str, str]:
    """Return what is sent; chat services show `text`."""
    said = redact(" ".join((state.message or "").split()))[:1000]
    profile = str(flow_run.parameters.get("profile") or "")
    link = url_for(flow_run) or ""
    text = f"fusedial: {flow_run.name} {state.name}: {said} {link}".strip()
    return {
        **{"text": text, "flow": flow, "run": flow_run.name, "profile": profile},
        **{"state": str(state.name), "message": said, "url": link},
    }
