"""Turning sends away early when this process could not look at them in time (Apache's BrokerFastFailure, rule E22).

All requests are served by one loop, so there is no queue whose head could be measured: what a request waited is at most what the
loop was late. A tick that comes too late marks the reads of the same turn; their sends are answered SYSTEM_BUSY, which clients try
at another broker, before any work is done for them. The next turn starts afresh.
"""

from __future__ import annotations

from collections.abc import Callable

from rocketmq_broker.settings import BrokerSettings
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingError


class Admission:
    """``is_late`` is read by each send; `note_lag` is called by the tick that measures the loop."""

    __slots__ = ("_call_soon", "_lag_ms", "_settings", "is_late", "refused_count")

    def __init__(self, settings: BrokerSettings, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._settings = settings
        self._call_soon = call_soon
        self._lag_ms = 0.0
        self.is_late = False
        self.refused_count = 0

    def note_lag(self, lag_ms: float) -> None:
        """The loop was ``lag_ms`` late; what it reads in this turn has waited as long."""
        settings = self._settings
        if lag_ms > settings.wait_time_mills_in_send_queue and settings.broker_fast_failure_enable and not self.is_late:
            self._lag_ms, self.is_late = lag_ms, True
            # Runs in the next turn, when the reads of this one are done.
            self._call_soon(self._reset)

    def refusal(self) -> RemotingError:
        """The answer to a send while ``is_late``."""
        self.refused_count += 1
        return RemotingError(
            ResponseCode.SYSTEM_BUSY,
            "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, "
            f"period in queue: {self._lag_ms:.0f}ms (waitTimeMillsInSendQueue {self._settings.wait_time_mills_in_send_queue})",
        )

    def _reset(self) -> None:
        self.is_late = False
