"""Redaction of secrets in text that is shown or stored: keys in every escaped form, logins and tokens of addresses.

A secret is replaced by `***`. A process registers its secrets once (`register_secrets`, `register_address`); all output goes
through `redact`. If a password cannot be separated from the words after it, too much is removed rather than too little.
"""

import re
import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, unquote_plus

MASK = "***"
_SHORTEST_PART = 4  # characters of a password part that is redacted within words; shorter ones would hit ordinary words
_SHORT = {"\n": "n", "\t": "t", "\r": "r", "\f": "f", "\b": "b"}
_known: set[str] = set()
_guard = threading.Lock()

_NAMES = r"pass(?:word|wd|phrase)|pwd|secret|api[-_]?key|access[-_]?key|(?:access|auth|refresh|id|session|bearer)[-_]?token"
_QUERY_NAMES = r"key|token|secret|pass|pwd|sig|auth|cred|session|jwt"
# Of a web address, a port and the end of it: an @ in the words that follow (`recall@1`) is none of its own.
_PORT = r"(?<=http://|ttps://)(?:\[[^\]\s]*\]|[^\s/:@]*):\d{1,5}(?=[\s/?#'\"`,;)\]]|$)"
_ADDRESS = re.compile(
    rf"""(?<![A-Za-z0-9+.\-])(?!(?:sqlite|file):)(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*:/{{2,}})   # a path may hold an @
         (?:
             (?!{_PORT})[^\s/:]*:(?:(?!://)[^\r\n])*@     # user:password@, the password may hold / @ and blanks
           | [^\s\[][^\s]*:(?:(?!://)\S)*@                            # what looks like host:port/… with an @ in the same word
           | (?:(?!://)[^\s/?#])+@                                    # a token alone
         )""",
    re.VERBOSE,
)
_WITH_PORT = re.compile(r"https?://[^\s/:@]*:\d{1,5}/")  # the path is not a password
_QUERY = re.compile(rf"(?i)(?P<name>[?&;#][\w.\-\[\]%]*(?:{_QUERY_NAMES})[\w.\-\[\]%]*=)[^&;#\s\"'`<>]+")
_FIELD = re.compile(
    rf"""(?ix)(?P<name>(?<![a-z0-9])[\w\-]*(?:{_NAMES})(?:\\*["'])?\s*[=:]\s*)
         (?: (?P<quote>\\*["'])(?:(?!(?P=quote)).)+(?P=quote) | (?![\s"'\\*\[{{(]) [^\s"'&,;}})]+ )"""
)
_SECRET_KEY = re.compile(rf"(?i)[\w.\-]*(?:{_NAMES})")
_HEADER = re.compile(
    r"(?i)\b(?P<name>(?:proxy-)?authorization\\*[\"']?\s*[:=]\s*\\*[\"']?(?:\w+\s+)?|bearer\s+|basic\s+)[\w.~+/=\-]{6,}"
)
_TOKEN = re.compile(
    r"\b(?:sk-[\w\-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|github_pat_\w{20,}|xox[abprs]-[\w\-]{10,}|AKIA[0-9A-Z]{16})\b"
)


def register_secrets(*secrets: str) -> None:
    """Register secrets for the rest of the process, to be removed by `redact`."""
    with _guard:
        _known.update(s.strip() for s in secrets if s and s.strip())


def register_address(address: str) -> None:
    """Make the login and the query tokens of an address known, if it has any.

    A driver that does not expect `/` or `@` in a password tells parts of it in its errors, as the host or the port.
    A login without a password is a token on the web, and a mere name in front of a database.
    """
    found = _ADDRESS.match(address)
    if found and not _WITH_PORT.match(address):
        user, colon, password = found[0].removeprefix(found["scheme"]).removesuffix("@").partition(":")
        secret = password if colon else user if "http" in found["scheme"] else ""
        parts = [p for p in re.split(r"[/@:?#\s]+", secret) if len(p) >= _SHORTEST_PART]
        register_secrets(secret, unquote(secret), unquote_plus(secret), *parts)
    for token in _QUERY.finditer(address):
        value = token[0].removeprefix(token["name"])
        register_secrets(value, unquote_plus(value))


def redact(text: str, *, secrets: Iterable[str] = ()) -> str:
    """Return text without secrets: given and registered ones, logins and tokens of addresses, header values.

    A secret is found as it is, and as JSON, Python, HTML or an address would write it, at any depth of escaping.
    """
    with _guard:
        known = {*_known, *(s for s in secrets if s)}
    for secret in sorted(known, key=len, reverse=True):
        text = _pattern(secret).sub(MASK, text)
    if "://" in text:
        text = _ADDRESS.sub(lambda m: f"{m['scheme']}{MASK}@", text)
    text = _QUERY.sub(lambda m: m["name"] + MASK, text)
    text = _HEADER.sub(lambda m: m["name"] + MASK, text)
    text = _FIELD.sub(lambda m: f"{m['name']}{m['quote'] or ''}{MASK}{m['quote'] or ''}", text)
    return _TOKEN.sub(MASK, text)


def excerpt(text: str, limit: int, *, secrets: Iterable[str] = ()) -> str:
    """Return at most `limit` characters of a text on one line, redacted before it is cut: half a key is a secret too."""
    line = " ".join(redact(text, secrets=secrets).split())
    return line if len(line) <= limit else line[:limit] + "…"


def redacted(tree: Any, *, secrets: Iterable[str] = ()) -> Any:
    """Return params, tags or other nested values with secrets taken out of every text and every key."""
    secrets = tuple(secrets)
    if isinstance(tree, Mapping):
        return {
            _redacted_key(key, secrets): MASK if _is_secret(key, value) else redacted(value, secrets=secrets)
            for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [redacted(value, secrets=secrets) for value in tree]
    return redact(tree, secrets=secrets) if isinstance(tree, str) else tree


def _redacted_key(key: Any, secrets: Iterable[str]) -> Any:
    return redact(key, secrets=secrets) if isinstance(key, str) else key


def _is_secret(key: Any, value: Any) -> bool:
    return isinstance(key, str) and isinstance(value, str) and value != "" and _SECRET_KEY.fullmatch(key) is not None


@lru_cache(maxsize=256)
def _pattern(secret: str) -> re.Pattern[str]:
    written = "".join(_written(character) for character in secret)
    # A short one is found as a word only: a password `p` must not blank every p of a message.
    return re.compile(written if len(secret) >= _SHORTEST_PART else rf"(?<!\w){written}(?!\w)")


def _written(character: str) -> str:
    """Return a pattern of all the ways in which a character of a secret is written."""
    hexes = character.encode("utf-8", "surrogatepass").hex()
    percent = "".join(rf"%(?:25)*(?i:{hexes[i : i + 2]})" for i in range(0, len(hexes), 2))
    if character.isascii() and character.isalnum():
        return f"(?:{character}|{percent})"
    units = character.encode("utf-16-be", "surrogatepass").hex()
    code, named = ord(character), {'"': "quot", "&": "amp", "<": "lt", ">": "gt", "'": "apos"}.get(character)
    ways = [
        percent,
        "".join(rf"\\+u(?i:{units[i : i + 4]})" for i in range(0, len(units), 4)),
        rf"\\+U(?i:{code:08x})",
        rf"\\*&(?:amp;)*\#(?:0*{code}|[xX]0*(?i:{code:x}));",
        r"\\+" if character == "\\" else rf"\\*{re.escape(character)}",
    ]
    if named:
        ways.append(rf"\\*&(?:amp;)*{named};")
    if character in _SHORT:
        ways.append(rf"\\+{_SHORT[character]}")
    if code < 256:
        ways.append(rf"\\+x(?i:{code:02x})")
    if character == " ":
        ways.append(r"\+")
    return f"(?:{'|'.join(ways)})"
