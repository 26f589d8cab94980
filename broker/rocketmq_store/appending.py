"""The append: the hot path of the broker, one plain function on the one writer thread.

A record is one pack, one checksum, one join and one slice assignment into the mapped segment. Where it may be read at once
(ASYNC_FLUSH without replication bound) its queue entry is written in the same call; otherwise the dispatcher gets a note and does
that when the bound has passed. Nothing is taken (queue offset, log space) before everything that can fail has succeeded.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from typing import Final
from zlib import crc32

import msgspec

from rocketmq_common import sysflags
from rocketmq_common.clock import Clock
from rocketmq_common.properties import PROPERTIES_SIZE_MAX
from rocketmq_common.records import BLANK_SIZE, CRC_MASK, HEAD_V4, HOST_FLAGS, MAGIC_V1, MAGIC_V2, head_for
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.consume_queues import UNIT, ConsumeQueue
from rocketmq_store.dispatch import Dispatcher, PendingDispatch
from rocketmq_store.light_queues import DISPATCH, LightQueueRefused, LightQueues
from rocketmq_store.positions import Positions
from rocketmq_store.preparation import NO_ROOM_ERRNOS
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.tags import deliver_time_code, entry_code

_logger = logging.getLogger(__name__)

NO_ROOM_LOG_INTERVAL_S: Final = 60.0
# Messages that wait for flush or replication before they are dispatched; further sends are answered "busy".
PENDING_DISPATCH_COUNT_MAX: Final = 131_072
RECORD_CRC_SIZE: Final = 20
_RECORD_CRC_NAME: Final = b"__CRC32#\x01"
_TRANSACTION_MASK: Final = sysflags.TRANSACTION_MASK
_SHORT: Final = struct.Struct(">H")
_PACK_V4: Final = HEAD_V4.pack
_PUT_OK: Final = PutStatus.PUT_OK
_SIZES: Final = [n.to_bytes(2, "big") for n in range(1024)]


class NewMessage(msgspec.Struct, gc=False):
    """A message to store. ``properties`` is the encoded property string; ``born_host`` address and port as in records.

    ``properties`` of a batch (`MessageStore.append_batch`) are added to those of each message; ``body`` is the batch body then.
    """

    topic: str
    queue_id: int
    body: bytes
    properties: bytes = b""
    flag: int = 0
    sys_flag: int = 0
    born_timestamp_ms: int = 0
    born_host: bytes = b"\x7f\x00\x00\x01\x00\x00\x00\x00"
    reconsume_times: int = 0
    prepared_offset: int = 0


class Appender:
    """Writes records. `refusal` is what every append is answered while the store does not take messages."""

    def __init__(
        self,
        log: CommitLog,
        queues: QueueTable,
        positions: Positions,
        dispatcher: Dispatcher,
        settings: StoreSettings,
        clock: Clock,
        store_host: bytes,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.log = log
        self.queues = queues
        self._by_key = queues.by_key
        self.positions = positions
        self.dispatcher = dispatcher
        self._pending: deque[PendingDispatch] = dispatcher.pending
        self.settings = settings
        self.lights = LightQueues(queues, settings) if settings.has_light_queues else None
        self._fatal = fatal
        self.now_ms = clock.now_ms
        self._monotonic = clock.monotonic
        self._no_room_logged_at = -NO_ROOM_LOG_INTERVAL_S
        self.delay_levels_ms = settings.delay_level_ms()
        self._index_pending = dispatcher.index.pending
        self._with_record_crc = settings.append_record_crc
        self.set_store_host(store_host)
        self.refusal: AppendResult | None = AppendResult(PutStatus.SERVICE_NOT_AVAILABLE, reason="store is not open")
        # Called after each append; replication pushes what is new.
        self.on_append: Callable[[], None] | None = None
        self.put_count = 0
        self.failed_count = 0

    def set_store_host(self, store_host: bytes) -> None:
        """Address and port that records name as theirs, packed as in records."""
        self.store_host = store_host
        self._store_flag = sysflags.STORE_HOST_V6 if len(store_host) == 20 else 0
        self._is_plain = not self._store_flag and not self._with_record_crc

    def append(self, message: NewMessage) -> AppendResult:
        """See `MessageStore.append`."""
        refusal = self.refusal
        if refusal is not None:
            self.failed_count += 1
            return refusal
        queue_id = message.queue_id
        queue = self._by_key.get((message.topic, queue_id))
        if queue is None:
            if queue_id < 0 or not self.queues.is_storable(message.topic):
                return self.illegal(f"topic {message.topic!r}, queue {queue_id} cannot be stored")
            queue = self.queues.create(message.topic, queue_id)
        body = message.body
        properties = message.properties
        lights: list[tuple[ConsumeQueue, int]] = []
        if self.lights is not None and DISPATCH in properties and message.sys_flag & _TRANSACTION_MASK in (0, 8):
            try:
                properties, lights = self.lights.place(message.topic, properties)
            except LightQueueRefused as error:
                self.failed_count += 1
                return AppendResult(error.status, reason=error.reason)
        born_host = message.born_host
        body_size = len(body)
        properties_size = len(properties)
        if self._with_record_crc:
            properties = self.room_for_record_crc(properties)
            properties_size = len(properties) + RECORD_CRC_SIZE
        # The bits for the hosts are the hosts' own matter, whatever the client said.
        sys_flag = message.sys_flag & ~HOST_FLAGS
        if len(born_host) == 8 and not self._store_flag:
            size = 90 + body_size + queue.tail_size + properties_size
            pack = _PACK_V4
        else:
            sys_flag |= self._store_flag
            if len(born_host) == 20:
                sys_flag |= sysflags.BORN_HOST_V6
            head = head_for(sys_flag)
            size = head.size + 2 + body_size + queue.tail_size + properties_size
            pack = head.pack
        log = self.log
        if (
            body_size > self.settings.message_size_max
            or properties_size > PROPERTIES_SIZE_MAX
            or size > log.append_size_max
        ):
            return self._beyond_limit(body_size, properties_size, size)
        positions = self.positions
        is_immediate = positions.is_immediate and not self._pending
        if not is_immediate and len(self._pending) >= PENDING_DISPATCH_COUNT_MAX:
            self.failed_count += 1
            return AppendResult(
                PutStatus.OS_PAGE_CACHE_BUSY,
                reason=f"{PENDING_DISPATCH_COUNT_MAX} messages wait for flush or replication",
            )

        # Prepared and rolled back transactions stand in the log only: they have no queue offset.
        transaction = sys_flag & _TRANSACTION_MASK
        is_queued = transaction == 0 or transaction == 8
        queue_offset = queue.next_offset if is_queued else 0
        try:
            if is_queued and queue_offset >= queue.reserved_end:
                queue.reserve()
            for light, light_offset in lights:
                if light_offset >= light.reserved_end:
                    light.reserve()
            position = positions.written - log.base
            if position + size + BLANK_SIZE > log.limit:
                log.make_room(size)
                position = positions.written - log.base
        except OSError as error:
            return self.no_room(error)

        timestamp = self.now_ms()
        if timestamp < positions.store_timestamp_ms:
            timestamp = positions.store_timestamp_ms
        else:
            positions.store_timestamp_ms = timestamp
        physical_offset = log.base + position
        record = b"".join(
            (
                pack(
                    size,
                    MAGIC_V2 if queue.has_long_topic else MAGIC_V1,
                    crc32(body) & CRC_MASK,
                    queue_id,
                    message.flag,
                    queue_offset,
                    physical_offset,
                    sys_flag,
                    message.born_timestamp_ms,
                    born_host,
                    timestamp,
                    self.store_host,
                    message.reconsume_times,
                    message.prepared_offset,
                    body_size,
                ),
                body,
                queue.tail_part,
                _SIZES[properties_size] if properties_size < 1024 else _SHORT.pack(properties_size),
                properties,
            )
        )
        if self._with_record_crc:
            record += record_crc(record)
        log.view[position : position + size] = record
        end_offset = physical_offset + size
        positions.written = end_offset
        self.put_count += 1

        if is_queued:
            queue.next_offset = queue_offset + 1
            if queue.is_schedule:
                tags_code = deliver_time_code(properties, timestamp, self.delay_levels_ms)
            else:
                tags_code = entry_code(properties)
        else:
            tags_code = 0
        if is_immediate:
            positions.dispatched = end_offset
            if is_queued:
                UNIT.pack_into(queue.view, (queue_offset - queue.view_first) * 20, physical_offset, size, tags_code)
                queue.end = queue_offset + 1
                if not queue.is_dirty:
                    self.queues.mark_dirty(queue)
            if properties and transaction != 12:
                self._index_pending.append((physical_offset, timestamp, queue.topic_hash, properties))
                if len(self._index_pending) >= self.dispatcher.index_pending_max:
                    self.dispatcher.build_index()
            watcher = queue.watcher
            if watcher is not None and is_queued:
                watcher(queue, queue_offset, tags_code, timestamp, physical_offset)
        else:
            self._pending.append(
                (
                    queue,
                    queue_offset if is_queued else -1,
                    physical_offset,
                    size,
                    tags_code,
                    timestamp,
                    properties,
                    transaction,
                )
            )
        for light, light_offset in lights:
            light.next_offset = light_offset + 1
            self._pending.append((light, light_offset, physical_offset, size, tags_code, timestamp, b"", 0))
        if self._pending and positions.is_immediate:
            self.dispatcher.advance()
        if self.on_append is not None:
            self.on_append()
        return AppendResult(_PUT_OK, physical_offset, queue_offset, end_offset, timestamp)

    def append_past_refusal(self, message: NewMessage) -> AppendResult:
        """`append`, whatever stands in `refusal`."""
        refusal, self.refusal = self.refusal, None
        try:
            return self.append(message)
        finally:
            self.refusal = refusal

    def append_plain(
        self,
        topic: str,
        queue_id: int,
        body: bytes,
        properties: bytes,
        flag: int,
        sys_flag: int,
        born_timestamp_ms: int,
        born_host: bytes,
        reconsume_times: int,
        prepared_offset: int = 0,
    ) -> tuple[int, int] | None:
        """`append` for the message that nearly all are, a quarter cheaper: (physical offset, queue offset).

        ``None``, with nothing changed, when anything is not usual: an unknown or schedule queue, IPv6, a limit, a full segment, a
        flush or replica to wait for, a refusal. `append` then takes the message, or says why not. The caller vouches that
        ``sys_flag`` has no transaction bits but those of a committed message.
        """
        queue = self._by_key.get((topic, queue_id))
        positions = self.positions
        if queue is None or not positions.is_immediate or not self._is_plain or self.refusal is not None:
            return None
        log = self.log
        body_size = len(body)
        properties_size = len(properties)
        size = 90 + body_size + queue.tail_size + properties_size
        queue_offset = queue.next_offset
        physical_offset = positions.written
        position = physical_offset - log.base
        if (
            queue_offset >= queue.reserved_end
            or position + size + BLANK_SIZE > log.limit
            or properties_size >= 1024
            or body_size > self.settings.message_size_max
            or size > log.append_size_max
            or len(born_host) != 8
            or self._pending
            or queue.is_schedule
            or (self.lights is not None and DISPATCH in properties)
        ):
            return None
        timestamp = self.now_ms()
        if timestamp < positions.store_timestamp_ms:
            timestamp = positions.store_timestamp_ms
        else:
            positions.store_timestamp_ms = timestamp
        end = position + size
        log.view[position:end] = b"".join(
            (
                _PACK_V4(
                    size,
                    MAGIC_V2 if queue.has_long_topic else MAGIC_V1,
                    crc32(body) & CRC_MASK,
                    queue_id,
                    flag,
                    queue_offset,
                    physical_offset,
                    sys_flag & ~HOST_FLAGS,
                    born_timestamp_ms,
                    born_host,
                    timestamp,
                    self.store_host,
                    reconsume_times,
                    prepared_offset,
                    body_size,
                ),
                body,
                queue.tail_part,
                _SIZES[properties_size],
                properties,
            )
        )
        positions.written = positions.dispatched = physical_offset + size
        self.put_count += 1
        queue.next_offset = queue.end = queue_offset + 1
        tags_code = entry_code(properties)
        UNIT.pack_into(queue.view, (queue_offset - queue.view_first) * 20, physical_offset, size, tags_code)
        if not queue.is_dirty:
            self.queues.mark_dirty(queue)
        pending = self._index_pending
        if properties:
            pending.append((physical_offset, timestamp, queue.topic_hash, properties))
            if len(pending) >= self.dispatcher.index_pending_max:
                self.dispatcher.build_index()
        watcher = queue.watcher
        if watcher is not None:
            watcher(queue, queue_offset, tags_code, timestamp, physical_offset)
        if self.on_append is not None:
            self.on_append()
        return physical_offset, queue_offset

    def _beyond_limit(self, body_size: int, properties_size: int, size: int) -> AppendResult:
        if properties_size > PROPERTIES_SIZE_MAX:
            return self.too_many_properties(properties_size)
        if body_size > self.settings.message_size_max:
            return self.illegal(f"body of {body_size} bytes, maxMessageSize is {self.settings.message_size_max}")
        return self.illegal(f"record of {size} bytes, this store takes {self.log.append_size_max}")

    def illegal(self, reason: str) -> AppendResult:
        """Count and answer a message that breaks a limit."""
        self.failed_count += 1
        return AppendResult(PutStatus.MESSAGE_ILLEGAL, reason=reason)

    def too_many_properties(self, size: int) -> AppendResult:
        """Count and answer properties beyond their length field."""
        self.failed_count += 1
        return AppendResult(
            PutStatus.PROPERTIES_SIZE_EXCEEDED, reason=f"properties of {size} bytes, {PROPERTIES_SIZE_MAX} at most"
        )

    def no_room(self, error: OSError) -> AppendResult:
        """Count and answer a message for which there is no file; anything but a full disk is fatal."""
        self.failed_count += 1
        if error.errno not in NO_ROOM_ERRNOS and not isinstance(error, TimeoutError):
            self._fatal(error)
            return AppendResult(PutStatus.UNKNOWN_ERROR, reason=f"disk failed: {error}")
        now = self._monotonic()
        if now - self._no_room_logged_at >= NO_ROOM_LOG_INTERVAL_S:
            # Every send meets this; one line a minute says it.
            self._no_room_logged_at = now
            _logger.error(
                "messages are refused: no room for the next file: %s; free space, or let retention do so", error
            )
        return AppendResult(PutStatus.CREATE_MAPPED_FILE_FAILED, reason=f"no room for the next file: {error}")

    @staticmethod
    def room_for_record_crc(properties: bytes) -> bytes:
        """Properties to which `record_crc` may be added: without an older one, ended by a separator."""
        start = properties.find(_RECORD_CRC_NAME)
        if start == 0 or (start > 0 and properties[start - 1] == 2):
            end = properties.find(b"\x02", start)
            properties = properties[:start] + (properties[end + 1 :] if end >= 0 else b"")
        return properties if not properties or properties[-1] == 2 else properties + b"\x02"


def join_properties(own: bytes, common: bytes) -> bytes:
    """The properties of a batch entry followed by those of the batch, with the separator that old clients leave out."""
    return own + common if not own or own[-1] == 2 else own + b"\x02" + common


def record_crc(record: bytes) -> bytes:
    """The ``__CRC32#`` property that closes a record: ten digits, least significant first (CommitLog.setBatchSizeIfNeeded)."""
    digits = f"{crc32(record) & CRC_MASK:010d}"[::-1]
    return _RECORD_CRC_NAME + digits.encode() + b"\x02"
