"""Which brokers to avoid for a while because they were slow or failed (Java's MQFaultStrategy and LatencyFaultTolerance)."""

from __future__ import annotations

from rocketmq_common.clock import Clock, SystemClock

# Java 5.x MQFaultStrategy: from which latency on (ms) a broker is left alone for how long (ms).
LATENCY_MAX_MS = (50, 100, 550, 1800, 3000, 5000, 15_000)
NOT_AVAILABLE_MS = (0, 0, 2000, 5000, 6000, 10_000, 30_000)
_HARMLESS_MS = next(bound for bound, duration in zip(LATENCY_MAX_MS, NOT_AVAILABLE_MS, strict=True) if duration)
ISOLATION_LATENCY_MS = 10_000  # what a failed request counts as
BROKERS_MAX = 10_000  # entries kept; the oldest goes first


def not_available_ms(latency_ms: float) -> int:
    """How long a broker that took ``latency_ms`` is avoided."""
    if latency_ms < _HARMLESS_MS:
        return 0
    for bound, duration in zip(reversed(LATENCY_MAX_MS), reversed(NOT_AVAILABLE_MS), strict=True):
        if latency_ms >= bound:
            return duration
    return 0


class FaultLatencies:
    """The brokers by name, with the time until which each is avoided."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._until: dict[str, float] = {}

    def note(self, broker_name: str, latency_ms: float, *, failed: bool = False) -> None:
        """Record how a request to the broker went."""
        duration = not_available_ms(ISOLATION_LATENCY_MS if failed else latency_ms)
        if duration == 0:
            self._until.pop(broker_name, None)
            return
        if len(self._until) >= BROKERS_MAX:
            self._until.pop(next(iter(self._until)))
        self._until[broker_name] = self._clock.monotonic() + duration / 1000

    def is_available(self, broker_name: str) -> bool:
        """Whether the broker may be chosen now."""
        until = self._until.get(broker_name)
        return until is None or self._clock.monotonic() >= until
