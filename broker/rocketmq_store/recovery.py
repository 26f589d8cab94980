"""Opening a store after whatever happened to it.

The log is the truth; queues and index are derived from it. Recovery finds where the valid log ends, cuts what is behind, and
brings the derived files to exactly that point. Where it starts is told by the checkpoint's hint, and whether derived files
are whole by the hint's counts; without a usable hint (first start on Apache's files) Apache's own rules are taken. Each step
may be interrupted and begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.light_queues import LIGHT_QUEUE_ID
from rocketmq_store.checkpoint import ApacheCheckpoint, Checkpoint, RecoveryHint
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.consume_queues import UNWRITTEN, ConsumeQueue
from rocketmq_store.errors import StoreCorrupt
from rocketmq_store.index import BUILD_BATCH_COUNT, Index
from rocketmq_store.index_recovery import restore_index
from rocketmq_store.light_queues import stored_places
from rocketmq_store.queue_order import QueueOrder
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.scanning import (
    SECTOR_SIZE,
    Blank,
    Scanned,
    end_of_damage,
    find_valid_after,
    has_unwritten_part,
    parse,
)
from rocketmq_store.segments import Segment
from rocketmq_store.settings import CorruptLogPolicy, StoreSettings
from rocketmq_store.statuses import RecoveryReport
from rocketmq_store.tags import deliver_time_code, entry_code

TRUNCATION_FILE_NAME = "truncation"
# How far behind a bad record intact ones are looked for: more than is written between two flushes.
SEARCH_SIZE = 128 << 20
# Queue offsets missing in the log are filled up to this many; a larger jump starts the queue anew.
FILL_COUNT_MAX = 100_000
CHUNK_SIZE = 1 << 20
# Findings told in the report; the same damage may recur a million times.
NOTE_COUNT_MAX = 50
REMEDY = "restore the file from a replica, or set recoverCorruptLog=truncate to drop everything from there on"


class _QueuesDamaged(Exception):
    """The queues do not fit the log: they must be built from its beginning."""


def finish_truncation(files: FileSystem, root: Path, log_directory: Path, segment_size: int) -> bool:
    """Complete a truncation that a crash interrupted while the segment was short; before segments are listed."""
    marker = root / TRUNCATION_FILE_NAME
    try:
        words = files.read(marker).split()
    except FileNotFoundError:
        return False
    if len(words) == 2 and all(word.isdigit() for word in words):
        path = log_directory / words[0].decode()
        try:
            files.size(path)
            files.truncate_tail(path, int(words[1]), segment_size)
        except FileNotFoundError:
            pass  # The segment went with a later clean-up; there is nothing left to complete.
    files.remove(marker)
    return True


class Recovery:
    """One run over loaded, unstarted parts of a store."""

    def __init__(
        self,
        *,
        files: FileSystem,
        root: Path,
        log: CommitLog,
        queues: QueueTable,
        index: Index,
        is_index_usable: bool,
        checkpoint: Checkpoint,
        settings: StoreSettings,
        clock: Clock,
        is_unclean: bool,
    ) -> None:
        self._files = files
        self._root = root
        self._log = log
        self._queues = queues
        self._index = index
        self._is_index_usable = is_index_usable
        self._checkpoint = checkpoint
        self._settings = settings
        self._clock = clock
        self._is_unclean = is_unclean
        self._levels_ms = settings.delay_level_ms()
        self._notes: list[str] = []
        self._rebuild_queues = False
        self._rebuilt_index = False
        self._hint: RecoveryHint | None = None
        self._known_end = 0
        self._queue_end = 0
        self._scanned_bytes = 0
        self._dispatched_count = 0
        self._indexed_count = 0
        self._indexed_to = 0
        self._seen: set[int] = set()
        self.end_offset = 0
        self.store_timestamp_ms = 0

    def run(self) -> RecoveryReport:
        """Recover; `end_offset` and `store_timestamp_ms` are set on return. Raises StoreCorrupt, OSError."""
        started = self._clock.monotonic()
        log = self._log
        apache = self._checkpoint.read_apache()
        self._hint = self._usable_hint()
        self.store_timestamp_ms = apache.physic_timestamp_ms if self._hint is not None else 0
        is_fresh = not log.segments and not self._queues.by_key
        if self._is_unclean:
            self._sync_found()
        self._check_queues()
        index_from = self._index_start(apache)
        scan_from, dispatch_from = self._starts(apache)
        try:
            truncated = self._pass(scan_from, dispatch_from, index_from)
            self._cut_queues()
            if not self._rebuild_queues and (self._is_unclean or self._hint is None):
                self._verify_last_entries()
        except _QueuesDamaged as finding:
            self._demand_rebuild(str(finding))
            truncated = self._pass(log.min_offset, log.min_offset, max(index_from, self._indexed_to))
            self._cut_queues()
        if self._is_unclean:
            self._write_again(scan_from if self._hint is None else dispatch_from)
        for queue in self._queues.by_key.values():
            queue.correct_min_offset(log.min_offset)
        return RecoveryReport(
            mode="fresh" if is_fresh else "unclean" if self._is_unclean else "clean",
            scanned_bytes=self._scanned_bytes,
            truncated_bytes=truncated,
            dispatched_count=self._dispatched_count,
            indexed_count=self._indexed_count,
            rebuilt_queues=self._rebuild_queues,
            rebuilt_index=self._rebuilt_index,
            log_min_offset=log.min_offset,
            log_max_offset=self.end_offset,
            elapsed_ms=int((self._clock.monotonic() - started) * 1000),
            notes=tuple(self._notes),
        )

    def _note(self, text: str) -> None:
        if len(self._notes) < NOTE_COUNT_MAX:
            self._notes.append(text)

    # Where to start.

    def _usable_hint(self) -> RecoveryHint | None:
        hint = self._checkpoint.read_hint()
        if hint is None:
            return None
        log = self._log
        file_end = log.segments[-1].end if log.segments else 0
        if hint.consistent_offset > file_end:
            missing = f"{hint.consistent_offset} bytes were durable but the files of the commit log end at {file_end}"
            if self._settings.recover_corrupt_log is not CorruptLogPolicy.TRUNCATE:
                raise StoreCorrupt(f"{self._root / 'commitlog'}: {missing}: {REMEDY}")
            self._note(missing)
            return None
        return hint

    def _sync_found(self) -> None:
        # What survived only in memory until now must not be trusted before it is on the disk (rule E11).
        start = self._hint.verify_offset if self._hint is not None else 0
        for segment in self._log.segments:
            if segment.end > start:
                self._files.sync_file(segment.path)

    def _write_again(self, start: int) -> None:
        # The process may have ended because a sync failed. The kernel then takes pages for clean that the disk never got, and
        # syncing them once more would promise what is not there: what is kept behind the last checkpoint is written anew.
        for segment in self._log.segments:
            first, last = max(start, segment.base), min(self.end_offset, segment.end)
            if first < last:
                segment.rewrite(first - segment.base, last - first)
                segment.sync()

    def _check_queues(self) -> None:
        for problem in self._queues.problems:
            self._demand_rebuild(problem)
        queues = [queue for queue in self._queues.by_key.values() if queue.segment_firsts]
        self._queue_end = max((queue.log_end for queue in queues if queue.log_end != UNWRITTEN), default=0)
        hint = self._hint
        if hint is None:
            self._known_end = 0 if self._is_unclean else self._queue_end
            if self._queue_end == 0 and self._log.segments:
                self._demand_rebuild("there are none")
            return
        self._known_end = hint.consistent_offset
        count = units = firsts = 0
        for queue in queues:
            end = queue.end
            if queue.log_end > hint.consistent_offset:
                end = queue.first_at_or_after(hint.consistent_offset)
            if end > queue.segment_firsts[0]:
                count += 1
                units += end
                firsts += queue.segment_firsts[0]
            if self._is_unclean and end < queue.end:
                # Entries younger than the hint may be there or not after a power loss: they are written again.
                queue.cut(end)
        found, expected = (count, units, firsts), (hint.queue_count, hint.unit_total, hint.first_total)
        if found != expected:
            self._demand_rebuild(f"(queues, entries, first entries) are {found}, should be {expected}")

    def _demand_rebuild(self, reason: str) -> None:
        self._rebuild_queues = True
        self._note(f"consume queues are rebuilt from the log: {reason}")
        # Should this be interrupted, the next start must begin again, but still know how far the log was complete.
        hint = self._hint
        distrusted = None if hint is None else msgspec.structs.replace(hint, queue_count=-1)
        self._checkpoint.write(self._checkpoint.read_apache(), distrusted)

    def _index_start(self, apache: ApacheCheckpoint) -> int:
        if not self._settings.index_enable:
            return 1 << 62
        start = restore_index(
            self._index,
            self._hint.index if self._hint is not None else None,
            apache,
            is_usable=self._is_index_usable,
            is_unclean=self._is_unclean,
        )
        if start is None:
            self._rebuilt_index = bool(self._log.segments)
            if self._rebuilt_index:
                self._note("the index is rebuilt from the log")
            return self._log.min_offset
        return max(start, self._log.min_offset)

    def _starts(self, apache: ApacheCheckpoint) -> tuple[int, int]:
        log_min = self._log.min_offset
        hint = self._hint
        if self._rebuild_queues:
            return log_min, log_min
        if hint is not None:
            scan_from = hint.verify_offset if self._is_unclean else hint.consistent_offset
            return max(scan_from, log_min), max(hint.consistent_offset, log_min)
        if self._is_unclean:
            chosen = self._segment_before(lambda first: first.store_timestamp_ms <= apache.min_timestamp_ms)
            start = self._log.segments[max(chosen - 1, 0)].base if self._log.segments else log_min
            return start, start
        chosen = self._segment_before(lambda first: first.physical_offset <= self._queue_end)
        start = self._log.segments[chosen].base if self._log.segments else log_min
        return start, max(start, self._queue_end)

    def _segment_before(self, is_early: Callable[[Scanned], bool]) -> int:
        for number in range(len(self._log.segments) - 1, -1, -1):
            segment = self._log.segments[number]
            first = parse(segment.view, 0, segment.base, check_crc=False)
            if isinstance(first, Scanned) and is_early(first):
                return number
        return 0

    # The pass over the log.

    def _pass(self, scan_from: int, dispatch_from: int, index_from: int) -> int:
        start = min(scan_from, dispatch_from, index_from)
        note_index = self._index.pending.append
        queues: dict[tuple[bytes, int], ConsumeQueue] = {}
        order = QueueOrder(self._dispatch, self._fill_gap, self._note, is_rebuild=self._rebuild_queues)
        for record in self._records(start):
            offset = record.physical_offset
            if record.store_timestamp_ms > self.store_timestamp_ms:
                self.store_timestamp_ms = record.store_timestamp_ms
            if offset < dispatch_from and offset < index_from:
                continue
            queue = queues.get((record.topic, record.queue_id))
            if queue is None:
                queue = self._queue_of(record)
                if queue is None:
                    continue
                queues[record.topic, record.queue_id] = queue
            transaction = record.sys_flag & 0xC
            if offset >= dispatch_from and transaction in (0, 8):
                order.place(queue, record)
                if self._settings.has_light_queues:
                    for name, light_offset in stored_places(record.topic, record.properties).items():
                        if self._queues.is_storable(name):
                            self._dispatch(self._queues.create(name, LIGHT_QUEUE_ID), light_offset, record)
            if offset >= index_from and transaction != 12 and record.properties:
                note_index((offset, record.store_timestamp_ms, queue.topic_hash, record.properties))
                self._indexed_count += 1
                self._indexed_to = offset + record.size
                if len(self._index.pending) >= BUILD_BATCH_COUNT:
                    self._index.build_pending()
        order.finish()
        while self._index.pending:
            self._index.build_pending()
        self._scanned_bytes += max(0, self.end_offset - start)
        if index_from < 1 << 62:
            self._indexed_to = max(self._indexed_to, self.end_offset)
        return self._truncate()

    def _records(self, start: int) -> Iterator[Scanned]:
        check_crc = self._settings.check_crc_on_recover
        # What was durable, or closed in order, has no torn end.
        torn_from = self._known_end if self._is_unclean else 1 << 62
        self.end_offset = start
        segments = self._log.segments
        for number, segment in enumerate(segments):
            if segment.end <= start:
                continue
            view, base = segment.view, segment.base
            position = max(0, start - base)
            while True:
                found = parse(view, position, base, check_crc=check_crc)
                if isinstance(found, Scanned) and (base + position < torn_from or not self._is_torn(found)):
                    yield found
                    position += found.size
                    continue
                if found is Blank.FILLER:
                    self.end_offset = segment.end
                    break
                self.end_offset = base + position
                self._judge_end(segment, position, segments[number + 1 :])
                return

    @staticmethod
    def _is_torn(record: Scanned) -> bool:
        """The end of a record that was being written is missing, where no checksum covers it.

        Topic and properties are text without zero bytes; where a write stopped, zeros follow.
        """
        text = record.properties or record.topic
        return text.endswith(b"\0") or bytes(SECTOR_SIZE) in text

    def _judge_end(self, segment: Segment, position: int, later: list[Segment]) -> None:
        """Decide whether the log may end here; raises StoreCorrupt when that would drop what must be there."""
        offset = segment.base + position
        if offset < self._known_end:
            self._refuse(segment, position, f"the log was complete up to {self._known_end}")
            return
        later_base = next(
            (s.base for s in later if isinstance(parse(s.view, 0, s.base, check_crc=True), Scanned)), None
        )
        if not self._is_unclean and self._hint is not None and later_base is None:
            return
        window = segment.view[: position + SEARCH_SIZE]
        valid = find_valid_after(window, segment.base, position)
        if valid is None and later_base is None:
            return
        hole_end = valid if valid is not None else end_of_damage(segment.view, position)
        if self._is_unclean and has_unwritten_part(segment.view, position, hole_end):
            self._note(
                f"{segment.path}: blocks at byte {position} were never written; records behind them were not acknowledged "
                "as durable and are dropped"
            )
            return
        if self._hint is None and later_base is None and self._queue_end <= offset:
            self._note(f"{segment.path}: stale records behind byte {position} are dropped")
            return
        behind = segment.base + valid if valid is not None else later_base
        self._refuse(segment, position, f"valid records follow at {behind}")

    def _refuse(self, segment: Segment, position: int, finding: str) -> None:
        text = f"{segment.path} is damaged at byte {position} (log offset {segment.base + position}): {finding}"
        if self._settings.recover_corrupt_log is not CorruptLogPolicy.TRUNCATE:
            raise StoreCorrupt(f"{text}: {REMEDY}")
        self._note(f"{text}; dropped as recoverCorruptLog=truncate demands")

    def _truncate(self) -> int:
        log, end = self._log, self.end_offset
        truncated = 0
        while len(log.segments) > 1 and log.segments[-1].base >= end:
            segment = log.segments.pop()
            if any(segment.view[:8]):
                truncated += segment.size
            segment.remove()
        if not log.segments or end >= log.segments[-1].end:
            return truncated
        last = log.segments[-1]
        cut = end - last.base
        if self._is_unclean or any(last.view[cut : cut + 8]):
            torn = _used_size(last.view[cut:])
            if torn:
                self._note(f"{last.path}: {torn} bytes from byte {cut} on are no whole record and were cut off")
            truncated += torn
            last.close()
            marker = self._root / TRUNCATION_FILE_NAME
            self._files.replace(marker, f"{last.path.name} {cut}\n".encode(), backup=False)
            self._files.truncate_tail(last.path, cut, last.size)
            self._files.remove(marker)
        return truncated

    # Queues.

    def _queue_of(self, record: Scanned) -> ConsumeQueue | None:
        try:
            topic = record.topic.decode()
        except UnicodeDecodeError:
            topic = ""
        if not self._queues.is_storable(topic) or record.queue_id < 0:
            self._note(f"record at {record.physical_offset} names no usable queue; it stays in the log only")
            return None
        return self._queues.create(topic, record.queue_id)

    def _dispatch(self, queue: ConsumeQueue, offset: int, record: Scanned) -> None:
        if queue.is_schedule:
            code = deliver_time_code(record.properties, record.store_timestamp_ms, self._levels_ms)
        else:
            code = entry_code(record.properties)
        if self._rebuild_queues and id(queue) not in self._seen:
            self._seen.add(id(queue))
            queue.restart(offset)
        elif offset < queue.end:
            # A power loss may have taken older segments whose names were not durable yet, or all.
            first = queue.segment_firsts[0] if queue.segment_firsts else queue.end
            if offset >= max(first, queue.min_offset) and queue.unit(offset)[0] == record.physical_offset:
                return
            # The topic was deleted and began anew.
            if offset > first:
                queue.cut(offset)
            else:
                queue.restart(offset)
        elif offset > queue.end:
            if not self._rebuild_queues:
                raise _QueuesDamaged(
                    f"{queue.topic} queue {queue.queue_id} ends at {queue.end}, the log goes on with {offset}"
                )
            self._fill_gap(queue, offset)
        queue.put(offset, record.physical_offset, record.size, code)
        queue.end = queue.next_offset = offset + 1
        self._dispatched_count += 1
        if not queue.is_dirty:
            self._queues.mark_dirty(queue)

    def _fill_gap(self, queue: ConsumeQueue, offset: int) -> None:
        self._note(f"{queue.topic} queue {queue.queue_id}: messages {queue.end} to {offset - 1} are not in the log")
        if offset - queue.end > FILL_COUNT_MAX:
            queue.restart(offset)
            return
        for missing in range(queue.end, offset):
            queue.put(missing, 0, 0x7FFFFFFF, 0)
        queue.end = queue.next_offset = offset

    def _cut_queues(self) -> None:
        """Drop entries that point behind the log, and in a rebuild those of queues that the log no longer names."""
        for queue in self._queues.by_key.values():
            if not queue.segment_firsts:
                continue
            bound = self.end_offset
            if self._rebuild_queues and id(queue) not in self._seen:
                bound = self._log.min_offset
            if queue.log_end > bound:
                queue.cut(queue.first_at_or_after(bound))
                if not queue.is_dirty:
                    self._queues.mark_dirty(queue)

    def _verify_last_entries(self) -> None:
        log = self._log
        for queue in self._queues.by_key.values():
            if not queue.segment_firsts or queue.end <= queue.segment_firsts[0]:
                continue
            physical_offset = queue.unit(queue.end - 1)[0]
            segment = log.segment_at(physical_offset)
            if segment is None:
                continue
            found = parse(segment.view, physical_offset - segment.base, segment.base, check_crc=False)
            if not (isinstance(found, Scanned) and _stands_at(found, queue, queue.end - 1)):
                raise _QueuesDamaged(
                    f"the last entry of {queue.topic} queue {queue.queue_id} names another record, at {physical_offset}"
                )


def _used_size(tail: memoryview) -> int:
    """Bytes up to the last one that is not zero, as far as there is no empty megabyte before it."""
    used = 0
    for start in range(0, len(tail), CHUNK_SIZE):
        content = bytes(tail[start : start + CHUNK_SIZE]).rstrip(b"\0")
        if not content:
            break
        used = start + len(content)
    return used


def _stands_at(record: Scanned, queue: ConsumeQueue, offset: int) -> bool:
    if queue.is_light:
        return stored_places(record.topic, record.properties).get(queue.topic) == offset
    return record.queue_offset == offset and record.queue_id == queue.queue_id and record.topic == queue.topic.encode()
