"""Reading queues: which records a consumer gets, as slices of the mapped log, and what it is told when there are none.

Only entries below the queue's `end` are looked at, and these point below the readable bound by construction. Bytes are not
copied; neighbours in the log become one slice. What was written before this process began is verified on its way out: a record that
a bad disk changed is passed over and told, never delivered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container
from pathlib import Path

from rocketmq_store.commit_log import CommitLog
from rocketmq_store.consume_queues import UNIT, UNIT_SIZE, ConsumeQueue
from rocketmq_store.light_queues import is_light_record
from rocketmq_store.positions import Positions
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.residency import READ_AHEAD_BYTES, Absent, Range, Residency
from rocketmq_store.scanning import is_record_of
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import GetResult, GetStatus

_logger = logging.getLogger(__name__)

# Below every offset that an entry can name, damaged ones included.
NOTHING_REMOVED = -1 << 63
# Damaged records that are told one by one, and remembered so that each is told once.
DAMAGED_COUNT_MAX = 1000
# Apache's cap on what one pull may carry, whatever the client asks for.
TRANSFER_BYTES_MAX = 128 << 20

# What one pull has read from the disk before it is answered: records, and bytes of them. Those that lie closer are read as one.
COLD_COUNT_MAX = 256
COLD_BYTES_MAX = 8 << 20
COLD_GAP_BYTES = 64 << 10

# True takes the message, False leaves it out, None leaves it out and ends the scan there: enough time was spent.
Accept = Callable[[int, memoryview], bool | None]


class QueueReader:
    """Answers `get_messages`. Used by the writer thread only."""

    def __init__(
        self, log: CommitLog, queues: QueueTable, positions: Positions, residency: Residency, settings: StoreSettings
    ) -> None:
        self._log = log
        self._residency = residency
        self._queues = queues
        self._positions = positions
        self._settings = settings
        self._memory_size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.found_count = 0
        self.missed_count = 0
        self.message_count = 0
        self._damaged: set[tuple[str, int, int]] = set()

    def get_messages(
        self,
        topic: str,
        queue_id: int,
        offset: int,
        count_max: int,
        bytes_max: int,
        tags_codes: Container[int] | None,
        accept: Accept | None,
    ) -> GetResult:
        """See `MessageStore.get_messages`."""
        queue = self._queues.get(topic, queue_id)
        if queue is None:
            self.missed_count += 1
            return GetResult(GetStatus.NO_MATCHED_LOGIC_QUEUE, 0)
        minimum, maximum = queue.min_offset, queue.end
        positions = self._positions
        if positions.confirmed < positions.dispatched and offset < maximum:
            # What was recovered is not sure to stay: nobody has said so yet.
            return GetResult(GetStatus.OFFSET_OVERFLOW_ONE, max(offset, minimum), minimum, maximum)
        if minimum <= offset < maximum:
            result = self._collect(queue, offset, count_max, min(bytes_max, TRANSFER_BYTES_MAX), tags_codes, accept)
            if result.message_count:
                self.found_count += 1
                self.message_count += result.message_count
            else:
                self.missed_count += 1
            return result
        self.missed_count += 1
        if maximum == 0:
            return GetResult(GetStatus.NO_MESSAGE_IN_QUEUE, 0, minimum, maximum)
        if offset < minimum:
            return GetResult(GetStatus.OFFSET_TOO_SMALL, minimum, minimum, maximum)
        if offset == maximum:
            return GetResult(GetStatus.OFFSET_OVERFLOW_ONE, offset, minimum, maximum)
        return GetResult(GetStatus.OFFSET_OVERFLOW_BADLY, maximum, minimum, maximum)

    def _collect(
        self,
        queue: ConsumeQueue,
        offset: int,
        count_max: int,
        bytes_max: int,
        tags_codes: Container[int] | None,
        accept: Accept | None,
    ) -> GetResult:
        settings = self._settings
        minimum, maximum = queue.min_offset, queue.end
        scan_count = max(settings.filter_scan_bytes_max // UNIT_SIZE, count_max)
        try:
            units = queue.units_from(offset, scan_count)
        except FileNotFoundError:
            return GetResult(GetStatus.OFFSET_FOUND_NULL, queue.next_segment_offset(offset), minimum, maximum)
        log = self._log
        segments = log.segments
        segment_size = log.segment_size
        first_base = segments[0].base if segments else 0
        log_end = self._positions.written
        memory_bound = log_end - self._memory_size * settings.in_memory_percent_max // 100
        buffers: list[memoryview] = []
        total = count = 0
        # The slice under construction: neighbours in the log are sent as one.
        run_start = run_end = -1
        removed_to = NOTHING_REMOVED
        was_removed = False
        next_offset = offset
        physical_offset = 0
        trusted_from = queue.trusted_from
        residency = self._residency
        hot_from = residency.hot_from if residency.is_strict else NOTHING_REMOVED
        # Cold log bytes below are in memory.
        present_to = 0
        for physical_offset, size, code in UNIT.iter_unpack(units):
            if physical_offset < removed_to:
                next_offset += 1
                continue
            if count:
                if count >= count_max or total + size > bytes_max:
                    break
                if physical_offset >= memory_bound:
                    if (
                        total + size > settings.transfer_bytes_in_memory_max
                        or count >= settings.transfer_count_in_memory_max
                    ):
                        break
                elif total + size > settings.transfer_bytes_on_disk_max or count >= settings.transfer_count_on_disk_max:
                    break
            if tags_codes is not None and code not in tags_codes:
                next_offset += 1
                continue
            number = (physical_offset - first_base) // segment_size
            if number < 0 or number >= len(segments) or size == 0x7FFFFFFF:
                if next_offset < trusted_from and (physical_offset < 0 or number >= len(segments)):
                    self._tell_damage(queue, next_offset, log.directory, physical_offset)
                was_removed = True
                removed_to = (
                    physical_offset - physical_offset % segment_size + segment_size if number < 0 else NOTHING_REMOVED
                )
                next_offset += 1
                continue
            if physical_offset < hot_from and physical_offset + size > present_to:
                segment = segments[number]
                start = physical_offset - segment.base
                if not residency.is_present(segment.mapping, start, min(start + size, segment.size)):
                    if next_offset > offset:
                        # What was found so far is answered; the next pull begins with what must be fetched.
                        break
                    raise Absent(self._cold_ranges(units, count_max, bytes_max, tags_codes))
                present_to = segment.base + residency.present_to(segment.mapping, start)
            if next_offset < trusted_from:
                segment = segments[number]
                start = physical_offset - segment.base
                if not (
                    is_light_record(segment.view, start, segment.base, size, queue.topic, next_offset)
                    if queue.is_light
                    else is_record_of(
                        segment.view, start, segment.base, size, queue.queue_id, next_offset, queue.tail_part
                    )
                ):
                    self._tell_damage(queue, next_offset, segment.path, start)
                    next_offset += 1
                    continue
            if accept is not None:
                start = physical_offset - segments[number].base
                wanted = accept(code, segments[number].view[start : start + size])
                if not wanted:
                    next_offset += 1
                    if wanted is None:
                        break
                    continue
            if physical_offset == run_end and run_end % segment_size:
                run_end += size
            else:
                if run_end >= 0:
                    segment = segments[(run_start - first_base) // segment_size]
                    buffers.append(segment.view[run_start - segment.base : run_end - segment.base])
                run_start, run_end = physical_offset, physical_offset + size
            total += size
            count += 1
            next_offset += 1
        if run_end >= 0:
            segment = segments[(run_start - first_base) // segment_size]
            buffers.append(segment.view[run_start - segment.base : run_end - segment.base])
            status = GetStatus.FOUND
        else:
            status = GetStatus.MESSAGE_WAS_REMOVING if was_removed else GetStatus.NO_MATCHED_MESSAGE
        return GetResult(
            status, next_offset, minimum, maximum, buffers, count, total, is_cold=physical_offset < memory_bound
        )

    def _cold_ranges(
        self, units: memoryview, count_max: int, bytes_max: int, tags_codes: Container[int] | None
    ) -> list[Range]:
        """Where the records lie that a pull wants, and what follows the last of them."""
        ranges: list[Range] = []
        count = total = 0
        for physical_offset, size, code in UNIT.iter_unpack(units):
            segment = self._log.segment_at(physical_offset)
            if segment is None or size <= 0 or (tags_codes is not None and code not in tags_codes):
                continue
            start = physical_offset - segment.base
            end = min(start + size, segment.size)
            last = ranges[-1] if ranges else None
            if last is not None and last.mapping is segment.mapping and 0 <= start - last.end <= COLD_GAP_BYTES:
                ranges[-1] = last._replace(end=end)
            else:
                ranges.append(Range(segment.mapping, start, end))
            count += 1
            total += end - start
            if count >= min(count_max, COLD_COUNT_MAX) or total >= min(bytes_max, COLD_BYTES_MAX):
                break
        if ranges:
            last = ranges[-1]
            ranges[-1] = last._replace(end=min(last.end + READ_AHEAD_BYTES, len(last.mapping.buffer)))
        return ranges

    @property
    def damaged_count(self) -> int:
        """Records that were passed over because they, or the queue entries that name them, are damaged."""
        return len(self._damaged)

    def _tell_damage(self, queue: ConsumeQueue, offset: int, path: Path, position: int) -> None:
        key = (queue.topic, queue.queue_id, offset)
        if key in self._damaged or len(self._damaged) >= DAMAGED_COUNT_MAX:
            return
        self._damaged.add(key)
        _logger.error(
            "%s: message %d of %s queue %d, at byte %d, is damaged and is not delivered: restore the file from a replica",
            path, offset, queue.topic, queue.queue_id, position,
        )  # fmt: skip
