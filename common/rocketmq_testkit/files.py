"""A file system that misbehaves on demand: it loses what was not synced, and fails the n-th call.

`FaultyFiles` works on real files, so that mappings are real, and remembers of each file what a power loss would leave. After
`crash_copy` a store is opened on the copy: exactly the durable bytes, or any mixture of durable and younger pages.
"""

from __future__ import annotations

import errno
import random
import threading
from pathlib import Path

from rocketmq_common.files import Mapping, RealFiles

PAGE_SIZE = 4096


class FaultyMapping:
    """A mapping whose syncs are remembered."""

    def __init__(self, owner: FaultyFiles, path: Path, inner: Mapping) -> None:
        self._owner = owner
        self._path = path
        self._inner = inner
        self.buffer = inner.buffer

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """See `Mapping.write`."""
        self._inner.write(start, data)

    def sync(self) -> None:
        """See `Mapping.sync`."""
        self._owner.check("sync", self._path)
        # Captured before the sync: what is written while it runs is not covered.
        content = bytes(self.buffer)
        self._inner.sync()
        self._owner.note_durable(self._path, content)

    def allocate(self, start: int, length: int) -> None:
        """See `Mapping.allocate`."""
        self._owner.check("allocate", self._path)
        self._inner.allocate(start, length)

    def zero(self, start: int, length: int) -> None:
        """See `Mapping.zero`."""
        self._owner.check("zero", self._path)
        self._inner.zero(start, length)

    def rewrite(self, start: int, length: int) -> None:
        """See `Mapping.rewrite`."""
        self._inner.rewrite(start, length)

    def absent_from(self, start: int, end: int) -> int:
        """See `Mapping.absent_from`."""
        return self._inner.absent_from(start, end)

    def load(self, start: int, end: int) -> None:
        """See `Mapping.load`."""
        self._inner.load(start, end)

    def close(self) -> None:
        """See `Mapping.close`."""
        self.buffer = memoryview(b"")
        self._inner.close()


class FaultyFiles(RealFiles):
    """Files below ``root`` with a memory of what is durable. Thread-safe."""

    __slots__ = ("_calls", "_durable", "_failures", "_guard", "_root", "full_after", "tripped")

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: dict[Path, bytes] = {}
        self._calls: dict[str, int] = {}
        self._failures: dict[tuple[str, int], int] = {}
        self._guard = threading.Lock()
        self.tripped: list[str] = []
        # The disk is full for files whose path contains this text.
        self.full_after: str | None = None

    def fail(self, operation: str, number: int, error_number: int = errno.EIO) -> None:
        """Let the ``number``-th (from 1) call of ``operation`` (sync, allocate, zero, map, replace, remove, sync_file) fail."""
        with self._guard:
            self._failures[operation, self._calls.get(operation, 0) + number] = error_number

    def check(self, operation: str, path: Path) -> None:
        """Count a call; raises OSError if it is to fail."""
        with self._guard:
            number = self._calls[operation] = self._calls.get(operation, 0) + 1
            code = self._failures.get((operation, number))
            if code is not None:
                self.tripped.append(f"{operation} {number} {path.name}")
        if code is not None:
            raise OSError(code, f"{operation} {number} fails as planned", str(path))
        if self.full_after is not None and operation in ("map", "allocate") and self.full_after in str(path):
            raise OSError(errno.ENOSPC, "disk is full as planned", str(path))

    def note_durable(self, path: Path, content: bytes) -> None:
        """A power loss would leave ``content``."""
        with self._guard:
            if path.exists():
                self._durable[path] = content

    def crash_copy(self, target: Path, chance: random.Random | None = None) -> None:
        """Write to ``target`` what a power loss now would leave.

        Without ``chance`` that is what was synced; with it, each younger page is there or not at random, as the kernel may have
        written any of them back on its own.
        """
        with self._guard:
            durable = dict(self._durable)
        for path, content in durable.items():
            if not path.exists():
                continue
            current = path.read_bytes()
            if chance is not None and len(current) == len(content):
                pages = [
                    (current if chance.random() < 0.5 else content)[start : start + PAGE_SIZE]
                    for start in range(0, len(content), PAGE_SIZE)
                ]
                content = b"".join(pages)
            copy = target / path.relative_to(self._root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)

    def map_file(
        self,
        path: Path,
        size: int,
        *,
        create: bool,
        allocated: int | None = None,
        durable: bool = True,
        is_read_ahead: bool = True,
    ) -> Mapping:
        """See `FileSystem.map_file`."""
        if create:
            self.check("map", path)
        is_new = create and not path.exists()
        inner = RealFiles.map_file(self, path, size, create=create, allocated=allocated, durable=durable)
        if (is_new and durable) or (not create and path not in self._durable):
            self.note_durable(path, bytes(inner.buffer))
        return FaultyMapping(self, path, inner)

    def truncate_tail(self, path: Path, cut: int, size: int) -> None:
        """See `FileSystem.truncate_tail`."""
        self.check("truncate", path)
        RealFiles.truncate_tail(self, path, cut, size)
        self.note_durable(path, path.read_bytes())

    def replace(self, path: Path, data: bytes, *, backup: bool = True) -> None:
        """See `FileSystem.replace`."""
        self.check("replace", path)
        RealFiles.replace(self, path, data, backup=backup)
        self.note_durable(path, data)

    def remove(self, path: Path) -> None:
        """See `FileSystem.remove`."""
        self.check("remove", path)
        RealFiles.remove(self, path)
        with self._guard:
            self._durable.pop(path, None)

    def sync_file(self, path: Path) -> None:
        """See `FileSystem.sync_file`."""
        self.check("sync_file", path)
        if path.is_dir():
            RealFiles.sync_file(self, path)
            return
        content = path.read_bytes()
        RealFiles.sync_file(self, path)
        self.note_durable(path, content)

    def sync_all(self, path: Path) -> None:
        """See `FileSystem.sync_all`."""
        self.check("sync_all", path)
        contents = {found: found.read_bytes() for found in self._root.rglob("*") if found.is_file()}
        RealFiles.sync_all(self, path)
        for found, content in contents.items():
            self.note_durable(found, content)
