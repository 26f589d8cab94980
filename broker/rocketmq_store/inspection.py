"""Looking at a store directory without opening it: what is in it, and whether every file says the same.

For `rocketmq store`. Nothing is written or locked, so a directory of a running broker may be looked at too: what is younger than
the look is not judged. The log is walked record by record, and damage is passed over to the next valid record.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rocketmq_common import names
from rocketmq_common.files import RealFiles
from rocketmq_common.light_queues import LIGHT_QUEUE_ID
from rocketmq_common.tables import decode_table
from rocketmq_store.checkpoint import FILE_NAME as CHECKPOINT_NAME
from rocketmq_store.checkpoint import FILE_SIZE as CHECKPOINT_SIZE
from rocketmq_store.checkpoint import Checkpoint, RecoveryHint
from rocketmq_store.commit_log import COMMIT_LOG_DIRECTORY, RECORD_SIZE_MIN
from rocketmq_store.consume_queues import UNIT
from rocketmq_store.index import DIRECTORY as INDEX_DIRECTORY
from rocketmq_store.index_files import ENTRY, HEADER
from rocketmq_store.light_queues import is_light_record, stored_places
from rocketmq_store.queue_table import DIRECTORY as QUEUE_DIRECTORY
from rocketmq_store.scanning import Blank, Scanned, find_valid_after, is_record_of, parse
from rocketmq_store.segments import NAME_DIGITS

FILLER_SIZE = 0x7FFFFFFF
# Of one file; a file that is damaged all over need not be told entry by entry.
FINDINGS_PER_FILE_MAX = 20
CONFIG_DIRECTORY = "config"
INDEX_SLOT_COUNT = 5_000_000


class Finding(NamedTuple):
    """Something wrong: the file, the byte in it, and what it means."""

    path: Path
    position: int
    text: str


class QueueSummary(msgspec.Struct):
    """One queue as its files have it: offsets of the first and after the last entry."""

    topic: str
    queue_id: int
    min_offset: int
    max_offset: int


class StoreSummary(msgspec.Struct):
    """What stands in a directory. Offsets are commit log bytes."""

    is_clean: bool
    log_min_offset: int
    log_file_end: int
    segment_count: int
    queues: list[QueueSummary]
    index_file_count: int
    index_entry_count: int
    hint: RecoveryHint | None
    size_bytes: int


class StoreView:
    """One directory; ``index_slot_count`` is maxHashSlotNum. Raises FileNotFoundError when there is no commit log."""

    def __init__(self, root: Path, *, index_slot_count: int = INDEX_SLOT_COUNT) -> None:
        self.root = root
        self._slot_count = index_slot_count
        directory = root / COMMIT_LOG_DIRECTORY
        if not directory.is_dir():
            raise FileNotFoundError(2, "no store: there is no commit log", str(directory))
        self._segments = {int(path.name): (path, _map(path)) for path in _segment_paths(directory)}
        self.log_end = max((base + len(view) for base, (_, view) in self._segments.items()), default=0)

    @property
    def log_min_offset(self) -> int:
        """First byte of the log."""
        return min(self._segments, default=0)

    def records(self, start: int = 0) -> Iterator[Scanned | Finding]:
        """Everything in the log from the first record at or behind ``start`` on, damage included; `log_end` is set at the end."""
        end = self.log_min_offset
        for base, (path, view) in sorted(self._segments.items()):
            if base + len(view) <= start:
                continue
            position = 0
            while position < len(view):
                found = parse(view, position, base, check_crc=True)
                if isinstance(found, Scanned):
                    position += found.size
                    end = base + position
                    if found.physical_offset >= start:
                        yield found
                    continue
                if found is Blank.FILLER:
                    end = base + len(view)
                    break
                behind = find_valid_after(view, base, position)
                if behind is None:
                    if any(view[position : position + 8]):
                        yield Finding(path, position, "no whole record begins here, nor behind it in this file")
                    break
                yield Finding(path, position, f"damaged up to byte {behind}")
                position = behind
        self.log_end = end

    def verify(self) -> Iterator[Finding]:
        """Every disagreement within and between the files."""
        queued: dict[tuple[str, int], int] = {}
        for found in self.records():
            if isinstance(found, Finding):
                yield found
            elif found.sys_flag & 0xC in (0, 8):
                queued[found.topic.decode(errors="replace"), found.queue_id] = found.queue_offset
                for name, offset in stored_places(found.topic, found.properties).items():
                    queued[name, LIGHT_QUEUE_ID] = offset
        for queue in self.queues():
            yield from self._verify_queue(queue, queued.pop((queue.topic, queue.queue_id), -1))
        for (topic, queue_id), last in queued.items():
            path = self.root / QUEUE_DIRECTORY / topic / str(queue_id)
            yield Finding(
                path, 0, f"missing, although the log has messages up to {last}: the next start builds it anew"
            )
        for path in self._index_paths():
            yield from self._verify_index(path)
        yield from self._verify_small_files()

    def queues(self) -> list[QueueSummary]:
        """Queues by the names and lengths of their files."""
        found = []
        for topic in _directories(self.root / QUEUE_DIRECTORY):
            for directory in _directories(topic):
                paths = _segment_paths(directory)
                if directory.name.isdecimal() and paths:
                    first, last = int(paths[0].name) // UNIT.size, int(paths[-1].name) // UNIT.size
                    count = sum(1 for _, size, _ in _units(paths[-1]) if size > 0)
                    found.append(QueueSummary(topic.name, int(directory.name), first, last + count))
        return found

    def summary(self) -> StoreSummary:
        """Sizes and bounds, without reading the log."""
        index_paths = self._index_paths()
        entries = sum(max(0, HEADER.unpack(_map(path)[: HEADER.size])[5] - 1) for path in index_paths)
        return StoreSummary(
            is_clean=not (self.root / "abort").exists(),
            log_min_offset=self.log_min_offset,
            log_file_end=max((base + len(view) for base, (_, view) in self._segments.items()), default=0),
            segment_count=len(self._segments),
            queues=self.queues(),
            index_file_count=len(index_paths),
            index_entry_count=entries,
            hint=self.hint(),
            size_bytes=sum(path.stat().st_blocks * 512 for path in self.root.rglob("*") if path.is_file()),
        )

    def hint(self) -> RecoveryHint | None:
        """What the checkpoint says to the next start; ``None`` when it cannot be used."""
        path = self.root / CHECKPOINT_NAME
        if not path.exists() or path.stat().st_size != CHECKPOINT_SIZE:
            return None
        checkpoint = Checkpoint(RealFiles(), self.root)
        try:
            return checkpoint.read_hint()
        finally:
            checkpoint.close()

    def _verify_queue(self, queue: QueueSummary, last_in_log: int) -> Iterator[Finding]:
        directory = self.root / QUEUE_DIRECTORY / queue.topic / str(queue.queue_id)
        paths = _segment_paths(directory)
        for path in paths:
            left = FINDINGS_PER_FILE_MAX
            first = int(path.name) // UNIT.size
            for number, (physical, size, _) in enumerate(_units(path)):
                if size == FILLER_SIZE or (0 <= physical < self.log_min_offset):
                    continue
                if physical >= self.log_end and number + first > last_in_log:
                    break  # younger than the look at the log, or cut off by the next start
                if left and not self._is_record(queue, physical, size, first + number):
                    left -= 1
                    yield Finding(
                        path, number * UNIT.size, f"entry {first + number} names no such message ({physical}, {size})"
                    )
        if queue.max_offset <= last_in_log:
            text = f"ends at {queue.max_offset}, the log has messages up to {last_in_log}: the next start adds them"
            yield Finding(paths[-1], (queue.max_offset * UNIT.size) - int(paths[-1].name), text)

    def _is_record(self, queue: QueueSummary, physical: int, size: int, offset: int) -> bool:
        for base, (_, view) in self._segments.items():
            if base <= physical < base + len(view):
                if names.is_light_queue(queue.topic):
                    return is_light_record(view, physical - base, base, size, queue.topic, offset)
                encoded = queue.topic.encode()
                part = len(encoded).to_bytes(1 if len(encoded) <= 127 else 2, "big") + encoded
                return is_record_of(view, physical - base, base, size, queue.queue_id, offset, part)
        return False

    def _verify_index(self, path: Path) -> Iterator[Finding]:
        view = _map(path)
        if len(view) < HEADER.size:
            yield Finding(path, 0, f"{len(view)} bytes are no index file: the next start builds the index anew")
            return
        count = HEADER.unpack(view[: HEADER.size])[5]
        left = FINDINGS_PER_FILE_MAX
        entries_start = HEADER.size + 4 * self._slot_count
        if len(view) < entries_start + ENTRY.size * count:
            yield Finding(path, 36, f"{count} entries do not fit into it with maxHashSlotNum={self._slot_count}")
            return
        for number in range(1, count):
            position = entries_start + number * ENTRY.size
            _, physical, _, previous = ENTRY.unpack_from(view, position)
            is_known = physical < self.log_min_offset or physical >= self.log_end or self._begins_record(physical)
            if left and not (is_known and 0 <= previous < number):
                left -= 1
                yield Finding(path, position, f"entry {number} names no message ({physical})")

    def _begins_record(self, physical: int) -> bool:
        for base, (_, view) in self._segments.items():
            if base <= physical < base + len(view) - RECORD_SIZE_MIN:
                return isinstance(parse(view, physical - base, base, check_crc=False), Scanned)
        return False

    def _verify_small_files(self) -> Iterator[Finding]:
        if self.hint() is None:
            yield Finding(self.root / CHECKPOINT_NAME, 0, "cannot be used: the next start looks at more of the log")
        for path in sorted((self.root / CONFIG_DIRECTORY).glob("*.json")):
            try:
                decode_table(path.read_bytes())
            except ValueError as error:
                yield Finding(path, 0, f"{error}: the next start takes its .bak")

    def _index_paths(self) -> list[Path]:
        directory = self.root / INDEX_DIRECTORY
        return sorted(p for p in directory.iterdir() if p.name.isdecimal()) if directory.is_dir() else []


def _segment_paths(directory: Path) -> list[Path]:
    return sorted(
        p for p in directory.iterdir() if len(p.name) == NAME_DIGITS and p.name.isdecimal() and p.stat().st_size
    )


def _directories(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _map(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _units(path: Path) -> Iterator[tuple[int, int, int]]:
    """Entries of one queue file up to the first empty one."""
    view = _map(path)
    for unit in UNIT.iter_unpack(view[: len(view) - len(view) % UNIT.size]):
        if not any(unit):
            return
        yield unit
