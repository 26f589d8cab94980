"""Real files that have left memory, or seem to: reads must be asked for, and take as long as the test wants."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Unpack

from rocketmq_common.files import MapOptions, Mapping, RealFiles

PAGE_SIZE = 4096
WAIT_S_MAX = 60.0


class ColdMapping:
    """A mapping that says of each page whether it was loaded since `ColdFiles.evict`."""

    def __init__(self, owner: ColdFiles, path: Path, inner: Mapping) -> None:
        self._owner = owner
        self._path = path
        self._inner = inner
        self.buffer = inner.buffer
        self.write = inner.write
        self.sync = inner.sync
        self.allocate = inner.allocate
        self.zero = inner.zero
        self.rewrite = inner.rewrite

    def absent_from(self, start: int, end: int) -> int:
        """See `Mapping.absent_from`."""
        if not self._owner.is_evicted:
            return end
        page = start // PAGE_SIZE
        while page * PAGE_SIZE < end and (self._path, page) in self._owner.loaded:
            page += 1
        return min(max(page * PAGE_SIZE, start), end)

    def load(self, start: int, end: int) -> None:
        """See `Mapping.load`."""
        if not self._owner.is_disk_ready.wait(WAIT_S_MAX):
            raise OSError(errno.ETIMEDOUT, "the test never made the disk ready", str(self._path))
        if self._owner.is_failing:
            raise OSError(errno.EIO, "planned", str(self._path))
        self._inner.load(start, end)
        self._owner.loaded |= {(self._path, page) for page in range(start // PAGE_SIZE, -(-end // PAGE_SIZE))}

    def close(self) -> None:
        """See `Mapping.close`."""
        self.buffer = memoryview(b"")
        self._inner.close()


class ColdFiles(RealFiles):
    """Warm until `evict`; then a read of a page waits until ``is_disk_ready`` is set, and fails while ``is_failing``."""

    def __init__(self) -> None:
        self.is_evicted = False
        self.is_failing = False
        self.loaded: set[tuple[Path, int]] = set()
        self.is_disk_ready = threading.Event()
        self.is_disk_ready.set()

    def evict(self) -> None:
        """Nothing of any file is in memory."""
        self.is_evicted = True
        self.loaded.clear()

    def map_file(self, path: Path, size: int, **options: Unpack[MapOptions]) -> Mapping:
        """See `FileSystem.map_file`."""
        inner = super().map_file(path, size, **options)
        return ColdMapping(self, path, inner)
