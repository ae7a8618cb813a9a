"""The results of a pipeline as a Markdown artifact of its flow run: tables, and links to the runs, pages and cards."""

import re
from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact

from flows.context import StageContext, git_commit
from flows.servers import ADDRESSES
from flows.stages import Half
from flows.summary import dialogue_grids, fusion_grids
from models.reporting.grids import to_markdown
from tasks.tracking import compare_page, file_page, parent_page, table_page, tracking_uri

PREFIXES: dict[Half, str] = {"fusion": "fuse-", "dialogue": "dialogue-"}
# Of the table of an experiment's runs, the best by the first metric on top.
COLUMNS: dict[Half, dict[str, list[str]]] = {
    "fusion": {
        "metrics": ["final/accuracy_all", "final/bits_per_byte_all"],
        "params": ["method", "target", "steps", "budget"],
    },
    "dialogue": {
        "metrics": ["final/entity_f1_all", "final/bleu_all", "final/recall_value@1_all", "final/recall_id@1_all"],
        "params": ["variant", "meta_knowledge", "objective"],
    },
}


def publish_results(ctx: StageContext, halves: Sequence[Half]) -> None:
    """Show the results with the present flow run; the artifact's key names the profile, so that its versions line up."""
    key = re.sub(r"[^a-z0-9]+", "-", f"results-{ctx.params.profile}-{'-'.join(halves)}".lower()).strip("-")
    about = f"Results of profile {ctx.params.profile}, commit {git_commit(ctx.root)}"
    create_markdown_artifact(results_markdown(ctx, halves), key=key, description=about)


def results_markdown(ctx: StageContext, halves: Sequence[Half]) -> str:
    """Return the tables and links of the halves."""
    overrides = "".join(f" -S '{text}'" for text in ctx.overrides)
    parts = [
        f"# {ctx.params.profile}",
        f"Commit `{git_commit(ctx.root)}`. The same again: "
        f"`python -m flows run {halves[0] if len(halves) == 1 else 'pipeline'} --profile {ctx.params.profile}{overrides}`",
    ]
    for half in halves:
        grids = {"fusion": fusion_grids, "dialogue": dialogue_grids}[half](ctx)
        parts += [f"## {half.capitalize()}", *map(to_markdown, grids), links(ctx, half)]
    return "\n\n".join(parts) + "\n"


def links(ctx: StageContext, half: Half) -> str:
    """Return where the half's runs, page and cards are, as a list: in the MLflow UI, and the folder they are in anyway."""
    server, tracking, parent = mlflow_address(ctx), ctx.params.tracking, ctx.parent(half)
    found = [
        ("The runs side by side", compare_page(parent, tracking=tracking, server=server, prefixes=(PREFIXES[half],))),
        ("All runs with their final scores", table_page(half, tracking=tracking, server=server, **COLUMNS[half])),
        ("The run of this pipeline, its params and figures", parent_page(parent, tracking=tracking, server=server)),
        ("The result page", file_page(parent, "index.html", tracking=tracking, server=server)),
    ]
    home = ctx.out("report", half)
    cards = sorted(path.name for path in home.glob("cards/*.md"))
    found += [(f"Model card {n}", file_page(parent, f"cards/{n}", tracking=tracking, server=server)) for n in cards]
    lines = [f"- [{text}]({address})" for text, address in found]
    return "\n".join([*lines, f"- On disk: `{home.relative_to(ctx.root)}`. The links need the MLflow server (`make ui`)."])


def mlflow_address(ctx: StageContext) -> str:
    """Return where the MLflow UI is: the tracking server, or the one that `make ui` starts."""
    uri = tracking_uri(ctx.params.tracking)
    return re.sub(r"//[^/@]*@", "//", uri).rstrip("/") if uri.startswith("http") else ADDRESSES["mlflow"]
