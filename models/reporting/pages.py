"""HTML pages: their templates, and files that appear whole or not at all."""

import hashlib
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined

from models.files import write_atomic
from models.reporting.results import short_commit

_PACKAGE = "models.reporting"
_SUFFIX = ".j2"


def new_environment() -> Environment:
    """Return a strict environment over the templates of this package, for filters and globals of one page."""
    loader = FunctionLoader(_read)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["short_commit"] = short_commit
    return environment


def template_digest() -> str:
    """Return the sha256 of all templates, for the identity of a step that renders them (no import shows them)."""
    names = sorted(file.name for file in files(_PACKAGE).iterdir() if file.name.endswith(_SUFFIX))
    return hashlib.sha256("\0".join(f"{name}\0{_read(name)}" for name in names).encode()).hexdigest()


def write_page(path: Path, html: str) -> Path:
    """Write a page; returns the path."""
    write_atomic(path, html)
    return path


def _read(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text(encoding="utf-8")
