"""HTTP requests with one deadline each: connecting, sending and the last byte of the reply all count."""

import asyncio
import threading
import weakref
from collections.abc import Mapping

import httpx


class HttpLoop:
    """An httpx client on an event loop in a thread of its own; `post` may be called from any thread.

    A read time-out alone lets a server that sends a byte now and then hold a request for ever.
    """

    def __init__(self, *, headers: Mapping[str, str], login: tuple[str, str] | None, timeout_s: float, connections: int) -> None:
        """Prepare; the thread starts with the first request.

        Args:
            headers: Sent with each request.
            login: User and password of basic authentication.
            timeout_s: Seconds until a request is given up.
            connections: Most connections.
        """
        self._headers, self._login = dict(headers), login
        self._timeout_s, self._connections = timeout_s, connections
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: httpx.AsyncClient | None = None
        self._thread: threading.Thread | None = None

    def post(self, url: httpx.URL, content: bytes) -> httpx.Response:
        """POST JSON and return the whole reply; redirects are not followed.

        Raises:
            TimeoutError: The reply is not complete within the deadline.
            httpx.HTTPError: There is no reply, or it breaks off or cannot be decoded.
        """
        return asyncio.run_coroutine_threadsafe(self._post(url, content), self._running()).result()

    def close(self) -> None:
        """Close the connections and end the thread."""
        with self._guard:
            loop, thread, http = self._loop, self._thread, self._http
            self._loop = self._thread = self._http = None
        if loop is None or thread is None:
            return
        if http is not None:
            asyncio.run_coroutine_threadsafe(http.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    async def _post(self, url: httpx.URL, content: bytes) -> httpx.Response:
        if self._http is None:
            limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
            login = httpx.BasicAuth(*self._login) if self._login else None
            self._http = httpx.AsyncClient(headers=self._headers, auth=login, timeout=None, limits=limits)
        async with asyncio.timeout(self._timeout_s):
            return await self._http.post(url, content=content, headers={"Content-Type": "application/json"})

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="http", daemon=True)
                self._thread.start()
                weakref.finalize(self, self._loop.call_soon_threadsafe, self._loop.stop)  # for one that nobody closes
            return self._loop
