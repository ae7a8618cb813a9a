"""params.yaml + profile + `-S` overrides → validated `Params`; every error at once, with key, rule, value and line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from flows.params.problems import Finding, Suggest, findings, mentions, origins_of, show, suggest_key
from flows.params.tree import KeyPath, Node, Origin, assign, merge, parse_path, without
from flows.params.yaml_tree import invalid, parse_yaml, read_params_yaml
from models.errors import ParamsError, Problem
from models.params.base import Section
from models.params.root import Params

PARAMS_FILE = "params.yaml"
PROFILES_FOLDER = "profiles"
# DVC reads these from params.yaml itself (`${profile}`, the matrices over methods and variants), before any profile is applied.
_NOT_IN_PROFILES = ("profile", "methods", "variants")
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class LoadedParams:
    """Validated parameters, and for every key that was written (`fusion.schedules.mine[1].lr`) where: file and line."""

    params: Params
    origins: Mapping[str, Origin]


@dataclass(frozen=True, slots=True)
class Override:
    """One param set over the profile: by `-S key=value`, or by a plan."""

    path: KeyPath
    value: Node


def load_params(root: Path, *, profile: str | None = None, overrides: Sequence[str | Override] = ()) -> LoadedParams:
    """Read params.yaml, lay profiles/<profile>.yaml over it, then the overrides, and validate.

    Mappings merge key by key; lists and single values are replaced whole. The profile is `profile` if given,
    else an override of `profile`, else what params.yaml says.

    Args:
        root: Project root, the folder of params.yaml.
        profile: Name of the profile (`--profile`), or None.
        overrides: Texts `key=value` (`-S`); keys as in `sources.models[0].pico.steps`, values as YAML. Or what is parsed.

    Raises:
        ParamsError: One `Problem` per finding, over all files and overrides.
    """
    parsed, problems = _parse_overrides(overrides)
    base = _read_base(root, problems)
    name = _profile_name(base, profile, parsed, problems)
    overlay = _read_profile(root, name, problems) if name is not None else None
    if base is None or overlay is None or name is None:
        raise invalid(problems)
    tree = merge(base, overlay)
    for override in parsed:
        try:
            tree = assign(tree, override.path, override.value)
        except ValueError as error:
            problems.append(Problem(str(error), f"({override.value.origin})"))
    tree = merge(tree, Node({"profile": name}, name.origin))
    params = validated(Params, tree, problems)
    return LoadedParams(params, origins_of(tree))


def available_profiles(root: Path) -> tuple[str, ...]:
    """Names of the profiles in the project, sorted."""
    return tuple(sorted(path.stem for path in (root / PROFILES_FOLDER).glob("*.yaml")))


def _parse_overrides(overrides: Sequence[str | Override]) -> tuple[list[Override], list[Problem]]:
    parsed, problems = [], []
    for text in overrides:
        if isinstance(text, Override):
            parsed.append(text)
            continue
        key, equals, value = text.partition("=")
        path = parse_path(key.strip())
        if not equals:
            problems.append(Problem(f"`-S {text}`", "must have the form `key=value`", hint="Example: `-S fusion.lr=1e-4`."))
        elif path is None:
            rule = "must begin with a key such as `fusion.lr` or `sources.models[0].name`"
            problems.append(Problem(f"`-S {text}`", rule))
        else:
            try:
                node = parse_yaml(value, f"`-S {text}`", lines=False)
            except ParamsError as error:
                problems += error.problems
            else:
                parsed.append(Override(path, _relabel(node, Origin("-S", 0))))
    return parsed, problems


def _relabel(node: Node, origin: Origin) -> Node:
    if (mapping := node.mapping) is not None:
        return Node({key: _relabel(below, origin) for key, below in mapping.items()}, origin)
    if (items := node.items) is not None:
        return Node([_relabel(below, origin) for below in items], origin)
    return Node(node.value, origin)


def _read_base(root: Path, problems: list[Problem]) -> Node | None:
    path = root / PARAMS_FILE
    if not path.is_file():
        problems.append(Problem(f"`{PARAMS_FILE}`", f"does not exist in {root}", hint="Run from the project root."))
        return None
    try:
        return read_params_yaml(path, PARAMS_FILE)
    except ParamsError as error:
        problems += error.problems
        return None


def _profile_name(base: Node | None, given: str | None, overrides: Sequence[Override], problems: list[Problem]) -> Node | None:
    """The profile to apply, with its origin; None if only the unreadable params.yaml would name it."""
    name = base.child("profile") or Node(Params.model_fields["profile"].default, base.origin) if base is not None else None
    for override in overrides:
        if override.path == ("profile",):
            name = override.value
            if given is not None and name.value != given:
                rule = f"contradicts `--profile {given}`"
                problems.append(Problem(f"`-S profile={name.value}`", rule, hint="Give one of the two."))
    return name if given is None else Node(given, Origin("--profile", 0))


def _read_profile(root: Path, name: Node, problems: list[Problem]) -> Node | None:
    known = available_profiles(root)
    if name.value not in known:
        close = get_close_matches(str(name.value), known, n=1)
        hint = f"Did you mean `{close[0]}`? " if close else ""
        have = f"Profiles: {', '.join(known)}." if known else f"There are none in {PROFILES_FOLDER}/."
        rule = f"must name a file of {PROFILES_FOLDER}/"
        problems.append(Problem("`profile`", rule, f"{show(name.plain())} ({name.origin})", f"{hint}{have}"))
        return None
    label = f"{PROFILES_FOLDER}/{name.value}.yaml"
    try:
        overlay = read_params_yaml(root / label, label)
    except ParamsError as error:
        problems += error.problems
        return None
    for key in _NOT_IN_PROFILES:
        if (node := overlay.child(key)) is not None:
            why = f"must not be set in a profile ({node.origin})"
            hint = f"DVC reads it from {PARAMS_FILE}: set it there, or by `-S {key}=…`."
            problems.append(Problem(f"`{key}`", why, hint=hint))
            overlay = without(overlay, (key,))
    return overlay


S = TypeVar("S", bound=Section)


def validated(section: type[S], tree: Node, problems: Sequence[Problem] = (), *, suggest: Suggest = suggest_key) -> S:
    """Validate in rounds, each without the keys found wrong before, so that checks across keys report theirs as well.

    (pydantic leaves out a section's own checks as soon as one of its keys is wrong.)

    Args:
        section: What the tree must be.
        tree: The tree.
        problems: What was found before.
        suggest: What to write in the stead of an unknown key.

    Raises:
        ParamsError: All problems.
    """
    known: list[Finding] = []
    for _ in range(_ROUNDS):
        try:
            made = section.model_validate(tree.plain())
        except ValidationError as error:
            fresh = [f for f in findings(error, tree, suggest=suggest) if _is_fresh(f, known)]
            if not fresh:
                break
            known += fresh
            for finding in fresh:
                tree = without(tree, finding.section_path)
        else:
            if not known and not problems:
                return made
            break
    raise invalid([*problems, *(f.problem for f in known)])


def _is_fresh(finding: Finding, known: Sequence[Finding]) -> bool:
    """Not a consequence of leaving out a wrong key: neither about it (nor its typo's true name), nor naming it."""
    if any(finding.path[: len(f.section_path)] == f.section_path for f in known if f.section_path):
        return False
    names = frozenset().union(*(f.names for f in known))
    return not mentions(f"{finding.problem.where} {finding.problem.rule}", names)
