"""Pydantic's errors as problems for the user: key as written, rule, value, file and line, and a suggestion.

Example: `` `fusion.schedules.mine[1].lr` must be greater than 0, but is -1e-05 (params.yaml:41). ``
"""

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.params.schema import ANY_NAME, all_keys, keys_below
from flows.params.tree import KeyPath, Node, Origin, format_path, lookup, parse_path
from models.errors import Problem
from models.params.base import NAME_PATTERN, SHA256_PATTERN

_RULES = {
    "extra_forbidden": ("unknown", "is not a known key"),
    "missing": ("missing", "is missing"),
    "literal_error": ("choice", ""),
    "string_pattern_mismatch": ("rule", ""),
    "too_short": ("rule", ""),
    "string_too_long": ("rule", "must have at most {max_length} characters"),
    "greater_than": ("rule", "must be greater than {gt}"),
    "greater_than_equal": ("rule", "must be at least {ge}"),
    "less_than": ("rule", "must be less than {lt}"),
    "less_than_equal": ("rule", "must be at most {le}"),
}
_KINDS = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
    "tuple": "must be a list",
    "dict": "must be a mapping",
    "model": "must be a mapping of keys",
}
_PATTERNS = {
    r"^[a-z0-9][a-z0-9-]*$": "must hold only lower-case letters, digits and hyphens",
    NAME_PATTERN: "must begin with a letter or digit and hold only letters, digits, `_`, `.` and `-`",
    SHA256_PATTERN: "must be a sha256: 64 digits of 0-9 and a-f",
}
_YAML_NAMES = {"Infinity": ".inf", "-Infinity": "-.inf", "NaN": ".nan"}
_NOT_FINITE = re.compile(r"(?<![\w\"])(-?Infinity|NaN)(?![\w\"])")
_OWN_KEY = re.compile(r"`([^`]+)` (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One error with the path it is about, so that later findings about the same key can be left out."""

    path: KeyPath
    problem: Problem

    @property
    def section_path(self) -> KeyPath:
        """The path up to its last key: a wrong list entry makes its list wrong."""
        path = self.path
        while path and isinstance(path[-1], int):
            path = path[:-1]
        return path

    @property
    def names(self) -> frozenset[str]:
        """Last parts of the key it is about and of the keys it suggests."""
        own = {str(self.section_path[-1])} if self.section_path else set()
        return frozenset(own | {key.rpartition(".")[2] for key in re.findall(r"`([\w.\[\]]+)`", self.problem.hint)})


Suggest = Callable[[KeyPath], str]
"""Unknown key → what to write instead, as a sentence."""


def findings(error: ValidationError, root: Node, *, suggest: Suggest | None = None) -> list[Finding]:
    """All errors of one validation in the order of the keys in the sections; one per key (suggestions: `suggest_key`)."""
    groups: dict[KeyPath, list[tuple[str, str]]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(_clean(detail, root), []).extend(_rules(detail))
    found: list[Finding] = []
    for path, rules in groups.items():
        # Of a union's branches, the one that got further says more than "must be a list" of the others.
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in groups)
        kept = [(kind, rule) for kind, rule in rules if not (deeper and kind in ("kind", "choice"))]
        found += _group(path, kept, root, suggest or suggest_key)
    return found


def _clean(detail: ErrorDetails, root: Node) -> KeyPath:
    """The key path without pydantic's names of union branches (`tuple[str, ...]`)."""
    node: Node | None = root
    path: KeyPath = ()
    for depth, part in enumerate(detail["loc"]):
        below = node.child(part) if node is not None else None
        if below is not None or (detail["type"] == "missing" and depth == len(detail["loc"]) - 1):
            path, node = (*path, part), below
    return path


def _rules(detail: ErrorDetails) -> list[tuple[str, str]]:
    """Kind (`unknown`, `missing`, `kind`, `choice`, `rule`, `text`) and rule in plain words; `text` is a whole message."""
    code, context = detail["type"], detail.get("ctx", {})
    if code == "value_error":  # our own validators: one finding a line
        return [("text", line) for line in str(context["error"]).splitlines()]
    if code == "too_short" and len(detail["input"]) >= context["min_length"]:
        return []  # pydantic counts valid entries only; the invalid ones have findings of their own
    kind, rule = _RULES.get(code, ("", ""))
    if code == "literal_error":
        rule = _choice(str(context["expected"]))
    elif code == "too_short":
        rule = f"must have at least {context['min_length']} entries" if context["min_length"] > 1 else "must not be empty"
    elif code == "string_pattern_mismatch":
        rule = _PATTERNS.get(str(context["pattern"]), f"must match `{context['pattern']}`")
    elif rule:
        rule = rule.format(**{name: f"{bound:g}" for name, bound in context.items() if isinstance(bound, int | float)})
    else:
        kind = code.split("_")[0]
        kind, rule = ("kind", _KINDS[kind]) if kind in _KINDS else ("rule", f"is not accepted ({detail['msg']})")
    return [(kind, rule)]


def _choice(expected: str) -> str:
    values = re.findall(r"'([^']*)'", expected)
    text = ", ".join(f"`{v}`" for v in values)
    return f"must be one of {text}" if len(values) > 1 else f"must be {text}"


def _group(path: KeyPath, rules: Sequence[tuple[str, str]], root: Node, suggest: Suggest) -> list[Finding]:
    """One finding for a key, or several where a validator of ours wrote several lines."""
    unique = list(dict.fromkeys(rules))  # empty: a finding deeper down already says it
    texts = [_own(path, rule, root) for kind, rule in unique if kind == "text"]
    others = [(kind, rule) for kind, rule in unique if kind != "text"]
    if not others:
        return texts
    kinds = {kind for kind, _ in others}
    rule = _join([rule for _, rule in others])
    if "unknown" in kinds:
        return [*texts, Finding(path, _unknown(path, root, suggest))]
    if "missing" in kinds:
        return [*texts, Finding(path, _missing(path, root))]
    node, _ = lookup(root, path)
    value = f"{show(node.plain())} ({node.origin})"
    return [*texts, Finding(path, Problem(f"`{format_path(path)}`", rule, value, _hint(node, rule)))]


def _join(rules: Sequence[str]) -> str:
    """`must be a list` and `must be `x`` of two union branches as one rule."""
    ordered = sorted(rules, key=lambda rule: "`" in rule)
    return " or ".join([ordered[0], *(rule.removeprefix("must be ") for rule in ordered[1:])])


def _own(path: KeyPath, text: str, root: Node) -> Finding:
    """A message of our own validators: it names a key below `path`, or is about `path` itself."""
    match = _OWN_KEY.match(text)
    below = parse_path(match[1]) if match is not None else None
    if match is not None and below is not None:
        path, text = (*path, *below), match[2]
    node, _ = lookup(root, path)
    if text.startswith("must be one of") and ", but " not in text:
        return Finding(path, Problem(f"`{format_path(path)}`", text, f"{show(node.plain())} ({node.origin})", _hint(node, text)))
    return Finding(path, Problem(f"`{format_path(path)}`", f"{text} ({node.origin})"))


def _missing(path: KeyPath, root: Node) -> Problem:
    node, found = lookup(root, path)
    place = f"`{format_path(found)}` begins at {node.origin}" if found else str(node.origin.file)
    return Problem(f"`{format_path(path)}`", f"is missing ({place})")


def _unknown(path: KeyPath, root: Node, suggest: Suggest) -> Problem:
    origin = lookup(root, path)[0].origin
    return Problem(f"`{format_path(path)}`", f"is not a known key ({origin})", hint=suggest(path))


def suggest_key(path: KeyPath) -> str:
    """`Did you mean …?` for an unknown key: a sibling, else the same name elsewhere, else the known siblings."""
    parent, name = path[:-1], str(path[-1])
    siblings = keys_below(schema_key(parent))
    for close in get_close_matches(name, siblings, n=1):
        return f"Did you mean `{format_path((*parent, close))}`?"
    elsewhere = [key for key in all_keys() if key.rpartition(".")[2] == name]
    if elsewhere:
        return f"Did you mean {' or '.join(f'`{key}`' for key in elsewhere[:3])}?"
    return f"Known here: {', '.join(f'`{s}`' for s in sorted(siblings))}." if siblings else ""


def schema_key(path: KeyPath) -> str:
    """A concrete path as the documentation writes it: `sources.models[].name`, `fusion.schedules.<name>[].lr`."""
    key = ""
    for part in path:
        if isinstance(part, int):
            key += "[]"
        else:
            named = f"{key}.{ANY_NAME}"
            key = named if any(other.startswith(named) for other in all_keys()) else f"{key}.{part}".removeprefix(".")
    return key


def _hint(node: Node, rule: str) -> str:
    """What to write instead, where the kind of mistake shows it."""
    value = node.value
    if isinstance(value, str):
        for close in get_close_matches(value, re.findall(r"`([^`]+)`", rule), n=1):
            return f"Did you mean `{close}`?"
        if rule.startswith("must be a list"):
            return f"Write it in brackets: [{value}]."
    if rule == "must be text" and isinstance(value, int | float):
        return "Put it in quotes."
    if rule == "must be text" and value is None:
        return 'An empty text is written "".'
    return ""


def show(value: object, *, width: int = 80) -> str:
    """A value as it would be written in the file, cut at `width` characters."""
    text = _NOT_FINITE.sub(lambda match: _YAML_NAMES[match[0]], json.dumps(value, ensure_ascii=False))
    return text if len(text) <= width else text[: width - 1] + "…"


def mentions(text: str, names: Collection[str]) -> bool:
    """Whether a message names one of the keys in backticks (alone or as the end of a dotted key)."""
    quoted = re.findall(r"`([^`]+)`", text)
    return any(q == name or q.endswith(f".{name}") or q.startswith(f"{name}.") for q in quoted for name in names)


def origins_of(root: Node) -> Mapping[str, Origin]:
    """Key path as text → where its value was written, for every node of the tree."""
    return {format_path(path): node.origin for path, node in root.walk() if path}
