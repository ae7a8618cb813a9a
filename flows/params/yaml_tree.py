"""YAML text to a `Node` tree with line numbers; syntax errors as `Problem`s with line and column."""

import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from flows.params.tree import Node, Origin
from models.errors import ParamsError, Problem

_TITLE = "The parameters have problems"


def invalid(problems: Sequence[Problem]) -> ParamsError:
    """The one ParamsError of this package."""
    return ParamsError(_TITLE, problems)


def read_params_yaml(path: Path, label: str) -> Node:
    """Read a parameter file; `label` is the name used for it in messages and origins.

    Raises:
        ParamsError: No file, not UTF-8, not YAML, or not a mapping of sections.
    """
    if not path.is_file():  # reading a pipe would block forever
        raise invalid([Problem(f"{label}", "must be a file, but is a folder, a pipe, or a dangling link")])
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid([Problem(f"{label}", f"must be UTF-8 text, but byte {error.start} is not")]) from error
    node = parse_yaml(text, label)
    if node.value is None:
        return Node({}, Origin(label, 1))
    if node.mapping is None:
        raise invalid([Problem(f"{label}:{node.origin.line}", "must be a mapping of sections", _kind(node))])
    return node


def parse_yaml(text: str, label: str, *, lines: bool = True) -> Node:
    """Parse one YAML value; with `lines=False` every origin is (label, 0), as for `-S`.

    Raises:
        ParamsError: Not YAML, a key twice, a tag or alias loop; with line and column.
    """
    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        raise invalid([_syntax_problem(error, label, lines=lines)]) from error
    except (YAMLError, ValueError) as error:
        rule = re.sub(r"\s+", " ", str(error)).strip()
        raise invalid([Problem(label, f"is not valid YAML: {rule}")]) from error
    return _node(loaded, Origin(label, 1 if lines else 0), lines=lines, above=())


def _syntax_problem(error: MarkedYAMLError, label: str, *, lines: bool) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    where = f"{label}:{line}:{column}" if lines else label
    rule = str(error.problem or error.context or "syntax error")
    if rule.startswith("but ") and error.context:
        rule = f"{error.context}, {rule}"
    rule = " ".join(rule.split())
    place = f"line {line}, column {column}" if lines else f"character {column} of the value"
    hint = "Indent with spaces." if "\\t" in rule or "\t" in rule else ""
    return Problem(where, f"is not valid YAML: {rule} ({place})", hint=hint)


def _node(value: Any, origin: Origin, *, lines: bool, above: tuple[int, ...]) -> Node:
    """Turn ruamel's round-trip objects into plain nodes; `above` holds the ids of the parents (alias loops)."""
    if id(value) in above:
        raise invalid([Problem(str(origin), "must not contain itself through an alias")])
    _reject_tag(value, origin)
    if isinstance(value, Mapping):
        entries = {}
        for key, below in value.items():
            place = _line(value, key, origin) if lines else origin
            entries[_key(key, place)] = _node(below, place, lines=lines, above=(*above, id(value)))
        return Node(entries, origin)
    if isinstance(value, list | tuple):
        places = [_line(value, index, origin) if lines else origin for index in range(len(value))]
        return Node([_node(v, p, lines=lines, above=(*above, id(value))) for v, p in zip(value, places, strict=True)], origin)
    return Node(_scalar(value), origin)


def _line(parent: object, key: object, fallback: Origin) -> Origin:
    """Origin of an entry; entries that came through a merge key (`<<`) have the line of their parent."""
    places = parent.lc.data if isinstance(parent, CommentedMap | CommentedSeq) else None
    place = (places or {}).get(key)
    return Origin(fallback.file, place[0] + 1) if place else fallback


def _key(key: object, origin: Origin) -> str:
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | float) and not isinstance(key, bool):
        return str(key)
    raise invalid([Problem(str(origin), "must have text as key", repr(key), "Put the key in quotes.")])


def _reject_tag(value: object, origin: Origin) -> None:
    tag = getattr(getattr(value, "tag", None), "value", None)
    if tag is None and isinstance(value, bytes | Set):
        tag = f"!!{'binary' if isinstance(value, bytes) else 'set'}"
    if tag is not None:
        raise invalid([Problem(str(origin), "must not use YAML tags", f"`{tag}`", "Write plain values.")])


def _scalar(value: object) -> str | int | float | bool | None:
    """Plain Python scalars instead of ruamel's subclasses, so that messages and types are ordinary."""
    if value is None:
        return None
    if isinstance(value, bool | ScalarBoolean):  # a boolean with an anchor is an int subclass
        return bool(value)
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return str(value)  # dates and times: YAML reads 2024-01-31 as one, a user means the text


def _kind(node: Node) -> str:
    return "a list" if node.items is not None else f"`{node.value}`"
