"""A parameter file as a tree with the origin of each value; merging, addressing and assigning."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None

_PLAIN_KEY = re.compile(r"[\w-]+")
_SEGMENT = re.compile(
    r"""(?P<dot>\.)?(?:(?P<name>[^.\[\]"'\s]+)|\[(?P<index>\d+)\]|\[(?P<quote>["'])(?P<quoted>.*?)(?P=quote)\])""", re.DOTALL
)


class Origin(NamedTuple):
    """Where a value was written: a file (relative to the project root) and its line, or `-S` and 0."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a parameter file with its origin; mappings and lists hold nodes. Never changed in place."""

    value: "Scalar | Mapping[str, Node] | Sequence[Node]"
    origin: Origin

    @property
    def mapping(self) -> "Mapping[str, Node] | None":
        """Its entries if it is a mapping."""
        return self.value if isinstance(self.value, Mapping) else None

    @property
    def items(self) -> "Sequence[Node] | None":
        """Its elements if it is a list."""
        return self.value if isinstance(self.value, Sequence) and not isinstance(self.value, str) else None

    def child(self, part: str | int) -> "Node | None":
        """The node under a key or an index, or None."""
        if isinstance(part, str):
            return (self.mapping or {}).get(part)
        items = self.items or ()
        return items[part] if part < len(items) else None

    def plain(self) -> object:
        """The value as plain dicts, lists and scalars."""
        if (mapping := self.mapping) is not None:
            return {key: node.plain() for key, node in mapping.items()}
        if (items := self.items) is not None:
            return [node.plain() for node in items]
        return self.value

    def walk(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, "Node"]]:
        """This node and all below it, parents first."""
        yield path, self
        for key, node in (self.mapping or {}).items():
            yield from node.walk((*path, key))
        for index, node in enumerate(self.items or ()):
            yield from node.walk((*path, index))


def format_path(path: KeyPath) -> str:
    """Write a key path as a user would: `fusion.schedules.mine[1].lr`, `runtime.endpoints["vicuna-v1.5"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"['{part}']" if '"' in part else f'["{part}"]'
    return text


def parse_path(text: str) -> KeyPath | None:
    """Read a key path: dotted keys, `[0]` or `.0` indices, `["a.b"]` for keys with dots; None if it is none of these."""
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _SEGMENT.match(text, position)
        if match is None or (match["dot"] is not None) != (match["name"] is not None and position > 0):
            return None
        if match["index"] is not None:
            parts.append(int(match["index"]))
        else:
            parts.append(match["name"] if match["name"] is not None else match["quoted"])
        position = match.end()
    return tuple(parts) if parts and isinstance(parts[0], str) else None


def merge(base: Node, overlay: Node) -> Node:
    """Lay `overlay` over `base`: mappings merge key by key; lists and single values are replaced whole."""
    below, above = base.mapping, overlay.mapping
    if below is None or above is None:
        return overlay
    merged = dict(below)
    for key, node in above.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, base.origin)


def lookup(root: Node, path: KeyPath) -> tuple[Node, KeyPath]:
    """The deepest existing node on `path`, and the part of the path that leads to it."""
    node = root
    for depth, part in enumerate(path):
        below = node.child(part)
        if below is None:
            return node, path[:depth]
        node = below
    return node, path


def assign(root: Node, path: KeyPath, value: Node) -> Node:
    """Return the tree with `value` merged in at `path`; missing mappings on the way are created.

    Raises:
        ValueError: A part of the path does not fit what is there; the message begins with the key.
    """
    return _assign(root, path, value, ())


def _assign(node: Node | None, path: KeyPath, value: Node, done: KeyPath) -> Node:
    if not path:
        return value if node is None else merge(node, value)
    part, rest = path[0], path[1:]
    is_index = isinstance(part, int) or (part.isdigit() and (node is None or node.mapping is None))
    if node is None or node.value is None:
        node = Node([] if is_index else {}, value.origin)
    if is_index:
        return _assign_item(node, int(part), rest, value, done)
    if node.mapping is None:
        kind = "a list" if node.items is not None else "a single value"
        raise ValueError(f"`{format_path(done)}` is {kind}, so `{format_path((*done, *path))}` cannot be set")
    key = str(part)
    return Node({**node.mapping, key: _assign(node.mapping.get(key), rest, value, (*done, key))}, node.origin)


def _assign_item(node: Node, index: int, rest: KeyPath, value: Node, done: KeyPath) -> Node:
    items = node.items
    here = format_path(done)
    if items is None:
        raise ValueError(f"`{here}` is not a list, so `{here}[{index}]` cannot be set")
    if index > len(items):
        raise ValueError(f"`{here}` has {len(items)} entries, so `{here}[{index}]` cannot be set")
    below = items[index] if index < len(items) else None
    return Node([*items[:index], _assign(below, rest, value, (*done, index)), *items[index + 1 :]], node.origin)


def without(root: Node, path: KeyPath) -> Node:
    """Return the tree without the mapping entry at `path`; unchanged if there is none."""
    mapping = root.mapping
    if mapping is not None and path and path[0] in mapping:
        key = str(path[0])
        if len(path) == 1:
            return Node({k: v for k, v in mapping.items() if k != key}, root.origin)
        return Node({**mapping, key: without(mapping[key], path[1:])}, root.origin)
    items = root.items
    if items is not None and len(path) > 1 and isinstance(path[0], int) and path[0] < len(items):
        index = path[0]
        return Node([*items[:index], without(items[index], path[1:]), *items[index + 1 :]], root.origin)
    return root
