"""The parameters explained: docs/params.md from the field descriptions, and the table of `python -m flows params`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic.fields import FieldInfo
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.params.file import LoadedParams
from flows.params.problems import schema_key
from flows.params.schema import FieldDoc, SectionDoc, all_keys, default_text, is_plain_section, iter_sections, value_text
from flows.params.tree import KeyPath, Origin, format_path, parse_path
from flows.params.yaml_tree import invalid
from models.errors import Problem
from models.params.base import Section
from models.redaction import redact

_INTRO = """\
# Parameters

<!-- Generated from models/params: `python -m flows params --write`. Edit the descriptions there. -->

`params.yaml` holds the parameters of the pipeline. `profiles/<profile>.yaml` is laid over it (mappings merge key by key; lists
and single values are replaced whole), and `-S key=value` over both: `-S fusion.lr=1e-4`, `-S 'methods=[sft, profuser]'`,
`-S sources.models[0].pico.steps=100`, `-S 'runtime.endpoints["vicuna-v1.5"]=http://127.0.0.1:8000/v1'`. Values are YAML.
`python -m flows params` shows what is in force and where each value was written; `--changed` only what differs from here.

`profile` and `methods` cannot be set in a profile: DVC reads them from `params.yaml`. `[]` in a key stands for a list's entry,
`<name>` for a name of your own.
`runtime` and `tracking` say how to execute and where to record: they change no result and re-run nothing.
"""


@dataclass(frozen=True, slots=True)
class ParamRow:
    """One key in force.

    Attributes:
        key: As a user writes it: `sources.models[0].name`.
        value: As YAML would write it.
        default: The same; empty if the key must be given.
        origin: Where it was written; None = nowhere, the default holds.
        doc: Type, constraints, description.
    """

    key: str
    value: str
    default: str
    origin: Origin | None
    doc: FieldDoc

    @property
    def changed(self) -> bool:
        """Whether it differs from the default (a key without one always does)."""
        return self.value != self.default


def render_params_markdown() -> str:
    """Return docs/params.md: every section with its keys, types, defaults, constraints and descriptions."""
    return "\n".join([_INTRO, *(_markdown_section(section) for section in iter_sections() if section.fields)])


def _markdown_section(section: SectionDoc) -> str:
    depth = 2 if "." not in section.key else 3
    title = f"{'#' * depth} `{section.key}`" if section.key else "## Top level"
    lines = [title, "", section.description, "", "| Key | Type | Default | Must be | Meaning |", "|---|---|---|---|---|"]
    for field in section.fields:
        default = f"`{field.default}`" if field.default else "**required**"
        cells = (f"`{field.name}`", field.type, default, field.constraints, field.description)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def param_rows(loaded: LoadedParams, *, key: str | None = None, changed: bool = False) -> tuple[ParamRow, ...]:
    """Return the keys in force, in the order of the sections; those below `key`, those that differ from the default.

    Raises:
        ParamsError: There is no such key.
    """
    docs = {field.key: field for section in iter_sections() for field in section.fields}
    rows = tuple(_rows(loaded.params, loaded.origins, docs, ()))
    if key is not None:
        rows = _below(rows, key)
    return tuple(row for row in rows if row.changed or not changed)


def _rows(section: Section, origins: Mapping[str, Origin], docs: Mapping[str, FieldDoc], path: KeyPath) -> Iterator[ParamRow]:
    for name, field in type(section).model_fields.items():
        here: KeyPath = (*path, name)
        value = getattr(section, name)
        if is_plain_section(field.annotation) or isinstance(value, Section):
            yield from _rows(value, origins, docs, here)
        elif _sections(value):
            for index, entry in enumerate(value):
                yield from _rows(entry, origins, docs, (*here, index))
        elif isinstance(value, dict) and value and all(_sections(entries) for entries in value.values()):
            for key, entries in value.items():
                for index, entry in enumerate(entries):
                    yield from _rows(entry, origins, docs, (*here, key, index))
        else:
            yield _row(here, value, field, origins, docs)


def _sections(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], Section)


def _row(path: KeyPath, value: object, field: FieldInfo, origins: Mapping[str, Origin], docs: Mapping[str, FieldDoc]) -> ParamRow:
    key = format_path(path)
    return ParamRow(key, redact(value_text(value)), default_text(field), origins.get(key), docs[schema_key(path)])


def _below(rows: Sequence[ParamRow], key: str) -> tuple[ParamRow, ...]:
    path = parse_path(key)
    if path is None:
        raise invalid([Problem(f"`{key}`", "must be a key such as `fusion.lr` or `sources.models[0]`")])
    wanted = format_path(tuple(int(part) if isinstance(part, str) and part.isdigit() else part for part in path))
    found = tuple(row for row in rows if row.key == wanted or row.key.startswith((f"{wanted}.", f"{wanted}[")))
    if found or schema_key(path) in all_keys() or f"{schema_key(path)}[]" in all_keys():
        return found
    names = list(dict.fromkeys([*(row.key for row in rows), *all_keys()]))
    close = get_close_matches(key, names, n=1) or [name for name in names if name.rpartition(".")[2] == key][:1]
    raise invalid([Problem(f"`{key}`", "is not a known key", hint=f"Did you mean `{close[0]}`?" if close else "")])


def params_table(loaded: LoadedParams, *, key: str | None = None, changed: bool = False) -> RenderableType:
    """Return what `python -m flows params [KEY]` prints: a table, or the page of a single key.

    Raises:
        ParamsError: There is no such key.
    """
    rows = param_rows(loaded, key=key, changed=changed)
    if not rows:
        return Text("Nothing differs from the defaults." if changed else f"`{key}` has no entries.")
    if len(rows) == 1 and not changed:
        return _page(rows[0])
    table = Table(title=f"Parameters in force (profile {loaded.params.profile})")
    for name in ("Key", "Value", "From", "Default", "Meaning"):
        table.add_column(name, no_wrap=name in ("Key", "From"), overflow="fold")
    for row in rows:
        style = "bold" if row.changed else ""
        origin = str(row.origin) if row.origin else "default"
        cells = (row.key, row.value, origin, row.default or "required", row.doc.description)
        table.add_row(*(escape(cell) for cell in cells), style=style)
    return table


def _page(row: ParamRow) -> RenderableType:
    grid = Table.grid("", "", padding=(0, 2))
    facts = {
        "value": row.value,
        "from": str(row.origin) if row.origin else "default",
        "default": row.default or "none: it must be given",
        "type": row.doc.type,
        "must be": row.doc.constraints,
    }
    for name, fact in facts.items():
        if fact:
            grid.add_row(name, escape(fact))
    return Group(Text(row.key, style="bold"), Text(row.doc.description), grid)
