"""Which bytes of the log enough replicas have, and who waits for that: decisions only, no sockets, no timers.

A replica is a slave by its identity, not a connection: a slave that came back before its old connection was noticed to be dead
counts once. The master counts as one replica. `replicated` is the offset up to which the needed number of replicas
acknowledged; sends wait for it, and consumers do not see beyond it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol

from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_store.statuses import PutStatus

# Sends that wait for slaves at once; one more is answered FLUSH_SLAVE_TIMEOUT at once.
WAITING_COUNT_MAX = 131_072

ReplicatedCallback = Callable[[PutStatus], None]


class Reign(Protocol):
    """What an elected master may do; see `rocketmq_broker.failover.succession`."""

    @property
    def member(self) -> str:
        """This replica's name."""
        ...

    @property
    def members(self) -> frozenset[str]:
        """Replicas that must have a message before it is acknowledged, this one included."""
        ...

    def may_write(self) -> bool:
        """Whether an acknowledgement may be given in this moment."""
        ...


class Acknowledgements:
    """The waits and the slaves' positions of one master.

    ``waits_for_slaves`` is false for an ASYNC_MASTER: nothing waits then, slaves are only counted.
    ``start_offset`` is the end of the recovered log: what is below was visible already and is never hidden again.
    With a ``reign`` every member of the in-sync set is waited for, by name, instead of a number of replicas, and the right to write
    is asked for in the moment of the answer: a process that was frozen meanwhile answers nothing.
    """

    def __init__(
        self, settings: ReplicationSettings, *, waits_for_slaves: bool, start_offset: int, reign: Reign | None = None
    ) -> None:
        self._settings = settings
        self._reign = reign
        self._waits = waits_for_slaves
        self._waiting: deque[tuple[int, float, ReplicatedCallback]] = deque()
        # Identity → acknowledged offset of each live connection of that slave.
        self._replicas: dict[Hashable, dict[object, int]] = {}
        self.replicated = start_offset
        self.timeout_count = 0

    @property
    def is_synchronous(self) -> bool:
        """Sends need a slave's acknowledgement."""
        return self._waits and (self._reign is not None or self._settings.in_sync_replicas > 1)

    @property
    def waiting_count(self) -> int:
        """Sends that wait for slaves now."""
        return len(self._waiting)

    @property
    def replica_count(self) -> int:
        """Connected slaves, each once."""
        return len(self._replicas)

    def acknowledged(self, identity: Hashable, connection: object, offset: int) -> None:
        """The slave has the log up to ``offset``; call `settle` afterwards."""
        self._replicas.setdefault(identity, {})[connection] = offset

    def forget(self, identity: Hashable, connection: object) -> None:
        """A connection of the slave ended."""
        connections = self._replicas.get(identity)
        if connections is not None:
            connections.pop(connection, None)
            if not connections:
                del self._replicas[identity]

    def in_sync_count(self, written: int) -> int:
        """Replicas, the master included, that are less than ``haMaxGapNotInSync`` behind ``written``; connected members of the set
        in a reign.
        """
        if self._reign is not None:
            return 1 + sum(name in self._replicas for name in self._reign.members if name != self._reign.member)
        return 1 + sum(self.is_in_sync(max(offsets.values()), written) for offsets in self._replicas.values())

    def is_in_sync(self, acknowledged: int, written: int) -> bool:
        """Whether a slave at that offset is close enough to take part."""
        return acknowledged >= 0 and written - acknowledged < self._settings.ha_max_gap_not_in_sync

    def needed_count(self, written: int) -> int:
        """Replicas, the master included, that must have a message before its send succeeds."""
        settings = self._settings
        if not self._waits:
            return 1
        if self._reign is not None:
            return len(self._reign.members)
        if settings.enable_auto_in_sync_replicas:
            return max(settings.min_in_sync_replicas, min(settings.in_sync_replicas, self.in_sync_count(written)))
        return settings.in_sync_replicas

    def refusal(self, written: int) -> str | None:
        """Why nothing may be stored now (IN_SYNC_REPLICAS_NOT_ENOUGH), ``None`` when it may."""
        needed = self._settings.min_in_sync_replicas
        if not self._waits or needed <= 1:
            return None
        found = self.in_sync_count(written)
        if found >= needed:
            return None
        return f"in sync are {found} replicas, minInSyncReplicas is {needed}"

    def when_replicated(self, end_offset: int, now: float, callback: ReplicatedCallback) -> None:
        """Call ``callback`` once with PUT_OK when enough replicas have the log up to ``end_offset``.

        FLUSH_SLAVE_TIMEOUT if that takes longer than ``slaveTimeout``; the message stays stored. ``now`` is monotonic seconds, and
        calls come with growing offsets, as appends do.
        """
        if not self.is_synchronous or end_offset <= self.replicated:
            callback(self._kept())
        elif len(self._waiting) >= WAITING_COUNT_MAX:
            self.timeout_count += 1
            callback(PutStatus.FLUSH_SLAVE_TIMEOUT)
        else:
            self._waiting.append((end_offset, now + self._settings.slave_timeout / 1000, callback))

    def settle(self, written: int) -> bool:
        """Answer those whose bytes enough replicas have by now; whether `replicated` moved."""
        needed = self.needed_count(written)
        if needed <= 1:
            reached = written
        elif self._reign is not None:
            reached = written
            for name in self._reign.members:
                if name != self._reign.member:
                    of_member = self._replicas.get(name)
                    if of_member is None:
                        return False
                    reached = min(reached, max(of_member.values()))
        else:
            offsets = sorted((max(of_slave.values()) for of_slave in self._replicas.values()), reverse=True)
            if len(offsets) < needed - 1:
                return False
            reached = offsets[needed - 2]
        if reached <= self.replicated:
            return False
        self.replicated = reached
        return True

    def answer(self) -> None:
        """Call back those who wait for nothing beyond `replicated`; apart from `settle`, so that readers are let on first."""
        waiting = self._waiting
        reached = self.replicated
        if waiting and waiting[0][0] <= reached:
            kept = self._kept()
            while waiting and waiting[0][0] <= reached:
                waiting.popleft()[2](kept)

    def expire(self, now: float) -> float | None:
        """Answer those who waited too long; when the next one's time is up, ``None`` when nobody waits."""
        waiting = self._waiting
        while waiting and waiting[0][1] <= now:
            self.timeout_count += 1
            waiting.popleft()[2](PutStatus.FLUSH_SLAVE_TIMEOUT)
        return waiting[0][1] if waiting else None

    def _kept(self) -> PutStatus:
        return PutStatus.PUT_OK if self._reign is None or self._reign.may_write() else PutStatus.SERVICE_NOT_AVAILABLE

    def fail_all(self) -> None:
        """The master stops: nobody's slave will answer any more."""
        while self._waiting:
            self._waiting.popleft()[2](PutStatus.FLUSH_SLAVE_TIMEOUT)
