"""How many bytes per second a master pushes to all its slaves (``haFlowControlEnable``)."""

from __future__ import annotations


class FlowControl:
    """A budget that is full at the start of each second, as Apache's FlowMonitor counts it."""

    __slots__ = ("_bytes_per_second", "_left", "_window_start")

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._left = bytes_per_second
        self._window_start = 0.0

    def take(self, wanted: int, now: float) -> int:
        """How many of the ``wanted`` bytes may go out at ``now`` (monotonic seconds); they are counted as sent."""
        if now - self._window_start >= 1.0:
            self._window_start = now
            self._left = self._bytes_per_second
        granted = min(wanted, self._left)
        self._left -= granted
        return granted

    def wait_s(self, now: float) -> float:
        """Seconds until the budget is full again."""
        return max(0.0, self._window_start + 1.0 - now)
