"""Takes secrets out of text that a server or a library wrote, before any of it is cut, shown or logged."""

import base64
import logging
import re
from collections.abc import Iterable

HIDDEN = "***"
_SHORTEST = 3  # shorter ones stand in ordinary words
_ENTITIES = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


class Secrets:
    """Texts that must not be shown: API keys, passwords, query tokens.

    A secret is found in any letter case, also as JSON (nested to any depth), Python's repr, URLs and HTML escape it.
    """

    def __init__(self, values: Iterable[str]) -> None:
        """Keep the values; those under three characters are no secrets."""
        kept = sorted({v for v in values if len(v) >= _SHORTEST}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_escaped_anyhow, kept)), re.IGNORECASE) if kept else None

    def hide(self, text: str) -> str:
        """Return the text with `***` in place of each secret."""
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def excerpt(self, text: str, *, limit: int) -> str:
        """Return the first `limit` characters of a text on one line, secrets hidden before it is cut."""
        line = " ".join(self.hide(text).split())
        return line if len(line) <= limit else line[:limit] + "…"


class SecretFilter(logging.Filter):
    """Takes secrets out of the records of a logger (httpx logs whole addresses, httpcore headers)."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is always let through."""
        record.msg, record.args = self._secrets.hide(record.getMessage()), ()
        return True


def basic_login(user: str, password: str) -> str:
    """Return a login as HTTP's basic authentication writes it."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _escaped_anyhow(secret: str) -> str:
    return "".join(map(_character, secret))


def _character(char: str) -> str:
    """Return a pattern of a character as it stands, behind backslashes, or by its code in JSON, a URL or HTML."""
    if char == "\\":
        return r"(?:\\+(?:u005c|x5c)?|%5c|&#92;|&#x5c;)"
    code = ord(char)
    forms = [re.escape(char), f"u{code:04x}", f"&#0*{code};", f"&#x0*{code:x};"]
    forms += [f"&{_ENTITIES[char]};"] if char in _ENTITIES else []
    forms += [r"\+", r"\s"] if char == " " else []
    percent = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "replace"))
    return rf"(?:{percent}|\\*(?:{'|'.join(forms)}))"
