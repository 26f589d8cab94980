"""The append of a client batch: many records, one join, one slice assignment, all or nothing.

The records stand back to back in one segment and have consecutive queue offsets. They are encoded for the place where the log
ends; in the rare case that they do not fit there, the segment is closed and they are encoded once more.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from rocketmq_common import sysflags
from rocketmq_common.batches import ENTRY_SIZE_MIN
from rocketmq_common.properties import PROPERTIES_SIZE_MAX
from rocketmq_common.records import BLANK_SIZE, CRC_MASK, HOST_FLAGS, MAGIC_V1, MAGIC_V2, head_for
from rocketmq_store.appending import (
    PENDING_DISPATCH_COUNT_MAX,
    RECORD_CRC_SIZE,
    Appender,
    NewMessage,
    join_properties,
    record_crc,
)
from rocketmq_store.consume_queues import UNIT, ConsumeQueue
from rocketmq_store.statuses import AppendResult, BatchResult, PutStatus
from rocketmq_store.tags import deliver_time_code, entry_code

_ENTRY_HEAD = struct.Struct(">iiiii")
_SHORT = struct.Struct(">H")


class _Refused(Exception):
    """The batch cannot be stored; carries the answer."""

    def __init__(self, result: AppendResult) -> None:
        super().__init__(result.reason)
        self.result = result


class EncodedBatch(NamedTuple):
    """A batch ready to be written at one place, with what its dispatch needs; the lists have one item per message."""

    data: bytes
    units: list[bytes]
    index_notes: list[tuple[int, int, int, bytes]]
    physical_offsets: list[int]


class BatchAppender:
    """Shares limits, counters and refusals with the appender of single messages."""

    def __init__(self, single: Appender) -> None:
        self._single = single

    def append_batch(self, message: NewMessage) -> BatchResult:
        """See `MessageStore.append_batch`."""
        single = self._single
        refusal = single.refusal
        if refusal is not None:
            single.failed_count += 1
            return _failed(refusal)
        settings = single.settings
        if len(message.body) > settings.message_size_max:
            return _failed(
                single.illegal(f"batch of {len(message.body)} bytes, maxMessageSize is {settings.message_size_max}")
            )
        queue = single.queues.by_key.get((message.topic, message.queue_id))
        if queue is None:
            if message.queue_id < 0 or not single.queues.is_storable(message.topic):
                return _failed(single.illegal(f"topic {message.topic!r}, queue {message.queue_id} cannot be stored"))
            queue = single.queues.create(message.topic, message.queue_id)
        positions = single.positions
        timestamp = max(single.now_ms(), positions.store_timestamp_ms)
        try:
            encoded = self._encode(message, queue, positions.written, timestamp)
            if len(encoded.data) > single.log.append_size_max:
                return _failed(
                    single.illegal(
                        f"batch takes {len(encoded.data)} bytes, this store takes {single.log.append_size_max}"
                    )
                )
            return self._write(message, queue, encoded, timestamp)
        except _Refused as refused:
            return _failed(refused.result)
        except OSError as error:
            return _failed(single.no_room(error))

    def _write(self, message: NewMessage, queue: ConsumeQueue, encoded: EncodedBatch, timestamp: int) -> BatchResult:
        single = self._single
        log, positions, dispatcher = single.log, single.positions, single.dispatcher
        count = len(encoded.physical_offsets)
        if len(dispatcher.pending) + count > PENDING_DISPATCH_COUNT_MAX:
            single.failed_count += 1
            return BatchResult(
                PutStatus.OS_PAGE_CACHE_BUSY,
                reason=f"{PENDING_DISPATCH_COUNT_MAX} messages wait for flush or replication",
            )
        queue.reserve_range(count)
        data = encoded.data
        position = positions.written - log.base
        if position + len(data) + BLANK_SIZE > log.limit:
            log.make_room(len(data))
            if positions.written != encoded.physical_offsets[0]:
                # Records name their own place, so a batch that goes to the next segment is encoded for it.
                encoded = self._encode(message, queue, positions.written, timestamp)
                data = encoded.data
            position = positions.written - log.base
        log.view[position : position + len(data)] = data
        positions.store_timestamp_ms = timestamp
        positions.written += len(data)
        first_queue_offset = queue.next_offset
        queue.next_offset += count
        single.put_count += count
        if positions.is_immediate and not dispatcher.pending:
            self._make_visible(queue, first_queue_offset, encoded)
        else:
            self._leave_notes(queue, first_queue_offset, encoded)
            dispatcher.advance()
        if single.on_append is not None:
            single.on_append()
        return BatchResult(PutStatus.PUT_OK, encoded.physical_offsets, first_queue_offset, positions.written, timestamp)

    def _make_visible(self, queue: ConsumeQueue, first_queue_offset: int, encoded: EncodedBatch) -> None:
        single = self._single
        queue.put_range(first_queue_offset, b"".join(encoded.units))
        queue.end = queue.next_offset
        if not queue.is_dirty:
            single.queues.mark_dirty(queue)
        single.positions.dispatched = single.positions.written
        dispatcher = single.dispatcher
        index_pending = dispatcher.index.pending
        index_pending.extend(encoded.index_notes)
        while len(index_pending) >= dispatcher.index_pending_max:
            if dispatcher.build_index() >= dispatcher.index_pending_max:
                break
        watcher = queue.watcher
        if watcher is not None:
            queue_offset = first_queue_offset
            for unit, note in zip(encoded.units, encoded.index_notes, strict=True):
                physical_offset, _, code = UNIT.unpack(unit)
                watcher(queue, queue_offset, code, note[1], physical_offset)
                queue_offset += 1

    def _leave_notes(self, queue: ConsumeQueue, first_queue_offset: int, encoded: EncodedBatch) -> None:
        pending = self._single.dispatcher.pending
        queue_offset = first_queue_offset
        for unit, (_, timestamp, _, properties) in zip(encoded.units, encoded.index_notes, strict=True):
            physical_offset, size, code = UNIT.unpack(unit)
            pending.append((queue, queue_offset, physical_offset, size, code, timestamp, properties, 0))
            queue_offset += 1

    def _encode(self, message: NewMessage, queue: ConsumeQueue, physical_offset: int, timestamp: int) -> EncodedBatch:
        """The batch as it stands from ``physical_offset`` on. Raises _Refused."""
        single = self._single
        batch = message.body
        common_properties = message.properties
        born_host, store_host = message.born_host, single.store_host
        sys_flag = message.sys_flag & ~HOST_FLAGS & ~sysflags.TRANSACTION_MASK
        if len(store_host) == 20:
            sys_flag |= sysflags.STORE_HOST_V6
        if len(born_host) == 20:
            sys_flag |= sysflags.BORN_HOST_V6
        head = head_for(sys_flag)
        pack = head.pack
        tail_part = queue.tail_part
        fixed_size = head.size + len(tail_part) + 2
        magic = MAGIC_V2 if queue.has_long_topic else MAGIC_V1
        queue_id, born_timestamp, reconsume_times = message.queue_id, message.born_timestamp_ms, message.reconsume_times
        queue_offset = queue.next_offset
        with_crc = single.settings.append_record_crc
        crc_size = RECORD_CRC_SIZE if with_crc else 0
        is_schedule = queue.is_schedule
        unpack_entry, pack_short = _ENTRY_HEAD.unpack_from, _SHORT.pack
        pack_unit, topic_hash = UNIT.pack, queue.topic_hash
        parts: list[bytes] = []
        units: list[bytes] = []
        index_notes: list[tuple[int, int, int, bytes]] = []
        physical_offsets: list[int] = []
        position, end = 0, len(batch)
        while position < end:
            if end - position < ENTRY_SIZE_MIN:
                raise _Refused(single.illegal(f"batch entry at byte {position}: {end - position} bytes left"))
            entry_size, _, _, flag, body_size = unpack_entry(batch, position)
            body_end = position + 20 + body_size
            entry_end = position + entry_size
            if (
                body_size < 0
                or entry_end > end
                or body_end + 2 > entry_end
                or body_end + 2 + (batch[body_end] << 8 | batch[body_end + 1]) != entry_end
            ):
                raise _Refused(single.illegal(f"batch entry at byte {position}: its sizes do not add up"))
            body = batch[position + 20 : body_end]
            properties = batch[body_end + 2 : entry_end]
            position = entry_end
            if common_properties:
                properties = join_properties(properties, common_properties)
            if with_crc:
                properties = single.room_for_record_crc(properties)
            properties_size = len(properties) + crc_size
            if properties_size > PROPERTIES_SIZE_MAX:
                raise _Refused(single.too_many_properties(properties_size))
            size = fixed_size + body_size + properties_size
            record = (
                pack(
                    size,
                    magic,
                    crc32(body) & CRC_MASK,
                    queue_id,
                    flag,
                    queue_offset,
                    physical_offset,
                    sys_flag,
                    born_timestamp,
                    born_host,
                    timestamp,
                    store_host,
                    reconsume_times,
                    0,
                    body_size,
                ),
                body,
                tail_part,
                pack_short(properties_size),
                properties,
            )
            if with_crc:
                encoded = b"".join(record)
                parts += (encoded, record_crc(encoded))
            else:
                parts += record
            if is_schedule:
                code = deliver_time_code(properties, timestamp, single.delay_levels_ms)
            else:
                code = entry_code(properties)
            units.append(pack_unit(physical_offset, size, code))
            index_notes.append((physical_offset, timestamp, topic_hash, properties))
            physical_offsets.append(physical_offset)
            physical_offset += size
            queue_offset += 1
        if not units:
            raise _Refused(single.illegal("batch without messages"))
        return EncodedBatch(b"".join(parts), units, index_notes, physical_offsets)


def _failed(result: AppendResult) -> BatchResult:
    return BatchResult(result.status, reason=result.reason)
