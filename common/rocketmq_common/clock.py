"""The seam to time: wall clock for timestamps, monotonic clock for durations."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What a component may ask of time."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    @staticmethod
    def now_ms() -> int:
        """Wall clock, milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    @staticmethod
    def monotonic() -> float:
        """Seconds of a clock that never goes back."""
        return time.monotonic()


class ManualClock:
    """A clock that tests move by hand; both readings advance together."""

    __slots__ = ("_now_ms", "_origin_ms")

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._origin_ms = now_ms

    def now_ms(self) -> int:
        """The set wall time in milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return (self._now_ms - self._origin_ms) / 1000

    def advance(self, ms: int) -> None:
        """Move both readings forward by ``ms`` milliseconds."""
        if ms < 0:
            raise ValueError(f"a clock cannot go back by {-ms} ms")
        self._now_ms += ms
