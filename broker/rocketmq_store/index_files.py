"""One index file: a hash table on disk from ``topic#key`` to commit log offsets.

Layout (apache/rocketmq IndexFile, IndexHeader; big-endian): header of 40 bytes, begin timestamp i64, end timestamp i64, begin
offset i64, end offset i64, used slots i32, next entry number i32 (starts at 1); then the slots, i32 each, holding the newest
entry of their chain; then entries of 20 bytes: key hash i32, commit log offset i64, seconds since the begin timestamp i32,
older entry of the same slot i32. Entry 0 is never used.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from rocketmq_common.files import FileSystem
from rocketmq_store.residency import Residency
from rocketmq_store.rows import pack_rows

HEADER = struct.Struct(">qqqqii")
ENTRY = struct.Struct(">iqii")
SLOT = struct.Struct(">i")
ENTRY_SIZE = ENTRY.size
# Blocks for entries are given in steps of this size.
ALLOCATION_STEP = 1 << 20
CLEAR_STEP = 1 << 16
TIME_DIFF_MAX = 0x7FFFFFFF
_IS_LITTLE = sys.byteorder == "little"


class IndexFile:
    """An index file, mapped. Only the writer thread uses it; `path` is synced by the flush thread."""

    __slots__ = (
        "_allocated_size",
        "_begin_ms",
        "_entries_start",
        "_entry_count_max",
        "_mapping",
        "_marked_end_ms",
        "_size",
        "_used_slots",
        "_view",
        "begin_offset",
        "count",
        "end_ms",
        "end_offset",
        "path",
        "slot_count",
        "slots",
    )

    def __init__(self, files: FileSystem, path: Path, slot_count: int, entry_count_max: int, *, create: bool) -> None:
        """Map the file. Raises OSError: ENOSPC, or EINVAL when its size does not fit the configuration."""
        self.path = path
        self.slot_count = slot_count
        self._entry_count_max = entry_count_max
        self._entries_start = HEADER.size + SLOT.size * slot_count
        self._size = self._entries_start + ENTRY_SIZE * entry_count_max
        self._allocated_size = self._entries_start
        # Slots are hit at random, so they get their blocks at once; entries as they come.
        # A new file is synced by the next checkpoint that names it: a sync here would stop the writer.
        self._mapping = files.map_file(
            path, self._size, create=create, allocated=self._entries_start, durable=False, is_read_ahead=False
        )
        self._view = self._mapping.buffer
        # Of the newest entry of each chain. In the byte order of the machine: values are swapped many at a time.
        self.slots = self._view[HEADER.size : self._entries_start].cast("I")
        header: tuple[int, int, int, int, int, int] = HEADER.unpack_from(self._view, 0)
        self._begin_ms, self.end_ms, self.begin_offset, self.end_offset, self._used_slots, count = header
        # The end time that the header has. It follows the checkpoint (`mark_end`): after a kill Apache's broker removes every
        # file whose header ends later than the checkpoint says.
        self._marked_end_ms = self.end_ms
        self.count = max(count, 1)

    @property
    def is_full(self) -> bool:
        """No entry fits any more."""
        return self.count >= self._entry_count_max

    @property
    def begin_ms(self) -> int:
        """Store time of the first entry."""
        return self._begin_ms

    @property
    def used_slots(self) -> int:
        """Slots with at least one entry."""
        return self._used_slots

    def begin_after(self, previous: IndexFile) -> None:
        """Start a new file with the end of the one before, as Java does, until the first entry comes."""
        self._begin_ms = self.end_ms = previous.end_ms
        self._marked_end_ms = previous._marked_end_ms
        self.begin_offset = self.end_offset = previous.end_offset
        self.write_header()

    def reserve(self, count: int) -> int:
        """Get ready for up to ``count`` entries; return how many fit. Raises OSError when the disk is full.

        The header counts them before they are there: were the process to die in between, a slot never points behind the
        count, which readers take for an empty chain.
        """
        count = min(count, self._entry_count_max - self.count)
        needed = self._entries_start + (self.count + count) * ENTRY_SIZE
        if needed > self._allocated_size:
            end = min(-(-needed // ALLOCATION_STEP) * ALLOCATION_STEP, self._size)
            self._mapping.allocate(self._allocated_size, end - self._allocated_size)
            self._allocated_size = end
        HEADER.pack_into(
            self._view,
            0,
            self._begin_ms,
            self._marked_end_ms,
            self.begin_offset,
            self.end_offset,
            self._used_slots,
            self.count + count,
        )
        return count

    def put_columns(self, hashes: Sequence[int], physical_offsets: Sequence[int], timestamps_ms: Sequence[int]) -> None:
        """Add entries, reserved before, and bring the header up to date; the columns have one item per entry."""
        if not hashes:
            return
        self.begin_with(physical_offsets[0], timestamps_ms[0])
        number = self.count
        slot_count = self.slot_count
        slots = [key_hash % slot_count for key_hash in hashes]
        previous = self._newest_of(slots)
        if len(set(slots)) == len(slots) and max(previous) < number:
            used_count = previous.count(0)
        else:
            used_count = chain(slots, previous, number)
        self.write_entries(pack_rows("iqii", hashes, physical_offsets, self._seconds(timestamps_ms), previous))
        numbers = array("I", range(number, number + len(slots)))
        if _IS_LITTLE:
            numbers.byteswap()
        table = self.slots
        # In order: of entries that share a slot, the youngest stays in it.
        for slot, newest in zip(slots, numbers, strict=True):
            table[slot] = newest
        self.end_with(len(slots), used_count, physical_offsets[-1], timestamps_ms[-1])

    def begin_with(self, physical_offset: int, timestamp_ms: int) -> None:
        """An entry comes; the first of a file gives it its begin."""
        if self.count <= 1:
            self.begin_offset, self._begin_ms = physical_offset, timestamp_ms

    def write_entries(self, entries: bytes) -> None:
        """Write encoded entries behind those that count; before the slots that point to them."""
        start = self._entries_start + self.count * ENTRY_SIZE
        self._view[start : start + len(entries)] = entries

    def end_with(self, count: int, used_slot_count: int, physical_offset: int, timestamp_ms: int) -> None:
        """``count`` written entries count from now on; ``used_slot_count`` of their slots were empty."""
        self.count += count
        self._used_slots += used_slot_count
        self.end_offset, self.end_ms = physical_offset, timestamp_ms
        self.write_header()

    def seconds(self, timestamp_ms: int) -> int:
        """Seconds since the begin of the file, as entries have them."""
        return min(max((timestamp_ms - self._begin_ms) // 1000, 0), TIME_DIFF_MAX) if self._begin_ms > 0 else 0

    def _newest_of(self, slots: list[int]) -> list[int]:
        table = self.slots
        newest = array("I", [table[slot] for slot in slots])
        if _IS_LITTLE:
            newest.byteswap()
        return newest.tolist()

    def _seconds(self, timestamps_ms: Sequence[int]) -> list[int]:
        first_ms, count = timestamps_ms[0], len(timestamps_ms)
        if timestamps_ms.count(first_ms) == count:
            return [self.seconds(first_ms)] * count
        return [self.seconds(timestamp_ms) for timestamp_ms in timestamps_ms]

    def write_header(self) -> None:
        """Put the header in agreement with the entries."""
        HEADER.pack_into(
            self._view,
            0,
            self._begin_ms,
            self._marked_end_ms,
            self.begin_offset,
            self.end_offset,
            self._used_slots,
            self.count,
        )

    @property
    def is_end_marked(self) -> bool:
        """The header names the last entry's store time."""
        return self._marked_end_ms >= self.end_ms

    def mark_end(self, checkpoint_ms: int) -> None:
        """Let the header name the last entry's store time, as far as the checkpoint has come."""
        marked_ms = min(self.end_ms, checkpoint_ms)
        if marked_ms > self._marked_end_ms:
            self._marked_end_ms = marked_ms
            self.write_header()

    def offsets(self, key_hash: int, begin_ms: int, end_ms: int, residency: Residency | None = None) -> Iterator[int]:
        """Commit log offsets with this hash stored between the times (to the second), newest first. Raises Absent."""
        position = HEADER.size + key_hash % self.slot_count * SLOT.size
        if residency is not None:
            residency.require(self._mapping, position, position + SLOT.size)
        number = SLOT.unpack_from(self._view, position)[0]
        bound = self.count
        while 0 < number < bound:
            position = self._entries_start + number * ENTRY_SIZE
            if residency is not None:
                residency.require(self._mapping, position, position + ENTRY_SIZE)
            found_hash, physical_offset, seconds, previous = ENTRY.unpack_from(self._view, position)
            if found_hash == key_hash:
                time_ms = self._begin_ms + seconds * 1000
                if begin_ms - 1000 < time_ms <= end_ms:
                    yield physical_offset
            # Entries point to older ones only; anything else is damage and ends the chain.
            bound, number = number, previous

    def rewind(self, count: int, used_slots: int, end_offset: int, end_ms: int) -> None:
        """Go back to the state with next entry ``count``, whose entries below are durable, whatever was added since.

        After a power loss any subset of younger sectors may be there, so a slot may name an entry that is not, or one that names no
        older one because the sector with its last bytes is missing: then the durable part of a chain would be lost. No field of an
        entry lies in two sectors, so either the way back leads to a durable entry of the same slot or fewer slots are in use
        than were: the slots are then made anew from the durable entries.
        """
        slots_end = self._entries_start
        slots = array("i")
        slots.frombytes(self._view[40:slots_end])
        slots.byteswap()
        if slots and max(slots) >= count:
            is_traceable = True
            for slot, newest in enumerate(slots):
                if newest >= count:
                    number = self._trace(slot, newest, count, end_offset)
                    if number < 0:
                        is_traceable = False
                        break
                    slots[slot] = number
            if not is_traceable or self.slot_count - slots.count(0) != used_slots:
                slots = array("i", bytes(4 * self.slot_count))
                entries = self._view[self._entries_start + ENTRY_SIZE : self._entries_start + count * ENTRY_SIZE]
                for number, entry in enumerate(ENTRY.iter_unpack(entries), 1):
                    slots[entry[0] % self.slot_count] = number
            slots.byteswap()
            self._view[40:slots_end] = memoryview(slots).cast("B")
        self._forget_entries(count)
        self.count = count
        self._used_slots = used_slots
        self.end_offset = end_offset
        self.end_ms = self._marked_end_ms = end_ms
        if count <= 1:
            self._begin_ms = end_ms
            self.begin_offset = end_offset
        self.write_header()

    def _trace(self, slot: int, newest: int, count: int, end_offset: int) -> int:
        number = newest
        while number >= count:
            if number >= self._entry_count_max:
                return -1
            key_hash, physical_offset, _, previous = ENTRY.unpack_from(
                self._view, self._entries_start + number * ENTRY_SIZE
            )
            if key_hash < 0 or key_hash % self.slot_count != slot or not 0 <= previous < number:
                return -1
            if physical_offset < end_offset or (key_hash == 0 and physical_offset == 0):
                return -1
            number = previous
        # An older entry that is of another slot was not what the younger one named.
        is_of_slot = (
            not number
            or ENTRY.unpack_from(self._view, self._entries_start + number * ENTRY_SIZE)[0] % self.slot_count == slot
        )
        return number if is_of_slot else -1

    def _forget_entries(self, start: int) -> None:
        """Have entries from ``start`` on read as never written: no later power loss mixes them with what takes their place."""
        position, end = self._entries_start + start * ENTRY_SIZE, self._size
        while position < end:
            # Up to the last byte that is not zero: what is behind may have no blocks.
            used_size = len(bytes(self._view[position : min(position + CLEAR_STEP, end)]).rstrip(b"\0"))
            if not used_size:
                break
            self._view[position : position + used_size] = bytes(used_size)
            position += CLEAR_STEP

    def close(self) -> None:
        """Unmap."""
        self.slots.release()
        self._view = memoryview(b"")
        self._mapping.close()


def chain(slots: list[int], newest: list[int], number: int) -> int:
    """Make ``newest`` what each new entry, numbered from ``number`` on, points to; return how many slots were empty.

    ``newest`` holds what the slots name; what is not below ``number`` (left there by a crash) counts as empty. Entries of one
    slot point to each other.
    """
    newest_in: dict[int, int] = {}
    empty_count = 0
    for index, slot in enumerate(slots):
        previous = newest_in.get(slot, newest[index])
        if not 0 < previous < number + index:
            previous = 0
            empty_count += 1
        newest[index] = previous
        newest_in[slot] = number + index
    return empty_count
