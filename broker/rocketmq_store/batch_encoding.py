"""The records of a batch: encoded by columns, as a step per message costs more than all its bytes.

The result is to the byte what single appends of the same messages would write (`tests/test_batch_encoding.py` compares them).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple
from zlib import crc32

from rocketmq_common import sysflags
from rocketmq_common.properties import PROPERTIES_SIZE_MAX
from rocketmq_common.records import CRC_MASK, HOST_FLAGS, MAGIC_V1, MAGIC_V2, head_for
from rocketmq_store.appending import RECORD_CRC_SIZE, Appender, NewMessage, join_properties, record_crc
from rocketmq_store.batch_entries import BatchColumns
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.property_columns import UniqueKeys, cut_unique_keys
from rocketmq_store.tags import deliver_time_code, entry_codes

_SHORT: Final = struct.Struct(">H")
_LEAD_SIZE: Final = 8  # size, magic
_VARYING: Final = struct.Struct(">iiiqq")  # body CRC, queue id, flag, queue offset, physical offset
_REST_START: Final = _LEAD_SIZE + _VARYING.size
# What decides where a message is found; these must be searched in its own and the batch's properties together.
_SEARCHED_NAMES: Final = (b"UNIQ_KEY\x01", b"KEYS\x01", b"TAGS\x01", b"DELAY\x01")


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
    unique_keys: UniqueKeys | None


def encode_records(
    columns: BatchColumns,
    message: NewMessage,
    queue: ConsumeQueue,
    single: Appender,
    physical_offset: int,
    timestamp: int,
) -> EncodedBatch:
    """The batch, at least one message, as it stands from ``physical_offset`` on. Raises PropertiesTooLong."""
    with_crc = single.settings.append_record_crc
    properties, common = _joined(columns.properties, message.properties, is_whole=with_crc or queue.is_schedule)
    if with_crc:
        properties = [single.room_for_record_crc(one) for one in properties]
    extra_size = len(common) + (RECORD_CRC_SIZE if with_crc else 0)
    longest = max(map(len, properties)) + extra_size
    if longest > PROPERTIES_SIZE_MAX:
        raise PropertiesTooLong(longest)

    head = _RecordHead(message, queue, single.store_host, timestamp)
    flags, bodies = columns.flags, columns.bodies
    queue_offsets = range(queue.next_offset, queue.next_offset + len(bodies))
    fixed_size = head.size + len(queue.tail_part) + 2 + extra_size
    offsets: Sequence[int]
    if columns.is_even and not with_crc and len(set(map(len, properties))) == 1:
        size = fixed_size + len(bodies[0]) + len(properties[0])
        sizes = [size] * len(bodies)
        offsets = range(physical_offset, physical_offset + size * len(bodies), size)
        before = queue.tail_part + _SHORT.pack(len(properties[0]) + extra_size)
        data = _even_records(head, size, flags[0], bodies, queue_offsets, offsets, before, properties, common)
    else:
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

    unique_keys = cut_unique_keys(properties)
    if queue.is_schedule:
        codes = [deliver_time_code(one, timestamp, single.delay_levels_ms) for one in properties]
    else:
        codes = entry_codes(properties, unique_keys)
    return EncodedBatch(data, offsets, sizes, codes, properties, unique_keys)


class _RecordHead:
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


def _even_records(
    head: _RecordHead,
    size: int,
    flag: int,
    bodies: list[bytes],
    queue_offsets: range,
    offsets: range,
    before_properties: bytes,
    properties: list[bytes],
    common: bytes,
) -> bytes:
    """Records of one size and shape: their heads differ in `_VARYING` only."""
    first = head.pack(size, bodies[0], flag, queue_offsets[0], offsets[0])
    lead, rest = first[:_LEAD_SIZE], first[_REST_START:]
    queue_id, pack = head.queue_id, _VARYING.pack
    # Six parts per message; what ends a record and begins the next is one.
    parts = [b"", rest, b"", before_properties, b"", common + lead] * len(bodies)
    parts[::6] = [
        pack(crc32(body) & CRC_MASK, queue_id, flag, queue_offset, offset)
        for body, queue_offset, offset in zip(bodies, queue_offsets, offsets, strict=True)
    ]
    parts[2::6] = bodies
    parts[4::6] = properties
    parts[-1] = common
    return lead + b"".join(parts)


def _joined(own: list[bytes], common: bytes, *, is_whole: bool) -> tuple[list[bytes], bytes]:
    """The properties of each message, and what remains to be added to each of them.

    Nothing remains with ``is_whole``, or when the batch has properties that are searched for.
    """
    if not common:
        return own, b""
    if is_whole or any(name in common for name in _SEARCHED_NAMES):
        return [join_properties(one, common) for one in own], b""
    return [one if not one or one[-1] == 2 else one + b"\x02" for one in own], common
