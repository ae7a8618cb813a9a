"""Model card of a fused model: description, training, results, limits of use, and loading."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import DataError, Problem
from models.evaluation.fusion.scores import ALL_FAMILIES, ComparisonRow, System, TableRow
from models.reporting.formatting import fixed
from models.reporting.grids import Cell, Grid, comparison_grid, score_grid, to_markdown
from models.schema import ResolvedSource

_LOAD = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = {folder}
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Hello"}}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens=128, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```"""

_METHODS = {
    "sft": "supervised fine-tuning on the ground truth, without any teacher (the control)",
    "fusellm": "training mode only: the source with the lowest cross-entropy on the ground truth teaches (FuseLLM)",
    "inference_only": "inference mode only: the source whose answer wins the vote teaches",
    "profuser": "progressive fusion: inference mode, then training mode with replay of the first (ProFuser, arXiv 2408.04998)",
    "simul": "both modes at once (the ablation SimulFuse of ProFuser)",
    "reverse": "training mode first, then inference mode (the ablation ReverseFuse of ProFuser)",
}
_OWN_SCHEDULE = "a schedule of its own, see below"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Content of a model card.

    Attributes:
        name: Name of the model.
        method: Fusion method.
        target: The model that was trained.
        sources: The models that taught, the target among them.
        phases: The schedule as run: rows with w_infer, w_train, beta, lr, first_step, last_step (`FusionRecord.to_json`).
        settings: Further settings: top-k, temperature, batch size, alignment, …
        data: Training data: name → description or count.
        table: The results table; the rows of this model and of what it is compared with.
        comparisons: Paired differences.
        confidence: Level of the intervals.
        licences: Source or data set → licence, as far as known.
        limits: Further known limits.
        provenance: Name → value: params digest, commit, versions.
    """

    name: str
    method: str
    target: ResolvedSource
    sources: Sequence[ResolvedSource]
    phases: Sequence[Mapping[str, Any]]
    table: Sequence[TableRow]
    comparisons: Sequence[ComparisonRow] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    confidence: float = 0.95
    licences: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


def render_model_card(card: ModelCard) -> str:
    """Return the README.md, with front matter for model hubs. No path of the machine it was made on is in it.

    Raises:
        DataError: The results table has no row of this model.
    """
    system = System(card.method, "method", card.target.name)
    if not any(row.system == system for row in card.table):
        known = ", ".join(dict.fromkeys(row.system.label for row in card.table))
        problem = Problem("`table`", f"must hold rows of `{system.label}`", known or "empty", "Evaluate the model first.")
        raise DataError("The model card cannot be written", [problem])
    parts = [
        _front_matter(card),
        f"# {card.name}",
        f"{card.target.name} ({card.target.architecture}, {card.target.num_parameters:,} parameters), taught by "
        f"{_listed([s.name for s in card.sources])}. Method: `{card.method}`, {_METHODS.get(card.method, _OWN_SCHEDULE)}.",
        "## Scores",
        _scores(card),
        "## How it was made",
        to_markdown(_source_grid(card)),
        to_markdown(_schedule_grid(card)),
        _facts({**card.settings, **{f"data: {name}": text for name, text in card.data.items()}}),
        "## How to load it",
        _LOAD.format(folder=json.dumps(card.name)),
        f"Use the chat template saved with the tokenizer; the context is {card.target.context_length:,} tokens.",
        "## Limits",
        _limits(card),
        "## Licence",
        _licence(card),
        "## Provenance",
        _facts(card.provenance),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: ModelCard) -> str:
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "license: other"]
    lines += ["tags:", *(f"- {tag}" for tag in ("fusedial", "model-fusion", card.method))]
    hubs = [source.location for source in card.sources if source.digest.startswith("hub:")]
    if hubs:
        # JSON strings are YAML strings, whatever is in them.
        lines += ["base_model:", *(f"- {json.dumps(name)}" for name in hubs)]
    return "\n".join([*lines, "---"])


def _scores(card: ModelCard) -> str:
    """Return the tables of every metric, then the differences of this model over all families."""
    metrics = list(dict.fromkeys(row.metric for row in card.table))
    tables = [to_markdown(score_grid(card.table, metric=metric)) for metric in metrics]
    mine = [row for row in card.comparisons if (row.a.name, row.a.target) == (card.method, card.target.name)]
    grids = [comparison_grid(mine, metric=metric, family=ALL_FAMILIES) for metric in metrics]
    differences = [to_markdown(grid) for grid in grids if grid.rows]
    heading = ["### Paired differences"] if differences else []
    note = (
        f"Held-out examples; brackets hold the {100 * card.confidence:g} % bootstrap interval over examples. "
        "Differences are paired; p is two-sided and not corrected for the number of comparisons."
    )
    return "\n\n".join([*tables, *heading, *differences, note])


def _source_grid(card: ModelCard) -> Grid:
    rows = tuple(
        (
            Cell(source.name),
            Cell("target" if source.name == card.target.name else "source"),
            Cell(_identity(source)),
            Cell(source.architecture),
            Cell(f"{source.num_parameters:,}"),
        )
        for source in card.sources
    )
    return Grid("models", ("name", "role", "model", "architecture", "parameters"), rows, num_text=4)


def _schedule_grid(card: ModelCard) -> Grid:
    rows = tuple(
        (
            Cell(str(number)),
            Cell(f"{phase['first_step']}–{phase['last_step']}"),
            *(Cell(f"{phase[key]:g}") for key in ("w_infer", "w_train", "beta", "lr")),
        )
        for number, phase in enumerate(card.phases, start=1)
    )
    header = ("phase", "steps", "w1 (inference mode)", "w2 (training mode)", "β", "peak learning rate")
    return Grid("schedule: L = w1·L_infer + w2·L_train, each L_SFT + β·KL(source ‖ target)", header, rows)


def _identity(source: ResolvedSource) -> str:
    """Return the hub name and revision, or the digest of a local model (its folder means nothing elsewhere)."""
    if source.digest.startswith("hub:"):
        return f"{source.location}@{source.revision}"
    return f"local, sha256 {source.digest[:12]}"


def _limits(card: ModelCard) -> str:
    fixed_limits = [
        "Scores are on held-out rows of the corpus it was trained on; other data is not measured.",
        "It inherits the faults and biases of every source, and of the answers it was trained on.",
        "Differences marked `unclear` are within the noise of the evaluation.",
    ]
    left_out = max((row.left_out for row in card.table), default=0)
    if left_out:
        fixed_limits.append(f"{fixed(left_out, 0)} held-out examples could not be scored by every system and count for none.")
    return "\n".join(f"- {limit}" for limit in [*fixed_limits, *card.limits])


def _licence(card: ModelCard) -> str:
    lines = [f"- {name}: {licence}" for name, licence in card.licences.items()]
    unknown = [source.name for source in card.sources if source.name not in card.licences]
    if unknown:
        lines.append(f"- {_listed(unknown)}: not recorded; look it up before passing the model on")
    note = "The weights derive from the models and the data below, whose licences all apply."
    return "\n".join([note, "", *lines])


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
