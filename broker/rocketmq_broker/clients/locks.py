"""Queue locks of orderly consumers: who may consume a queue in order. In memory only, gone after 60 s without renewal."""

from __future__ import annotations

from collections.abc import Iterable

from rocketmq_common.clock import Clock
from rocketmq_remoting.bodies import MessageQueue

LOCK_EXPIRY_MS = 60_000
LOCKS_MAX = 1_000_000


class QueueLocks:
    """Group → queue → (client id, seconds of the monotonic clock when it was renewed)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.groups: dict[str, dict[MessageQueue, tuple[str, float]]] = {}
        self._count = 0

    def lock(self, group: str, client_id: str, queues: Iterable[MessageQueue]) -> list[MessageQueue]:
        """Take or renew; return those of ``queues`` that ``client_id`` now holds."""
        now = self._clock.monotonic()
        before = now - LOCK_EXPIRY_MS / 1000
        held = self.groups.setdefault(group, {})
        granted = []
        for queue in queues:
            entry = held.get(queue)
            if entry is not None and entry[0] != client_id and entry[1] >= before:
                continue
            if entry is None:
                if self._count >= LOCKS_MAX:
                    continue
                self._count += 1
            held[queue] = (client_id, now)
            granted.append(queue)
        if not held:
            del self.groups[group]
        return granted

    def unlock(self, group: str, client_id: str, queues: Iterable[MessageQueue]) -> None:
        """Give up those of ``queues`` that ``client_id`` holds."""
        held = self.groups.get(group)
        if held is None:
            return
        for queue in queues:
            entry = held.get(queue)
            if entry is not None and entry[0] == client_id:
                del held[queue]
                self._count -= 1
        if not held:
            del self.groups[group]

    def is_group_locking(self, group: str) -> bool:
        """Whether some client of ``group`` holds an unexpired lock, that is, consumes in order."""
        before = self._clock.monotonic() - LOCK_EXPIRY_MS / 1000
        return any(renewed >= before for _, renewed in self.groups.get(group, {}).values())

    def remove_expired(self) -> int:
        """Forget locks that nobody renewed; return how many."""
        before = self._clock.monotonic() - LOCK_EXPIRY_MS / 1000
        removed = 0
        for group in list(self.groups):
            held = self.groups[group]
            for queue in [queue for queue, (_, renewed) in held.items() if renewed < before]:
                del held[queue]
                removed += 1
            if not held:
                del self.groups[group]
        self._count -= removed
        return removed
