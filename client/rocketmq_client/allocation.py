"""How the members of a group divide a topic's queues.

Every member computes its own share from the same sorted lists, so all members, whatever their language, must use the same
strategy with the same results: these are Java's AllocateMessageQueue* to the letter. Golden results recorded from Apache's
classes guard them (tests/test_allocation.py).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import md5
from typing import Protocol

from rocketmq_common.allocation import contiguous_share, dealt_share
from rocketmq_remoting.bodies import MessageQueue

VIRTUAL_NODES_COUNT = 10  # per member, Java's default


class AllocationStrategy(Protocol):
    """Gives one member its share. ``queues`` and ``members`` are sorted and the same at every member."""

    @property
    def name(self) -> str:
        """Java's name of the strategy."""
        ...

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """The queues of ``member``; empty when it is not in ``members``."""
        ...


class Average:
    """Contiguous shares; the first members get one more when it does not come out even."""

    name = "AVG"

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`."""
        return contiguous_share(queues, member, members)


class AverageByCircle:
    """Queues are dealt one by one."""

    name = "AVG_BY_CIRCLE"

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`."""
        return dealt_share(queues, member, members)


class ByConfig:
    """A fixed share, whatever the other members do."""

    name = "CONFIG"

    def __init__(self, queues: Sequence[MessageQueue]) -> None:
        self._queues = list(queues)

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`; only queues of the topic asked about are given."""
        del member, members
        topics = {queue.topic for queue in queues}
        return [queue for queue in self._queues if queue.topic in topics]


class ByMachineRoom:
    """Only queues of brokers called ``<room>@<name>`` with one of the rooms given, in contiguous shares."""

    name = "MACHINE_ROOM"

    def __init__(self, rooms: Sequence[str]) -> None:
        self._rooms = frozenset(rooms)

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`."""
        if member not in members:
            return []
        near = [
            queue for queue in queues if len(parts := queue.broker_name.split("@")) == 2 and parts[0] in self._rooms
        ]
        index = members.index(member)
        share, rest = divmod(len(near), len(members))
        result = near[index * share : (index + 1) * share]
        if index < rest:
            result.append(near[index + share * len(members)])
        return result


class MachineRoomNearby:
    """Queues go to members of their own room, by another strategy; queues of rooms without members go to everybody."""

    def __init__(
        self,
        strategy: AllocationStrategy,
        *,
        room_of_queue: Callable[[MessageQueue], str],
        room_of_member: Callable[[str], str],
    ) -> None:
        self._strategy = strategy
        self._room_of_queue = room_of_queue
        self._room_of_member = room_of_member
        self.name = f"MACHINE_ROOM_NEARBY-{strategy.name}"

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`."""
        if member not in members:
            return []
        queues_by_room: dict[str, list[MessageQueue]] = {}
        for queue in queues:
            queues_by_room.setdefault(self._room_of_queue(queue), []).append(queue)
        members_by_room: dict[str, list[str]] = {}
        for other in members:
            members_by_room.setdefault(self._room_of_member(other), []).append(other)
        own = self._room_of_member(member)
        result: list[MessageQueue] = []
        if own in queues_by_room:
            result += self._strategy.allocate(member, queues_by_room[own], members_by_room[own])
        for room in sorted(queues_by_room):
            if room not in members_by_room:
                result += self._strategy.allocate(member, queues_by_room[room], members)
        return result


class ConsistentHash:
    """A hash ring, so that a member's coming or going moves few queues."""

    name = "CONSISTENT_HASH"

    def __init__(self, virtual_nodes_count: int = VIRTUAL_NODES_COUNT) -> None:
        if virtual_nodes_count < 1:
            raise ValueError(f"{virtual_nodes_count} virtual nodes: at least 1 is needed")
        self._virtual_nodes_count = virtual_nodes_count

    def allocate(self, member: str, queues: Sequence[MessageQueue], members: Sequence[str]) -> list[MessageQueue]:
        """See `AllocationStrategy`."""
        if member not in members:
            return []
        ring = {
            _ring_hash(f"{other}-{replica}"): other for other in members for replica in range(self._virtual_nodes_count)
        }
        points = sorted(ring)
        result: list[MessageQueue] = []
        for queue in queues:
            point = bisect_left(points, _ring_hash(_java_text(queue)))
            if ring[points[point % len(points)]] == member:
                result.append(queue)
        return result


def _ring_hash(key: str) -> int:
    return int.from_bytes(md5(key.encode(), usedforsecurity=False).digest()[:4], "big")


def _java_text(queue: MessageQueue) -> str:
    """``MessageQueue.toString()``, which is what Java hashes."""
    return f"MessageQueue [topic={queue.topic}, brokerName={queue.broker_name}, queueId={queue.queue_id}]"
