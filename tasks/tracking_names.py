"""Names and texts as MLflow takes them. What had to be changed keeps a digest of the original, which stands in a tag."""

import hashlib
import re
from collections.abc import Iterable

# MLflow takes 250 characters of a key; the tag that holds an original is `original.` and the name.
_ORIGINAL = "original."
_MOST = 250 - len(_ORIGINAL)
_TEXT_LIMIT = 5000
_REFUSED = re.compile(r"[^/\w.\- :]")


def safe_name(name: str) -> str:
    """Return a name of a metric, param or tag as MLflow takes it: letters and digits of all scripts, `_ - . : /` and blanks.

    A name that MLflow takes is returned as it is. In any other the characters it refuses become `_`, parts of a path that are
    none (`a//b`, `../x`) are filled, it is cut, and a digest of the original goes behind it, so that two names stay two.
    """
    parts = ("_" if part in ("", ".", "..") else part for part in _REFUSED.sub("_", name).split("/"))
    mapped = "/".join(parts)
    if mapped == name and len(name) <= _MOST:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{mapped[: _MOST - len(digest) - 1]}-{digest}"


def metric_key(name: str) -> str:
    """Return a metric's name as MLflow takes it: `recall@1` is `recall_at_1` there."""
    return safe_name(name.replace("@", "_at_"))


def model_name(name: str) -> str:
    """Return a model's name as MLflow takes it: without `/ : . % " '` also."""
    safe = safe_name(name)
    plain = re.sub(r"[^\w\- ]", "_", safe)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def safe_text(text: str, *, limit: int = _TEXT_LIMIT) -> str:
    """Return a value as every store takes it: cut, without NUL and without halves of surrogate pairs."""
    return text[:limit].replace("\0", "�").encode("utf-8", "replace").decode()


def originals(names: Iterable[str]) -> dict[str, str]:
    """Return the tags that hold the names which MLflow does not take: `original.<name there>` → name."""
    return {f"{_ORIGINAL}{metric_key(name)}": safe_text(name) for name in names if metric_key(name) != name.replace("@", "_at_")}
