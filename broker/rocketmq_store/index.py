"""The message index: finds messages by unique key and by the application's keys.

Hashing a key costs as much as half an append, so the append only notes what must be indexed; `build_pending` does the work in
batches behind it, and a query first finishes what is pending. A batch of messages of one shape costs less indexed at once than
noted (`put_hashes`). Called by the dispatcher, the store's tick and queries, all on the writer thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Protocol

from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.hashing import java_hash_from
from rocketmq_store.checkpoint import IndexHint
from rocketmq_store.index_files import IndexFile
from rocketmq_store.index_keys import IndexNote, index_entries, key_hash
from rocketmq_store.residency import Residency

DIRECTORY = "index"
NAME_DIGITS = 17
# Messages noted but not indexed yet; the append that reaches this bound builds a part itself.
PENDING_COUNT_MAX = 16_384
BUILD_BATCH_COUNT = 128


class KeyHashes(Protocol):
    """Index hashes of consecutive messages, one each, that know how to enter themselves into a file with room for them."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> KeyHashes: ...

    def put(self, file: IndexFile, physical_offsets: Sequence[int], timestamp_ms: int) -> None:
        """Add an entry for each."""


class Index:
    """All index files, the last one being filled."""

    def __init__(self, files: FileSystem, root: Path, slot_count: int, entry_count_max: int, clock: Clock) -> None:
        self._files = files
        self._directory = root / DIRECTORY
        self._slot_count = slot_count
        self._entry_count_max = entry_count_max
        self._clock = clock
        self.files: list[IndexFile] = []
        # In log order.
        self.pending: deque[IndexNote] = deque()
        self.indexed_count = 0

    def load(self) -> bool:
        """Map the files on disk; ``False`` when any cannot be used and all must be rebuilt."""
        self._files.make_directory(self._directory)
        unfit: list[Path] = []
        for path in self._files.list(self._directory):
            if len(path.name) != NAME_DIGITS or not path.name.isdecimal():
                continue
            if self._files.size(path) != self.file_size:
                unfit.append(path)
                continue
            self.files.append(IndexFile(self._files, path, self._slot_count, self._entry_count_max, create=False))
        for file, younger in pairwise(self.files):
            # Killed between a checkpoint and the marks that follow it: the header may end too early, never too late.
            file.end_ms = max(file.end_ms, younger.begin_ms)
        if len(unfit) == 1 and (not self.files or unfit[0] > self.files[-1].path):
            # Half made when the process died. Were it more, the checkpoint would miss it.
            self._files.remove(unfit.pop())
        return not unfit

    @property
    def file_size(self) -> int:
        """Bytes of each file."""
        return 40 + 4 * self._slot_count + 20 * self._entry_count_max

    def clear(self) -> None:
        """Remove every index file: they will be built anew from the log."""
        for file in self.files:
            file.close()
        self.files = []
        self.pending.clear()
        for path in self._files.list(self._directory):
            if len(path.name) == NAME_DIGITS and path.name.isdecimal():
                self._files.remove(path)

    def remove_last(self) -> None:
        """Remove the youngest file."""
        file = self.files.pop()
        file.close()
        self._files.remove(file.path)

    def remove_expired(self, log_min_offset: int) -> int:
        """Remove files, never the last, that only name records below the log; return how many."""
        removed = 0
        while len(self.files) > 1 and self.files[0].end_offset < log_min_offset:
            file = self.files.pop(0)
            file.close()
            self._files.remove(file.path)
            removed += 1
        return removed

    def built_offset(self, dispatched_offset: int) -> int:
        """Every message below this log offset is in the index."""
        return self.pending[0][0] if self.pending else dispatched_offset

    def hint(self, dispatched_offset: int) -> IndexHint:
        """The state as it is now, for a checkpoint written after the files were synced."""
        last = self.files[-1] if self.files else None
        return IndexHint(
            built_offset=self.built_offset(dispatched_offset),
            file_name=int(last.path.name) if last is not None else 0,
            count=last.count if last is not None else 0,
            used_slots=last.used_slots if last is not None else 0,
            end_offset=last.end_offset if last is not None else 0,
            end_ms=last.end_ms if last is not None else 0,
            file_total=len(self.files),
            entry_total=self.entry_total(),
        )

    def mark_ends(self, checkpoint_ms: int) -> None:
        """A checkpoint says that the index is durable up to this store time: say so in the headers too, after it."""
        for file in reversed(self.files):
            if file.is_end_marked:
                break  # and so are those before it
            file.mark_end(checkpoint_ms)

    def paths_changed_since(self, file_name: int) -> list[Path]:
        """The file that was last at an earlier `hint`, and those made after it with the directory that names them."""
        paths = [file.path for file in self.files if int(file.path.name) >= file_name]
        return [self._directory, *paths] if paths and int(paths[-1].name) > file_name else paths

    def entry_total(self) -> int:
        """Entries in all files."""
        return sum(file.count - 1 for file in self.files)

    def build_pending(self, count_max: int = BUILD_BATCH_COUNT) -> int:
        """Index at most ``count_max`` noted messages; return how many are left. Raises OSError when the disk is full."""
        pending = self.pending
        count = min(count_max, len(pending))
        if not count:
            return 0
        # Looked at, not taken: should the disk be full, the next attempt starts with the same messages.
        self._put_all(*index_entries(list(islice(pending, count))))
        for _ in range(count):
            pending.popleft()
        self.indexed_count += count
        return len(pending)

    def put_hashes(self, hashes: KeyHashes, physical_offsets: Sequence[int], timestamp_ms: int) -> None:
        """Index messages of one time without notes; none may be pending. Raises OSError when the disk is full."""
        position, count = 0, len(hashes)
        while position < count:
            file = self._writable_file()
            stop = position + file.reserve(count - position)
            hashes[position:stop].put(file, physical_offsets[position:stop], timestamp_ms)
            position = stop
        self.indexed_count += count

    def offsets(
        self, topic: str, key: str, begin_ms: int, end_ms: int, residency: Residency | None = None
    ) -> Iterator[int]:
        """Commit log offsets that may carry the key (hashes collide: look at the record), newest file and entry first.

        Raises Absent.
        """
        topic_hash = java_hash_from(0, topic + "#")
        wanted = key_hash(topic_hash, key.encode())
        for file in reversed(self.files):
            if file.count > 1 and file.begin_ms <= end_ms and file.end_ms >= begin_ms:
                yield from file.offsets(wanted, begin_ms, end_ms, residency)
            if file.begin_ms < begin_ms:
                break

    def close(self) -> None:
        """Unmap."""
        for file in self.files:
            file.close()
        self.files = []

    def _put_all(self, hashes: Sequence[int], physical_offsets: Sequence[int], timestamps_ms: Sequence[int]) -> None:
        position = 0
        while position < len(hashes):
            file = self._writable_file()
            stop = position + file.reserve(len(hashes) - position)
            file.put_columns(hashes[position:stop], physical_offsets[position:stop], timestamps_ms[position:stop])
            position = stop

    def _writable_file(self) -> IndexFile:
        if self.files and not self.files[-1].is_full:
            return self.files[-1]
        now_ms = self._clock.now_ms()
        name = time.strftime("%Y%m%d%H%M%S", time.localtime(now_ms / 1000)) + f"{now_ms % 1000:03d}"
        if self.files and name <= self.files[-1].path.name:
            name = f"{int(self.files[-1].path.name) + 1:0{NAME_DIGITS}d}"
        file = IndexFile(self._files, self._directory / name, self._slot_count, self._entry_count_max, create=True)
        if self.files:
            file.begin_after(self.files[-1])
        self.files.append(file)
        return file
