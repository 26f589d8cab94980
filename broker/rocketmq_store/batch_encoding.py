"""The records of a batch of any shape; those of one shape take the shorter way of `batch_arrays`.

The result is to the byte what single appends of the same messages would write (`tests/test_batch_encoding.py` compares them).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple
from zlib import crc32

from rocketmq_common import sysflags
from rocketmq_common.batches import BatchEntry
from rocketmq_common.properties import PROPERTIES_SIZE_MAX
from rocketmq_common.records import CRC_MASK, HOST_FLAGS, MAGIC_V1, MAGIC_V2, head_for
from rocketmq_store.appending import RECORD_CRC_SIZE, Appender, NewMessage, join_properties, record_crc
from rocketmq_store.consume_queues import ConsumeQueue, encode_units
from rocketmq_store.tags import deliver_time_code, entry_code

_SHORT: Final = struct.Struct(">H")
# What decides where a message is found; these must be searched in its own and the batch's properties together.
SEARCHED_NAMES: Final = (b"UNIQ_KEY\x01", b"KEYS\x01", b"TAGS\x01", b"DELAY\x01")


class PropertiesTooLong(Exception):
    """The properties of a message do not fit their length field; carries their size in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class EncodedBatch(NamedTuple):
    """A batch ready to be written at one place, with what its dispatch needs; the columns have one item per message."""

    data: bytes
    physical_offsets: Sequence[int]
    sizes: list[int]
    codes: list[int]
    properties: list[bytes]

    def units(self) -> bytes:
        """Entries of the queue, back to back."""
        return encode_units(self.physical_offsets, self.sizes, self.codes)

    def key_hashes(self, topic_hash: int) -> None:
        """Index hashes of the unique keys: here notes come cheaper."""
        del topic_hash


def encode_records(
    entries: Sequence[BatchEntry],
    message: NewMessage,
    queue: ConsumeQueue,
    single: Appender,
    physical_offset: int,
    timestamp: int,
) -> EncodedBatch:
    """The batch, at least one message, as it stands from ``physical_offset`` on. Raises PropertiesTooLong."""
    with_crc = single.settings.append_record_crc
    flags, bodies, own = zip(*entries, strict=True)
    properties, common = _joined(own, message.properties, is_whole=with_crc or queue.is_schedule)
    if with_crc:
        properties = [single.room_for_record_crc(one) for one in properties]
    extra_size = len(common) + (RECORD_CRC_SIZE if with_crc else 0)
    longest = max(map(len, properties)) + extra_size
    if longest > PROPERTIES_SIZE_MAX:
        raise PropertiesTooLong(longest)

    head = RecordHead(message, queue, single.store_host, timestamp)
    queue_offsets = range(queue.next_offset, queue.next_offset + len(bodies))
    fixed_size = head.size + len(queue.tail_part) + 2 + extra_size
    sizes = [fixed_size + len(body) + len(one) for body, one in zip(bodies, properties, strict=True)]
    offsets = list(accumulate(sizes[:-1], initial=physical_offset))
    parts = [queue.tail_part, common] * (3 * len(bodies))
    parts[::6] = map(head.pack, sizes, bodies, flags, queue_offsets, offsets)
    parts[1::6] = bodies
    parts[3::6] = [_SHORT.pack(len(one) + extra_size) for one in properties]
    parts[4::6] = properties
    if with_crc:
        records = [b"".join(parts[start : start + 6]) for start in range(0, len(parts), 6)]
        data = b"".join([record + record_crc(record) for record in records])
    else:
        data = b"".join(parts)

    if queue.is_schedule:
        codes = [deliver_time_code(one, timestamp, single.delay_levels_ms) for one in properties]
    else:
        codes = [entry_code(one) for one in properties]
    return EncodedBatch(data, offsets, sizes, codes, properties)


class RecordHead:
    """The part of a record before its body, for the records of one batch."""

    __slots__ = ("_after", "_magic", "_pack", "queue_id", "size")

    def __init__(self, message: NewMessage, queue: ConsumeQueue, store_host: bytes, timestamp: int) -> None:
        born_host = message.born_host
        sys_flag = message.sys_flag & ~HOST_FLAGS & ~sysflags.TRANSACTION_MASK
        if len(store_host) == 20:
            sys_flag |= sysflags.STORE_HOST_V6
        if len(born_host) == 20:
            sys_flag |= sysflags.BORN_HOST_V6
        head = head_for(sys_flag)
        self.size = head.size
        self.queue_id = message.queue_id
        self._pack = head.pack
        self._magic = MAGIC_V2 if queue.has_long_topic else MAGIC_V1
        self._after = (
            sys_flag,
            message.born_timestamp_ms,
            born_host,
            timestamp,
            store_host,
            message.reconsume_times,
            0,
        )

    def pack(self, size: int, body: bytes, flag: int, queue_offset: int, physical_offset: int) -> bytes:
        """The head of one record of ``size`` bytes."""
        return self._pack(
            size,
            self._magic,
            crc32(body) & CRC_MASK,
            self.queue_id,
            flag,
            queue_offset,
            physical_offset,
            *self._after,
            len(body),
        )


def _joined(own: Sequence[bytes], common: bytes, *, is_whole: bool) -> tuple[list[bytes], bytes]:
    """The properties of each message, and what remains to be added to each of them.

    Nothing remains with ``is_whole``, or when the batch has properties that are searched for.
    """
    if not common:
        return list(own), b""
    if is_whole or any(name in common for name in SEARCHED_NAMES):
        return [join_properties(one, common) for one in own], b""
    return [one if not one or one[-1] == 2 else one + b"\x02" for one in own], common
