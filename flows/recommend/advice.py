"""From a pilot's findings to advice: the table, the sentence, and what to write into the profile."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.plan.plan import duration, estimates, on_cpu, planned_seconds
from flows.recommend.candidates import Candidate
from flows.recommend.pilot import BUDGET
from flows.recommend.run import Findings
from models.evaluation.bootstrap import Resampling
from models.evaluation.fusion.recommendation import Recommendation, Verdict, recommend, with_mean_reward
from models.evaluation.fusion.scores import ACCURACY, BITS_PER_BYTE, System
from models.params.evaluation import EvaluationParams
from models.params.root import Params
from models.reporting.formatting import difference_unit, format_interval, format_metric, metric_name

_REPLAYING = ("profuser", "reverse")


@dataclass(frozen=True, slots=True)
class Cost:
    """What the full run of a candidate takes, as `plan` estimates it; None where sizes are not known.

    Attributes:
        seconds: The fusion half.
        host_bytes: Peak of main memory; on a CPU with what a device would hold.
        device_bytes: Peak of one process on its accelerator; 0 on a CPU.
    """

    seconds: float
    host_bytes: int
    device_bytes: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        findings: What the pilot has shown.
        params: Params of the profile.
        systems: Candidate → its name in the comparison.
        costs: Candidate → what its full run takes.
        choice: What the metrics say; None where nothing measures a difference.
    """

    findings: Findings
    params: Params
    systems: Mapping[str, System]
    costs: Mapping[str, Cost | None]
    choice: Recommendation | None

    @property
    def pick(self) -> Candidate | None:
        """The candidate to use; None where nothing could be run or compared."""
        able = self.able
        if self.choice is not None:
            return self.candidate(self.choice.pick)
        return able[0] if len(able) == 1 else None

    @property
    def able(self) -> list[Candidate]:
        """Candidates that have been run."""
        return [c for c in self.findings.candidates if c.name in self.findings.measured]

    def candidate(self, system: System) -> Candidate:
        """Return the candidate of a system."""
        return next(c for c in self.able if self.systems[c.name] == system)


def advise(findings: Findings) -> Advice:
    """Compare the candidates of a pilot, paired by validation row, and choose."""
    params = findings.wanted.context("whole").params
    able = [c for c in findings.candidates if c.name in findings.measured]
    systems = {c.name: System(c.label, "method", params.fusion.targets[0]) for c in able}
    costs = {c.name: full_cost(findings, c) for c in able}
    blind = [s.name for s in params.teach.rewards.scorers if s.grades and not s.sees_truth]
    scores = with_mean_reward({systems[c.name]: findings.measured[c.name].rows for c in able} | findings.baselines, blind)
    how = _resampling(params.evaluation)
    order = {systems[c.name]: _price(costs[c.name], rank) for rank, c in enumerate(able)}
    choice = recommend(scores, list(systems.values()), costs=order, resampling=how) if able else None
    return Advice(findings, params, systems, costs, choice)


def full_cost(findings: Findings, candidate: Candidate) -> Cost | None:
    """Return what the full run of a candidate takes on this machine."""
    wanted = findings.wanted
    given = {BUDGET: wanted.settings.get(BUDGET, "ground_truth"), "methods": [candidate.method], **candidate.settings}
    ctx = wanted.context("whole", {**given, "dialogue_evaluation.in_context": []})
    known = estimates(ctx, "fusion")
    if not known:
        return None
    seconds = sum(planned_seconds(e, runtime=ctx.params.runtime, planning=ctx.params.planning) for e in known)
    if on_cpu(ctx.params.runtime.device):
        return Cost(seconds, max(e.host_bytes + e.device_bytes for e in known), 0)
    return Cost(seconds, max(e.host_bytes for e in known), max(e.device_bytes for e in known))


def sentences(advice: Advice) -> list[str]:
    """Return the recommendation with its reason, what disagrees with it, and what it does not show."""
    choice, pick = advice.choice, advice.pick
    if pick is None:
        return [_nothing(advice)]
    if choice is None:
        return [f"Use `{pick.label}`: it is all that can be run. Nothing measures what it gains: {_missing(advice)}"]
    cost = advice.costs[pick.name]
    takes = "" if cost is None else f" The full run takes about {duration(cost.seconds)}."
    told = [_reason(advice, choice.lead, pick) + takes]
    if choice.alternative is not None and choice.second is not None:
        told.append(_both(choice.lead, choice.second, pick=pick, other=advice.candidate(choice.alternative)))
    return [*told, *_doubts(advice, choice)]


def _reason(advice: Advice, lead: Verdict, pick: Candidate) -> str:
    value = _value(lead, lead.pick)
    if len(advice.able) == 1:
        return f"Use `{pick.label}`: it is all that can be run ({value})."
    if lead.clear:
        nearest = min(
            (d for s, d in lead.differences.items() if s in advice.systems.values()), key=lambda d: abs(d.value), default=None
        )
        gap = "" if nearest is None else f", {_apart(lead.metric, nearest.value)} from `{nearest.a.name}`, the next"
        return f"Use `{pick.label}`: it is the best in {metric_name(lead.metric)} ({value}{gap}), and the interval excludes zero."
    *names, last = [f"`{s.name}`" for s in lead.equals]
    return (
        f"unclear: in {metric_name(lead.metric)} the intervals do not tell {', '.join(names)} and {last} apart. "
        f"Use `{pick.label}` ({value}), the cheapest of them; a larger `--limit` or more validation rows may tell."
    )


def _apart(metric: str, gap: float) -> str:
    return f"{format_metric(metric, abs(gap))} {difference_unit(metric)}".rstrip()


def _both(lead: Verdict, second: Verdict, *, pick: Candidate, other: Candidate) -> str:
    """Name both choices, and what each buys."""
    mine, theirs = lead.pick, second.pick
    if theirs in lead.equals:
        return (
            f"The metrics disagree. `{other.label}` is not told from `{pick.label}` in {metric_name(lead.metric)} "
            f"({_value(lead, theirs)} against {_value(lead, mine)}), but is better in bits per byte ({_value(second, theirs)} "
            f"against {_value(second, mine)}): take it if the likeness to the ground truths is worth what it costs."
        )
    return (
        f"The metrics disagree. `{pick.label}` buys {metric_name(lead.metric)}: {_value(lead, mine)} against "
        f"{_value(lead, theirs)}. `{other.label}` buys likeness to the ground truths: {_value(second, theirs)} bits per byte "
        f"against {_value(second, mine)}. Take `{other.label}` if answers are to be in the style and detail of the ground truths."
    )


def _doubts(advice: Advice, choice: Recommendation) -> list[str]:
    """Return what speaks against training at all, and what the figures do not show."""
    found = []
    lead = choice.lead
    for system, gain in lead.gains.items():
        if system.kind == "untrained" and gain.verdict != "better":
            found.append(
                f"Not even `{lead.pick.name}` is told from the untrained target in {metric_name(lead.metric)} "
                f"({format_metric(lead.metric, gain.value, signed=True)} "
                f"{format_interval(lead.metric, gain.low, gain.high, signed=True)}): nothing speaks for training it yet."
            )
    if lead.metric not in (ACCURACY, BITS_PER_BYTE):
        found.append("The scorers of this reward also vote for the winners, so it favours methods that train on winners.")
    pick = advice.pick
    if pick is not None and (rate := advice.findings.measured[pick.name].chosen.get("fusion.lr")) is not None:
        tried = advice.findings.wanted.rates or tuple(advice.params.fusion.lr * factor for factor in (0.5, 1.0, 2.0))
        if len(tried) > 1 and rate in (min(tried), max(tried)):
            found.append(f"`fusion.lr` {rate:g} is at the edge of what was tried: try more by `--lr`.")
    return found


def settings(advice: Advice, candidate: Candidate) -> dict[str, Any]:
    """Return the params that make the full run what the candidate was: dotted key → value."""
    found: dict[str, Any] = {BUDGET: advice.findings.wanted.settings.get(BUDGET, "ground_truth"), **candidate.settings}
    if candidate.method in _REPLAYING:
        found.setdefault("fusion.replay", advice.params.fusion.replay)
    return found | dict(advice.findings.measured[candidate.name].chosen)


def profile_lines(advice: Advice, candidate: Candidate) -> list[str]:
    """Return what to write into params.yaml (`methods`) and into the profile."""
    given = {key.removeprefix("fusion."): value for key, value in settings(advice, candidate).items()}
    return [f"methods: [{candidate.method}]  # params.yaml", "fusion:", *(f"  {k}: {_yaml(v)}" for k, v in given.items())]


def command(advice: Advice, candidate: Candidate) -> str:
    """Return the command of the full run, with what was given by `-S`."""
    wanted = advice.findings.wanted
    ours = {**settings(advice, candidate), "methods": [candidate.method]}
    # The dialogue half may name other fused models, which this run does not train.
    fused = [g.model for g in advice.params.dialogue_evaluation.in_context if g.model.startswith("fused:")]
    if any(name.removeprefix("fused:").partition("/")[0] != candidate.method for name in fused):
        ours["dialogue_evaluation.in_context"] = []
    kept = [text for text in wanted.overrides if text.partition("=")[0].strip() not in (*ours, "profile")]
    options = [*kept, *(f"{key}={_yaml(value)}" for key, value in ours.items())]
    return shlex.join(
        ["python", "-m", "flows", "run", "fusion", "--profile", wanted.profile, *(part for o in options for part in ("-S", o))]
    )


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def _nothing(advice: Advice) -> str:
    if not advice.findings.candidates:
        return "No method can be run on the pilot. Raise `--limit`, or see below."
    if not advice.able:
        return "No candidate could be run: see above."
    return f"Nothing tells the candidates apart: {_missing(advice)}"


def _missing(advice: Advice) -> str:
    return (
        "the validation split has no checks, no ground truths, and no scorer that sees none but confidence. Add ground truths or "
        "checks to some rows, or a reward model or judge to `teach.rewards.scorers`."
    )


def _price(cost: Cost | None, rank: int) -> float:
    """Return what a full run costs; where that is not known, the place among the candidates, which get dearer down the list."""
    return float(rank) if cost is None else round(cost.seconds)


def _value(verdict: Verdict, system: System) -> str:
    row = verdict.values[system]
    return f"{format_metric(verdict.metric, row.value)}{' %' if verdict.metric == ACCURACY else ''}"


def _resampling(cfg: EvaluationParams) -> Resampling:
    return Resampling(samples=cfg.bootstrap_samples, confidence=cfg.confidence, seed=cfg.seed)
