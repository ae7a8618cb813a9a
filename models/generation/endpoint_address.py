"""The address of an OpenAI-compatible server, taken apart into what may be shown and what may not."""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import httpx

from models.errors import BackendError

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/?#@\s\[\]]+)(:\d{1,5})?")
_FULL_HOST = re.compile(r"[.:]|^localhost$")
_TELLING = re.compile(r"key|token|secret|sig|pass|auth|code", re.IGNORECASE)
_LONG = 6  # a query value of this length is taken for a secret, whatever its name


@dataclass(frozen=True, slots=True)
class Address:
    """Where requests go.

    Attributes:
        shown: Scheme, host and path, for messages.
        login: User and password of the address, if it has any; sent as basic authentication.
        secrets: What must not be shown: the password, the login as it is sent, query values.
    """

    shown: str
    login: tuple[str, str] | None = field(default=None, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    _url: httpx.URL = field(default_factory=httpx.URL, repr=False)

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read an http(s) address; without a path, `/v1` is added. A query is sent with every request.

        A password may hold `/`, `@`, `?` and blanks, escaped or not.

        Raises:
            BackendError: It is no http(s) address; what may be a login in it is not shown.
        """
        scheme, separator, rest = text.strip().partition("://")
        login, rest = _split_login(rest)
        authority = _authority(rest)
        if scheme.lower() not in ("http", "https") or not separator or not _HOST.fullmatch(authority):
            raise _no_address(text)
        try:
            url = httpx.URL(f"{scheme.lower()}://{rest}").copy_with(fragment=None)
        except (httpx.InvalidURL, UnicodeError):
            url = None
        if url is None:  # outside the handler: the library's message quotes the address
            raise _no_address(text)
        path = url.path.rstrip("/") or "/v1"
        url = url.copy_with(path=path)
        base = str(url.copy_with(query=None))
        shown = (f"{url.scheme}://…{base[base.rfind('@') :]}" if "@" in base else base) + ("?…" if url.query else "")
        return cls(shown, login, tuple(_secrets(login, url)), url)

    def of(self, path: str) -> httpx.URL:
        """Return the address of a path of the API, with the query."""
        return self._url.copy_with(path=self._url.path + path)

    def show(self, path: str) -> str:
        """Return that address as it may be shown."""
        base, mark, query = self.shown.partition("?")
        return f"{base}{path}{mark}{query}"


def _split_login(rest: str) -> tuple[tuple[str, str] | None, str]:
    """Return ((user, password) or None, the rest) of what stands behind `://`."""
    authority, head = _authority(rest), re.split(r"[?#]", rest, maxsplit=1)[0]
    places = [m.end() for m in re.finditer("@", head if "@" in head else rest)]
    # Before a query the last `@` ends the login, however many its password has; if it holds a `?`, the first before a host.
    hosts = [place for place in places if _FULL_HOST.search(_authority(rest[place:]))]
    end = (places or [0])[-1] if "@" in head else (hosts or places or [0])[0]
    behind = _authority(rest[end:])
    # `host:80/v1/@me` has no login; in `user:80/x@host.org` the password has a slash.
    is_path = "@" not in authority and _HOST.fullmatch(authority) and not (":" in authority and _FULL_HOST.search(behind))
    if not end or is_path:
        return None, rest
    user, _, password = rest[: end - 1].partition(":")
    return (unquote(user), unquote(password)), rest[end:]


def _authority(text: str) -> str:
    return re.split(r"[/?#]", text, maxsplit=1)[0]


def _secrets(login: tuple[str, str] | None, url: httpx.URL) -> list[str]:
    found = [value for name, value in parse_qsl(url.query.decode()) if len(value) >= _LONG or _TELLING.search(name)]
    if login is not None:
        user, password = login
        found += [password or user, base64.b64encode(f"{user}:{password}".encode()).decode()]
    return found


def _no_address(text: str) -> BackendError:
    shown = f"…{text[text.rfind('@') :]}" if "@" in text else re.sub(r"\?.*", "?…", text, flags=re.DOTALL)
    cure = "Write http://host:port/v1; a login stands before the host, as in http://user:password@host:port/v1."
    return BackendError(f"`runtime.endpoints` must hold http(s) URLs, but {shown!r} is none. {cure}")
