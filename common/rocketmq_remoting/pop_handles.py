"""Receipt handles of popped messages, and the texts of a pop answer from which clients make them (ExtraInfoUtil, KeyBuilder).

A handle is eight parts joined by spaces (the proxy adds a ninth, the commit log offset):

    start offset, pop time ms, invisible time ms, revive queue id, retry flag, broker name, queue id, queue offset

The retry flag names the topic that the message stands in: 0 the topic itself, 1 the pop retry topic of old form, 2 of new form.
`startOffsetInfo` is ``flag queueId startOffset`` and `msgOffsetInfo` is ``flag queueId offset,offset…`` per queue, joined by ``;``:
every message of the answer must be listed, in the order of the body. `orderCountInfo` counts attempts: ``flag queueId times`` of a
whole queue, ``flag qo<queueId>%<queueOffset> times`` of one message.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Final, NamedTuple

from rocketmq_common.names import RETRY_TOPIC_PREFIX

RETRY_NONE: Final = "0"
RETRY_V1: Final = "1"
RETRY_V2: Final = "2"
# In place of a revive queue: an ordered pop, whose state is kept per queue.
ORDER_REVIVE_QUEUE: Final = 999
PARTS_MIN: Final = 8
# A pop takes 32 messages, but a filter may have skipped many between them.
BIT_SET_TEXT_SIZE_MAX: Final = 16_384


class HandleError(ValueError):
    """A text that is no receipt handle; the message says why."""


class Handle(NamedTuple):
    """The parts of a receipt handle."""

    start_offset: int
    pop_time_ms: int
    invisible_ms: int
    revive_queue_id: int
    retry: str
    broker_name: str
    queue_id: int
    offset: int

    @property
    def is_ordered(self) -> bool:
        """The message was popped in order."""
        return self.revive_queue_id == ORDER_REVIVE_QUEUE

    @property
    def due_ms(self) -> int:
        """When the message comes again, unless it is acknowledged before."""
        return self.pop_time_ms + self.invisible_ms

    def __str__(self) -> str:
        return " ".join(map(str, self))


def parse_handle(text: str) -> Handle:
    """The parts of ``text``; raises HandleError."""
    parts = text.split(" ")
    if len(parts) < PARTS_MIN:
        raise HandleError(f"receipt handle {text!r} has {len(parts)} parts, not {PARTS_MIN}")
    start, pop_time, invisible, revive, retry, broker, queue, offset = parts[:PARTS_MIN]
    try:
        return Handle(int(start), int(pop_time), int(invisible), int(revive), retry, broker, int(queue), int(offset))
    except ValueError:
        raise HandleError(f"receipt handle {text!r} holds no number where one belongs") from None


def pop_retry_topic(group: str, topic: str, retry: str) -> str:
    """The topic through which ``group`` gets unacknowledged messages of ``topic`` again."""
    return f"{RETRY_TOPIC_PREFIX}{group}{'+' if retry == RETRY_V2 else '_'}{topic}"


def real_topic(group: str, topic: str, retry: str) -> str:
    """Where a message with this retry flag stands; ``topic`` may be the original or already the real one."""
    if retry == RETRY_NONE or topic.startswith(RETRY_TOPIC_PREFIX):
        return topic
    return pop_retry_topic(group, topic, retry)


def parse_start_offsets(text: str) -> dict[tuple[str, int], int]:
    """(retry flag, queue id) → start offset. Raises HandleError."""
    try:
        return {key: int(value) for key, value in _entries(text)}
    except ValueError:
        raise HandleError(f"start offsets {text!r} cannot be read") from None


def parse_message_offsets(text: str) -> dict[tuple[str, int], list[int]]:
    """(retry flag, queue id) → queue offsets of the messages. Raises HandleError."""
    try:
        return {key: [int(offset) for offset in value.split(",")] for key, value in _entries(text)}
    except ValueError:
        raise HandleError(f"message offsets {text!r} cannot be read") from None


def parse_order_counts(text: str) -> dict[tuple[int, int], int]:
    """(queue id, queue offset) → how often the message was tried before; counts of whole queues are left out."""
    counts: dict[tuple[int, int], int] = {}
    for entry in text.split(";"):
        parts = entry.split(" ")
        if len(parts) == 3 and parts[1].startswith("qo"):
            queue_id, _, offset = parts[1][2:].partition("%")
            if queue_id.isdecimal() and offset.isdecimal() and parts[2].isdecimal():
                counts[int(queue_id), int(offset)] = int(parts[2])
    return counts


def encode_bits(bits: Iterable[int]) -> str:
    """Base64 of a bit set, least significant bit first (java.util.BitSet.toByteArray)."""
    number = 0
    for bit in bits:
        number |= 1 << bit
    return b64encode(number.to_bytes((number.bit_length() + 7) // 8, "little")).decode()


def decode_bits(text: str) -> list[int]:
    """The bits that are set, ascending. Raises HandleError."""
    if len(text) > BIT_SET_TEXT_SIZE_MAX:
        raise HandleError(f"a bit set of {len(text)} characters is too long ({BIT_SET_TEXT_SIZE_MAX} at most)")
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        raise HandleError(f"{text!r} is no base64 of a bit set") from None
    return [8 * index + bit for index, byte in enumerate(data) if byte for bit in range(8) if byte >> bit & 1]


def _entries(text: str) -> list[tuple[tuple[str, int], str]]:
    found: list[tuple[tuple[str, int], str]] = []
    for entry in text.split(";"):
        parts = entry.split(" ")
        if len(parts) != 3 or not parts[1].isdecimal():
            raise HandleError(f"offset information {text!r} cannot be read")
        found.append(((parts[0], int(parts[1])), parts[2]))
    return found
