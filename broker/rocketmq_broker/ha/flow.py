"""How many bytes per second a master pushes to all its slaves (``haFlowControlEnable``)."""

from __future__ import annotations


class FlowControl:
    """A budget that is full at the start of each second, as Apache's FlowMonitor counts it."""

    __slots__ = ("_taken", "_window_start")

    def __init__(self) -> None:
        self._taken = 0
        self._window_start = 0.0

    def take(self, wanted: int, now: float, bytes_per_second: int) -> int:
        """How many of the ``wanted`` bytes may go out at ``now`` (monotonic seconds); they are counted as sent."""
        if now - self._window_start >= 1.0:
            self._window_start = now
            self._taken = 0
        granted = max(0, min(wanted, bytes_per_second - self._taken))
        self._taken += granted
        return granted

    def wait_s(self, now: float) -> float:
        """Seconds until the budget is full again."""
        return max(0.0, self._window_start + 1.0 - now)
