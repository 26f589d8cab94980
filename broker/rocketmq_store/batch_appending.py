"""The append of a client batch: many records, one join, one slice assignment, all or nothing.

The records stand back to back in one segment and have consecutive queue offsets. They are encoded for the place where the log
ends; in the rare case that they do not fit there, the segment is closed and they are encoded once more.

Batches of one shape are encoded as arrays (`batch_arrays`). numpy, which that takes, costs 0.1 s to load and 15 MiB: loaded by
`load_arrays` once the process serves, or by the first batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from itertools import repeat
from typing import TYPE_CHECKING, Any

from rocketmq_common.batches import BatchError, decode_batch
from rocketmq_common.properties import PROPERTY_INNER_MULTI_DISPATCH, find_property
from rocketmq_common.records import BLANK_SIZE
from rocketmq_store.appending import PENDING_DISPATCH_COUNT_MAX, Appender, NewMessage
from rocketmq_store.batch_encoding import EncodedBatch, PropertiesTooLong, encode_records
from rocketmq_store.consume_queues import UNIT_SIZE, ConsumeQueue
from rocketmq_store.light_queues import DISPATCH
from rocketmq_store.statuses import AppendResult, BatchResult, PutStatus

if TYPE_CHECKING:
    from rocketmq_store.batch_arrays import ArrayBatch


@cache
def load_arrays() -> Any:
    """The module `rocketmq_store.batch_arrays`, imported when it is first asked for. Any thread."""
    return import_module("rocketmq_store.batch_arrays")


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
            if self._names_lights(message):
                return _failed(single.illegal("a batch cannot stand in light queues (INNER_MULTI_DISPATCH)"))
            encoded = self._encode(message, queue, timestamp)
            if encoded is None:
                return _failed(single.illegal("batch without messages"))
            if len(encoded.data) > single.log.append_size_max:
                return _failed(
                    single.illegal(
                        f"batch takes {len(encoded.data)} bytes, this store takes {single.log.append_size_max}"
                    )
                )
            return self._write(message, queue, encoded, timestamp)
        except BatchError as error:
            return _failed(single.illegal(str(error)))
        except PropertiesTooLong as error:
            return _failed(single.too_many_properties(error.size))
        except OSError as error:
            return _failed(single.no_room(error))

    def append_batches(self, messages: Sequence[NewMessage]) -> Sequence[BatchResult]:
        """See `MessageStore.append_batches`."""
        results = self._append_together(messages) if len(messages) > 1 else None
        return [self.append_batch(message) for message in messages] if results is None else results

    def _append_together(self, messages: Sequence[NewMessage]) -> list[BatchResult] | None:
        """Append batches that are alike as one; ``None``, with nothing stored, when they must go one by one."""
        single = self._single
        log, positions, dispatcher = single.log, single.positions, single.dispatcher
        first = messages[0]
        by_key = single.queues.by_key
        queues = [by_key.get((first.topic, message.queue_id)) for message in messages]
        if single.refusal is not None or not positions.is_immediate or dispatcher.pending or not are_alike(messages):
            return None
        if single.lights is not None and any(DISPATCH in one.body or DISPATCH in one.properties for one in messages):
            return None
        found = [queue for queue in queues if queue is not None]
        if len(found) < len(queues) or max(len(one.body) for one in messages) > single.settings.message_size_max:
            return None
        timestamp = max(single.now_ms(), positions.store_timestamp_ms)
        try:
            encoded: ArrayBatch | None = load_arrays().encode_even(
                messages, found, single, positions.written, timestamp
            )
            if encoded is None or len(encoded.data) > single.log.append_size_max:
                return None
            position = positions.written - log.base
            if position + len(encoded.data) + BLANK_SIZE > log.limit:
                return None
            for queue in set(found):
                queue.reserve_range(sum(n for n, one in zip(encoded.counts, found, strict=True) if one is queue))
            log.write(position, encoded.data)
        except (PropertiesTooLong, OSError):
            # Nothing of it counts; the same comes up for the one batch that it concerns, and is answered there.
            return None
        positions.store_timestamp_ms = timestamp
        positions.written += len(encoded.data)
        single.put_count += len(encoded.physical_offsets)
        results: list[BatchResult] = []
        units, row = encoded.units(), 0
        for queue, count in zip(found, encoded.counts, strict=True):
            first_queue_offset, stop = queue.next_offset, row + count
            queue.put_range(first_queue_offset, units[row * UNIT_SIZE : stop * UNIT_SIZE])
            queue.end = queue.next_offset = first_queue_offset + count
            if not queue.is_dirty:
                single.queues.mark_dirty(queue)
            offsets = encoded.physical_offsets[row:stop]
            results.append(BatchResult(PutStatus.PUT_OK, offsets, first_queue_offset, offsets.stop, timestamp))
            row = stop
        positions.dispatched = positions.written
        self._index(found[0].topic_hash, encoded, timestamp)
        row = 0
        for queue, result in zip(found, results, strict=True):
            stop = row + len(result.physical_offsets)
            self._tell(queue, result.queue_offset, encoded.codes[row:stop], result.physical_offsets, timestamp)
            row = stop
        if single.on_append is not None:
            single.on_append()
        return results

    def _encode(self, message: NewMessage, queue: ConsumeQueue, timestamp: int) -> ArrayBatch | EncodedBatch | None:
        """For the place where the log ends; ``None`` without messages. Raises BatchError, PropertiesTooLong."""
        single = self._single
        end = single.positions.written
        even: ArrayBatch | None = load_arrays().encode_even((message,), (queue,), single, end, timestamp)
        if even is not None:
            return even
        entries = decode_batch(message.body)
        return encode_records(entries, message, queue, single, end, timestamp) if entries else None

    def _names_lights(self, message: NewMessage) -> bool:
        """Its messages are written as one array, which has no place for further queues."""
        if self._single.lights is None or (DISPATCH not in message.body and DISPATCH not in message.properties):
            return False
        entries = [message.properties, *(entry.properties for entry in decode_batch(message.body))]
        return any(find_property(text.decode(errors="replace"), PROPERTY_INNER_MULTI_DISPATCH) for text in entries)

    def _write(
        self, message: NewMessage, queue: ConsumeQueue, encoded: ArrayBatch | EncodedBatch, timestamp: int
    ) -> BatchResult:
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
                again = self._encode(message, queue, timestamp)
                assert again is not None
                encoded, data = again, again.data
            position = positions.written - log.base
        log.write(position, data)
        positions.store_timestamp_ms = timestamp
        positions.written += len(data)
        first_queue_offset = queue.next_offset
        queue.next_offset += count
        single.put_count += count
        if positions.is_immediate and not dispatcher.pending:
            self._make_visible(queue, first_queue_offset, encoded, timestamp)
        else:
            self._leave_notes(queue, first_queue_offset, encoded, timestamp)
            dispatcher.advance()
        if single.on_append is not None:
            single.on_append()
        return BatchResult(PutStatus.PUT_OK, encoded.physical_offsets, first_queue_offset, positions.written, timestamp)

    def _make_visible(
        self, queue: ConsumeQueue, first_queue_offset: int, encoded: ArrayBatch | EncodedBatch, timestamp: int
    ) -> None:
        single = self._single
        queue.put_range(first_queue_offset, encoded.units())
        queue.end = queue.next_offset
        if not queue.is_dirty:
            single.queues.mark_dirty(queue)
        single.positions.dispatched = single.positions.written
        self._index(queue.topic_hash, encoded, timestamp)
        self._tell(queue, first_queue_offset, encoded.codes, encoded.physical_offsets, timestamp)

    def _index(self, topic_hash: int, encoded: ArrayBatch | EncodedBatch, timestamp: int) -> None:
        dispatcher = self._single.dispatcher
        hashes = encoded.key_hashes(topic_hash)
        if hashes is None or not dispatcher.index_at_once(hashes, encoded.physical_offsets, timestamp):
            index_pending = dispatcher.index.pending
            index_pending.extend(
                zip(encoded.physical_offsets, repeat(timestamp), repeat(topic_hash), encoded.properties)
            )
            while len(index_pending) >= dispatcher.index_pending_max:
                if dispatcher.build_index() >= dispatcher.index_pending_max:
                    break

    def _tell(
        self,
        queue: ConsumeQueue,
        first_queue_offset: int,
        codes: Sequence[int],
        physical_offsets: Sequence[int],
        timestamp: int,
    ) -> None:
        watcher = queue.watcher
        if watcher is not None:
            for queue_offset, (code, physical_offset) in enumerate(
                zip(codes, physical_offsets, strict=True), first_queue_offset
            ):
                watcher(queue, queue_offset, code, timestamp, physical_offset)

    def _leave_notes(
        self, queue: ConsumeQueue, first_queue_offset: int, encoded: ArrayBatch | EncodedBatch, timestamp: int
    ) -> None:
        self._single.dispatcher.pending.extend(
            zip(
                repeat(queue),
                range(first_queue_offset, first_queue_offset + len(encoded.sizes)),
                encoded.physical_offsets,
                encoded.sizes,
                encoded.codes,
                repeat(timestamp),
                encoded.properties,
                repeat(0),
            )
        )


def are_alike(messages: Sequence[NewMessage]) -> bool:
    """They differ in queue, born timestamp and body only."""
    first = messages[0]
    wanted = (first.topic, first.properties, first.sys_flag, first.born_host, first.reconsume_times)
    return all(
        (one.topic, one.properties, one.sys_flag, one.born_host, one.reconsume_times) == wanted for one in messages
    )


def _failed(result: AppendResult) -> BatchResult:
    return BatchResult(result.status, reason=result.reason)
