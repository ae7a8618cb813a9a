"""A plan file → validated plan, and the params of each of its runs; every error at once, with file and line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from flows.context import StageContext
from flows.params.file import Override, load_params, validated
from flows.params.tree import KeyPath, Node, Origin, parse_path
from flows.params.yaml_tree import invalid, read_params_yaml
from models.errors import ParamsError, Problem
from models.params.ablation import AblationPlan, Arm, Regime

_EXECUTION = ("runtime", "tracking")


@dataclass(frozen=True, slots=True)
class Item:
    """One run: an arm in a regime with a seed."""

    regime: str
    arm: str
    seed: int

    @property
    def label(self) -> str:
        """How it is called in messages."""
        return f"{self.regime} · {self.arm} · seed {self.seed}"


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan with the place of each of its values.

    Attributes:
        root: Project folder.
        file: The plan file as messages name it, relative to the project where it lies there.
        plan: Its content.
        tree: The same with lines.
        execution: `-S runtime.…` and `tracking.…` of this execution, which decide no result.
    """

    root: Path
    file: str
    plan: AblationPlan
    tree: Node
    execution: tuple[str, ...] = ()

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment, of the folder of outputs, and of the figures."""
        return f"ablation-{self.plan.name}"

    def items(self, *, regimes: Sequence[str] = (), seeds: Sequence[int] = (), arms: Sequence[str] = ()) -> list[Item]:
        """Return all runs, or those of some regimes, seeds and arms; runs that share data and sources follow each other.

        Raises:
            ParamsError: A name or seed is not in the plan.
        """
        plan = self.plan
        checks = (("regime", regimes, tuple(plan.regimes)), ("seed", seeds, plan.seeds), ("arm", arms, tuple(plan.arms)))
        strange = [
            Problem(f"`--only-{option}`", f"must be one of {', '.join(map(str, known))} ({self.file})", str(name))
            for option, given, known in checks
            for name in given
            if name not in known
        ]
        if strange:
            raise invalid(strange)
        return [
            Item(regime, arm, seed)
            for regime in regimes or plan.regimes
            for seed in seeds or plan.seeds
            for arm in arms or plan.arms
            if plan.runs_in(arm, regime) and seed in plan.seeds_of(arm)
        ]

    def context(self, item: Item, *, chosen: Mapping[str, Any] | None = None, place: str = "") -> StageContext:
        """Return the params of one run, whose outputs go to a folder of its own (`place` below it).

        Args:
            item: The run.
            chosen: Values of the arm's grid.
            place: A part of the folder, such as one for a candidate of the grid.

        Raises:
            ParamsError: They are not valid.
        """
        folder = "/".join(part for part in (self.experiment, item.regime, str(item.seed), item.arm, place) if part)
        return StageContext.load(
            overrides=self.overrides(item, chosen or {}),
            place=folder,
            experiment=f"{self.experiment}-stages",
        )

    def overrides(self, item: Item, chosen: Mapping[str, Any]) -> list[Override | str]:
        """Return what leads from params.yaml to the params of one run, each with its place in the plan."""
        return [*self._overrides(item, chosen), *self.execution]

    def _overrides(self, item: Item, chosen: Mapping[str, Any]) -> Iterator[Override]:
        for place in (("set",), ("regimes", item.regime, "set"), ("arms", item.arm, "set")):
            yield from _settings(_find(self.tree, place))
        here = Origin(self.file, 0)
        yield Override(("profile",), _find(self.tree, ("regimes", item.regime, "profile")) or Node("", here))
        for key in self.plan.vary:
            yield Override(_path(key, here), Node(item.seed, _origin(self.tree, ("vary",), here)))
        for key, value in chosen.items():
            yield Override(_path(key, here), _node(value, here))
        method = _find(self.tree, ("arms", item.arm, "method")) or Node(self.plan.arms[item.arm].method, here)
        yield Override(("methods",), Node([method], method.origin))
        # Scores are what is kept of a run.
        yield Override(("tracking", "log_models"), Node(False, here))
        # The dialogue half is not run, and may name methods that this run does not train.
        yield Override(("dialogue_evaluation", "in_context"), Node([], here))


def read_plan(root: Path, file: Path, *, execution: Sequence[str] = ()) -> LoadedPlan:
    """Read and validate a plan, and the params of every arm in every regime.

    Args:
        root: Project folder.
        file: The plan, relative to the working directory or the project.
        execution: Overrides `runtime.…=…` and `tracking.…=…`.

    Raises:
        ParamsError: One `Problem` per finding.
    """
    place = file if file.is_file() else root / file
    label = str(place.resolve().relative_to(root) if place.resolve().is_relative_to(root) else file)
    if not place.is_file():
        known = ", ".join(sorted(str(p.relative_to(root)) for p in (root / "profiles" / "ablations").glob("*.yaml")))
        raise invalid([Problem(f"`--plan {file}`", "must be a file", hint=f"Plans: {known}." if known else "")])
    tree = read_params_yaml(place, label)
    _refuse_results(execution)
    loaded = LoadedPlan(root, label, validated(AblationPlan, tree, suggest=_suggest), tree, tuple(execution))
    problems = list(_bad_keys(loaded)) or _bad_params(loaded)
    if problems:
        raise invalid(problems)
    return loaded


def _refuse_results(execution: Sequence[str]) -> None:
    strange = [text for text in execution if text.partition(".")[0] not in _EXECUTION]
    if strange:
        rule = "must begin with `runtime.` or `tracking.` in an ablation"
        raise invalid([Problem(f"`-S {text}`", rule, hint="What decides results goes into the plan: `set`.") for text in strange])


def _bad_keys(loaded: LoadedPlan) -> Iterator[Problem]:
    """Yield the keys of settings, grids and `vary` that lead nowhere in any spelling."""
    plan = loaded.plan
    tables: list[tuple[KeyPath, Sequence[str]]] = [
        (("set",), list(plan.set)),
        (("grid",), list(plan.grid)),
        (("vary",), plan.vary),
    ]
    tables += [(("regimes", name, "set"), list(regime.set)) for name, regime in plan.regimes.items()]
    for name, arm in plan.arms.items():
        tables += [(("arms", name, "set"), list(arm.set)), (("arms", name, "grid"), list(arm.grid or ()))]
    for place, keys in tables:
        for key in keys:
            if parse_path(key) is None:
                origin = _origin(loaded.tree, place, Origin(loaded.file, 0))
                yield Problem(f"`{key}`", f"must be a key such as `fusion.lr` ({origin})")


def _bad_params(loaded: LoadedPlan) -> list[Problem]:
    """Return what is wrong with the params of any arm in any regime, each finding once."""
    found: dict[str, Problem] = {}
    for item in loaded.items(seeds=()):
        if item.seed != loaded.plan.seeds_of(item.arm)[0]:
            continue
        for chosen in candidates(loaded.plan.grid_of(item.arm)):
            try:
                load_params(loaded.root, overrides=loaded.overrides(item, chosen))
            except ParamsError as error:
                for problem in error.problems:
                    where = f"regime `{item.regime}`, arm `{item.arm}`: {problem.where}"
                    found.setdefault(str(problem), Problem(where, problem.rule, problem.value, problem.hint))
    return list(found.values())


def candidates(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the grid's values; without a grid one that sets nothing."""
    found: list[dict[str, Any]] = [{}]
    for key, values in grid.items():
        found = [{**one, key: value} for one in found for value in values]
    return found


def _settings(node: Node | None) -> Iterator[Override]:
    for key, value in ((node and node.mapping) or {}).items():
        yield Override(_path(key, value.origin), value)


def _path(key: str, origin: Origin) -> KeyPath:
    path = parse_path(key)
    if path is None:
        raise invalid([Problem(f"`{key}`", f"must be a key such as `fusion.lr` ({origin})")])
    return path


def _find(tree: Node, path: KeyPath) -> Node | None:
    node: Node | None = tree
    for part in path:
        node = node.child(part) if node is not None else None
    return node


def _origin(tree: Node, path: KeyPath, otherwise: Origin) -> Origin:
    node = _find(tree, path)
    return otherwise if node is None else node.origin


def _node(value: Any, origin: Origin) -> Node:
    """Return a plain value as a tree."""
    if isinstance(value, Mapping):
        return Node({key: _node(below, origin) for key, below in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Node([_node(below, origin) for below in value], origin)
    return Node(value, origin)


def _suggest(path: KeyPath) -> str:
    """Return what to write instead of an unknown key of a plan."""
    section = {1: AblationPlan, 3: Regime if path[0] == "regimes" else Arm}.get(len(path), AblationPlan)
    names = list(section.model_fields)
    close = get_close_matches(str(path[-1]), names, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(f'`{name}`' for name in sorted(names))}."


def shown_value(value: Any) -> str:
    """Return a value as a plan would have it."""
    return value if isinstance(value, str) else json.dumps(value)
