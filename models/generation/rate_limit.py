"""A token bucket: requests a minute, shared by all threads."""

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Lets one request through every 60/n seconds; what was not used in the last second may be used at once."""

    def __init__(
        self,
        per_minute: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start with a full bucket.

        Args:
            per_minute: Requests a minute; 0 = no limit.
            clock: Seconds, monotonic.
            sleep: Waits seconds.
        """
        self._rate = per_minute / 60.0
        self._most = max(self._rate, 1.0)
        self._tokens, self._at = self._most, clock()
        self._clock, self._sleep, self._guard = clock, sleep, threading.Lock()

    def acquire(self) -> None:
        """Wait until a request may be sent. Threads are served in the order in which they came."""
        if self._rate == 0:
            return
        with self._guard:
            now = self._clock()
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
            self._at = now
            self._tokens -= 1
            wait = max(0.0, -self._tokens / self._rate)
        if wait:
            self._sleep(wait)
