"""Half messages as a rewriting of messages, and the table of those that nobody has decided yet.

A half message stands in queue 0 of the half topic and carries where it really belongs in REAL_TOPIC and REAL_QID
(TransactionalMessageBridge.parseHalfMessageInner); committing stores it there. The table is memory only: it is made again from the
half and op topics at each start. Asking a producer stores the half message again, so that the queue's head can move on; the copy
before it stays known until the transaction ends, because an answer to an earlier question names that one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from rocketmq_broker.transactions.ready_commits import ReadyCommits
from rocketmq_common import sysflags
from rocketmq_common.properties import (
    PROPERTY_PRODUCER_GROUP,
    PROPERTY_REAL_QUEUE_ID,
    PROPERTY_REAL_TOPIC,
    PROPERTY_TRANSACTION_ID,
    PROPERTY_TRANSACTION_PREPARED,
    find_property,
    remove_property,
)
from rocketmq_common.records import StoredMessage

HALF_QUEUE_ID: Final = 0
# Undecided at once; one more half message is answered "busy". About 200 bytes each.
UNDECIDED_MAX: Final = 1_000_000
PROPERTY_CHECK_TIMES: Final = "TRANSACTION_CHECK_TIMES"
PROPERTY_CHECK_IMMUNITY_S: Final = "CHECK_IMMUNITY_TIME_IN_SECONDS"
# Queue offset of the first copy of a half message that was stored again.
PROPERTY_FIRST_OFFSET: Final = "TRAN_PREPARED_QUEUE_OFFSET"
# What only the half message needs; a committed message that kept them would be taken for one when a tool sends it again.
_PREPARED: Final = f"{PROPERTY_TRANSACTION_PREPARED}\x01true\x02"
_OF_CHECKS: Final = (PROPERTY_CHECK_TIMES, PROPERTY_FIRST_OFFSET)
_HALF_ONLY: Final = (PROPERTY_TRANSACTION_PREPARED, PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID, *_OF_CHECKS)
_OF_BROKER: Final = (PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID, PROPERTY_TRANSACTION_ID, *_OF_CHECKS)


class Half(msgspec.Struct, gc=False):
    """One undecided transaction: the place of its newest copy. ``topic`` is the real one, times are ms of this broker's clock."""

    queue_offset: int
    physical_offset: int
    topic: str
    first_stored_ms: int
    # The message's own wait before the first question in ms; -1: the broker's `transactionTimeOut`.
    immunity_ms: int = -1
    check_times: int = 0
    # Queue offset of the first copy; -1 while this is the first.
    first_offset: int = -1
    # (queue offset, physical offset) of the copies before.
    older: tuple[tuple[int, int], ...] = ()

    def is_at(self, queue_offset: int, physical_offset: int) -> bool:
        """Whether a copy of the message stands exactly there."""
        if queue_offset == self.queue_offset:
            return physical_offset == self.physical_offset
        return (queue_offset, physical_offset) in self.older


class HalfMessages:
    """The undecided transactions by the queue offset of their newest copy, oldest first; and by that of each copy before."""

    def __init__(self) -> None:
        self.undecided: dict[int, Half] = {}
        self.ready = ReadyCommits()
        self._older: dict[int, Half] = {}
        # Real topic → undecided transactions.
        self.counts: dict[str, int] = {}

    def add(self, half: Half) -> None:
        """A half message was stored."""
        self.undecided[half.queue_offset] = half
        self.counts[half.topic] = self.counts.get(half.topic, 0) + 1

    def find(self, queue_offset: int, physical_offset: int) -> Half | None:
        """The undecided transaction that has a copy at exactly this place."""
        half = self.undecided.get(queue_offset) or self._older.get(queue_offset)
        return half if half is not None and half.is_at(queue_offset, physical_offset) else None

    def replace(self, half: Half, queue_offset: int, physical_offset: int) -> None:
        """The message was stored again, there."""
        del self.undecided[half.queue_offset]
        self.ready.drop(half.queue_offset)
        self._older[half.queue_offset] = half
        half.older = (*half.older, (half.queue_offset, half.physical_offset))
        half.queue_offset = queue_offset
        half.physical_offset = physical_offset
        self.undecided[queue_offset] = half

    def remove(self, half: Half) -> None:
        """The transaction has ended."""
        del self.undecided[half.queue_offset]
        self.ready.drop(half.queue_offset)
        for queue_offset, _ in half.older:
            self._older.pop(queue_offset, None)
        left = self.counts[half.topic] - 1
        if left:
            self.counts[half.topic] = left
        else:
            del self.counts[half.topic]

    def first_offset(self, end: int) -> int:
        """The first queue offset that is still needed, ``end`` when none is."""
        return next(iter(self.undecided), end)

    def clear(self) -> None:
        """Forget everything; the disk knows it."""
        self.undecided.clear()
        self.ready.clear()
        self._older.clear()
        self.counts.clear()


class HalfProperties(NamedTuple):
    """The properties of one message in the half topic, those with which it is committed, and who may end its transaction."""

    stored: str
    committed: str
    producer_group: str


def half_properties(text: str, topic: str, queue_id: int, producer_group: str, unique_key: str) -> HalfProperties:
    """The properties of a message for (``topic``, ``queue_id``) whose own are ``text``, ended by a separator.

    A client's own REAL_* would send the committed message elsewhere, and its own check count would end the checks: they are cut.
    """
    # Asked as substrings first: nearly no client sends any of them.
    if "REAL_" in text or "TRANSACTION_CHECK" in text or "TRAN_PREPARED" in text or PROPERTY_TRANSACTION_ID in text:
        text = _without(text, _OF_BROKER)
    own_group = find_property(text, PROPERTY_PRODUCER_GROUP)
    if own_group is None:
        text += f"{PROPERTY_PRODUCER_GROUP}\x01{producer_group}\x02"
    identity = f"{PROPERTY_TRANSACTION_ID}\x01{unique_key}\x02"
    return HalfProperties(
        f"{text}{PROPERTY_REAL_TOPIC}\x01{topic}\x02{PROPERTY_REAL_QUEUE_ID}\x01{queue_id}\x02{identity}",
        _unprepared(text) + identity,
        own_group or producer_group,
    )


def renewed_properties(text: str, check_times: int, first_offset: int) -> str:
    """The properties of a half message's next copy."""
    text = _without(text, _OF_CHECKS)
    return f"{text}{PROPERTY_CHECK_TIMES}\x01{check_times}\x02{PROPERTY_FIRST_OFFSET}\x01{first_offset}\x02"


def committed_properties(text: str) -> str:
    """The properties of the message that consumers get."""
    return _without(text, _HALF_ONLY)


def committed_flags(sys_flag: int) -> int:
    """The sys flag of the message that consumers get."""
    return sys_flag & ~sysflags.TRANSACTION_MASK | sysflags.TRANSACTION_COMMIT


def real_place(message: StoredMessage) -> tuple[str, int] | None:
    """Topic and queue to which a half message belongs; ``None`` when it does not say so."""
    topic = find_property(message.properties, PROPERTY_REAL_TOPIC)
    queue_id = find_property(message.properties, PROPERTY_REAL_QUEUE_ID)
    if topic is None or queue_id is None or not queue_id.isdecimal():
        return None
    return topic, int(queue_id)


def immunity_ms(text: str) -> int:
    """CHECK_IMMUNITY_TIME_IN_SECONDS in ms; -1 without one or when it is no number."""
    if PROPERTY_CHECK_IMMUNITY_S not in text:
        return -1
    value = find_property(text, PROPERTY_CHECK_IMMUNITY_S)
    return int(value) * 1000 if value is not None and value.isdecimal() else -1


def number_property(text: str, name: str) -> int:
    """A property that is a number; -1 when it is missing or none."""
    value = find_property(text, name)
    return int(value) if value is not None and value.isdecimal() else -1


def half_of(message: StoredMessage) -> Half | None:
    """The table's row for a stored half message; ``None`` when it names no topic to go to."""
    place = real_place(message)
    if place is None:
        return None
    return Half(
        message.queue_offset,
        message.physical_offset,
        place[0],
        message.store_timestamp,
        immunity_ms(message.properties),
        max(number_property(message.properties, PROPERTY_CHECK_TIMES), 0),
    )


def _unprepared(text: str) -> str:
    before, pair, behind = text.partition(_PREPARED)
    if pair and before[-1:] in ("", "\x02") and PROPERTY_TRANSACTION_PREPARED not in behind:
        return before + behind
    return remove_property(text, PROPERTY_TRANSACTION_PREPARED)


def _without(text: str, names: tuple[str, ...]) -> str:
    for name in names:
        text = remove_property(text, name)
    return text
