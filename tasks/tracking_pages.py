"""Addresses of pages of the MLflow UI, and runs found by what a user calls them."""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from models.params.runtime import Tracking
from tasks.tracking_log import metric_key, safe_name
from tasks.tracking_runs import NAME, PARENT, client_of, experiment_id, search, tracking_uri

# The UI opens experiments as those of applications unless the address says that models are trained here.
_VIEW = {"workflowType": "machine_learning"}
SHARE = "final"
_SHARED = f"mlflow.sharedViewState.{SHARE}"


def compare_page(run_id: str, *, tracking: Tracking, server: str, prefixes: tuple[str, ...]) -> str:
    """Return the address of the UI page that compares the children of a run, those of earlier runs it links among them."""
    client = client_of(tracking_uri(tracking))
    parent = client.get_run(run_id)
    experiment = str(parent.info.experiment_id)
    children = client.search_runs([experiment], filter_string=f"tags.`{PARENT}` = '{run_id}'")
    ids = {str(r.info.run_name): str(r.info.run_id) for r in children}
    ids |= {k.removeprefix("linked."): v for k, v in parent.data.tags.items() if k.startswith("linked.")}
    chosen = [ids[name] for name in sorted(ids) if name.startswith(prefixes)]
    asked = {"runs": json.dumps(chosen), "experiments": json.dumps([experiment]), **_VIEW}
    return f"{server}/#/compare-runs?{urlencode(asked, quote_via=quote)}"


def parent_page(run_id: str, *, tracking: Tracking, server: str) -> str:
    """Return the address of a run's page."""
    experiment = client_of(tracking_uri(tracking)).get_run(run_id).info.experiment_id
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?{urlencode(_VIEW)}"


def file_page(run_id: str, file: str, *, tracking: Tracking, server: str) -> str:
    """Return the address of the page that shows one artifact of a run."""
    experiment = client_of(tracking_uri(tracking)).get_run(run_id).info.experiment_id
    return f"{server}/#/experiments/{experiment}/runs/{run_id}/artifacts/{quote(file)}?{urlencode(_VIEW)}"


def table_page(name: str, *, tracking: Tracking, server: str, metrics: Sequence[str], params: Sequence[str]) -> str:
    """Return the address of an experiment's table of runs with these columns, the best by the first metric on top.

    The UI takes columns from a view that is kept as a tag of the experiment.
    """
    client = client_of(tracking_uri(tracking))
    place = experiment_id(client, name)
    columns = [f"params.`{safe_name(p)}`" for p in params] + [f"metrics.`{metric_key(m)}`" for m in metrics]
    order = {"orderByKey": columns[len(params)], "orderByAsc": False} if metrics else {}
    shown = ["attributes.`Created`", "attributes.`Duration`", *columns]
    view = json.dumps({"selectedColumns": shown, **order}, sort_keys=True)
    if client.get_experiment(place).tags.get(_SHARED) != view:
        client.set_experiment_tag(place, _SHARED, view)
    return f"{server}/#/experiments/{place}/runs?{urlencode({'viewStateShareKey': SHARE, **_VIEW})}"


def find_run(tracking: Tracking, wanted: str, *, experiment: str, names: Mapping[str, str]) -> tuple[str, str | None]:
    """Find a run of the experiment by what it is about, its name or its id.

    Args:
        tracking: Where MLflow is.
        wanted: Value or key of `names`, or a run id; empty = the last of `names`.
        experiment: Experiment.
        names: Run name → what it is about.

    Returns:
        What the run is about ("" if `wanted` is none of it), and its id (None where nothing was recorded).
    """
    client = client_of(tracking_uri(tracking))
    name = next((n for n, about in names.items() if wanted in (n, about)), "") if wanted else list(names)[-1]
    where = [experiment_id(client, experiment)]
    if name:
        found = search(client, where[0], {NAME: safe_name(name)})
        return names[name], str(found.info.run_id) if found else None
    runs = [r for r in client.search_runs(where) if r.info.run_id == wanted]
    return (names.get(str(runs[0].info.run_name), ""), wanted) if runs else ("", None)
