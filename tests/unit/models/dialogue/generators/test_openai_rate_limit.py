import threading

import pytest

from models.dialogue.generators.openai import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def limit(per_minute: float, clock: Clock) -> RateLimit:
    return RateLimit(per_minute, clock=lambda: clock.now, sleep=clock.sleep)


@pytest.mark.parametrize("per_minute", [6, 60, 600])
def test_no_minute_has_more_requests_than_allowed(per_minute):
    clock = Clock()
    bucket, times = limit(per_minute, clock), []
    for _ in range(3 * per_minute):
        bucket.acquire()
        times.append(clock.now)
    burst = max(1, per_minute // 60)
    for i in range(len(times) - per_minute):
        assert times[i + per_minute] - times[i] >= 60 - 60 / per_minute * (burst - 1) - 1e-6
    assert times[-1] == pytest.approx((3 * per_minute - burst) * 60 / per_minute)


def test_idle_time_is_not_saved_up_beyond_a_second():
    clock = Clock()
    bucket = limit(120, clock)
    clock.now = 1000.0
    for _ in range(2):
        bucket.acquire()
    assert clock.now == 1000.0
    bucket.acquire()
    assert clock.now == pytest.approx(1000.5)


def test_no_limit_never_waits():
    bucket = RateLimit(0, sleep=lambda seconds: pytest.fail(f"waited {seconds} s"))
    for _ in range(1000):
        bucket.acquire()


def test_threads_share_the_bucket():
    slept, guard = [], threading.Lock()

    def sleep(seconds: float) -> None:
        with guard:
            slept.append(seconds)

    bucket = RateLimit(60, clock=lambda: 0.0, sleep=sleep)
    threads = [threading.Thread(target=bucket.acquire) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == pytest.approx([1.0, 2.0, 3.0, 4.0])
