"""A file system in memory whose power can be cut at any moment, whose n-th call fails, and which fills up.

What a sync made durable is remembered apart from what was only written. `MemoryFiles.crash` makes the file system that a power
cut now would leave: between two syncs neither kernel nor disk promise any order, so of everything younger than its last sync
any mixture may be there, files and directory entries alike. `on_step` is called before each step that could be the last one,
from whichever thread makes it, so that a test can cut the power there.
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final

from rocketmq_common.files import Mapping

SECTOR_SIZE: Final = 512
PAGE_SIZE: Final = 4096
# Contents between two syncs that are remembered per file, for the disk may hold any of them.
VERSION_COUNT_MAX: Final = 3
NO_LIMIT: Final = 1 << 50


class Loss(Enum):
    """What becomes of bytes and directory entries that were written but never synced."""

    ALL = "lost"
    NONE = "kept"  # a killed process: the kernel goes on
    SECTORS = "any sectors"
    PAGES = "any pages"
    TORN = "torn"  # as far as a byte anywhere, nothing behind it


class _File:
    """An inode: its bytes now, its durable bytes, and versions in between."""

    __slots__ = ("allocated", "content", "durable", "modified_ms", "refused", "versions")

    def __init__(self, content: bytes, durable: bytes, modified_ms: int) -> None:
        self.content = bytearray(content)
        self.durable = durable
        self.versions: list[bytes] = []
        self.allocated = len(content)
        self.modified_ms = modified_ms
        # What a failed sync dropped: the kernel takes those pages for clean, so no later sync writes them.
        self.refused: bytes | None = None

    def sync(self) -> None:
        content = bytes(self.content)
        if self.refused is not None:
            content = _merge(content, self.refused, self.durable)
        self.durable = content
        self.versions.clear()

    def rewrite(self, start: int, length: int) -> None:
        if self.refused is not None:
            # Unlike anything that is written, so that `sync` takes what is there now.
            other = bytes(b ^ 0xFF for b in self.content[start : start + length])
            self.refused = self.refused[:start].ljust(start, b"\0") + other + self.refused[start + length :]

    def remember(self) -> None:
        content = bytes(self.content)
        if content != self.durable and (not self.versions or self.versions[-1] != content):
            self.versions.append(content)
            del self.versions[:-VERSION_COUNT_MAX]

    def survives(self, loss: Loss, chance: random.Random) -> bytes:
        """Bytes after a power cut."""
        newest = bytes(self.content)
        if loss is Loss.ALL or newest == self.durable:
            return self.durable
        if loss is Loss.NONE:
            return newest
        size = len(newest)
        if size != len(self.durable):
            size = chance.choice((size, len(self.durable)))
        oldest = self.durable[:size].ljust(size, b"\0")
        newest = newest[:size].ljust(size, b"\0")
        if loss is Loss.TORN:
            cut = chance.randrange(size + 1)
            if chance.random() < 0.8:
                # Mostly where it matters: within what was written last.
                changed = _changed_range(oldest, newest)
                cut = chance.randrange(changed.start, changed.stop + 1) if changed else cut
            return newest[:cut] + oldest[cut:]
        candidates = [oldest, *(v for v in self.versions if len(v) == size), newest]
        block_size = SECTOR_SIZE if loss is Loss.SECTORS else PAGE_SIZE
        return b"".join(chance.choice(candidates)[start : start + block_size] for start in range(0, size, block_size))


def _merge(content: bytes, refused: bytes, durable: bytes) -> bytes:
    size = len(content)
    old, bad = durable[:size].ljust(size, b"\0"), refused[:size].ljust(size, b"\0")
    parts = []
    for start in range(0, size, SECTOR_SIZE):
        stop = start + SECTOR_SIZE
        parts.append(old[start:stop] if content[start:stop] == bad[start:stop] else content[start:stop])
    return b"".join(parts)


def _changed_range(older: bytes, newer: bytes) -> range:
    changed = [start for start in range(0, len(newer), 64) if older[start : start + 64] != newer[start : start + 64]]
    return range(changed[0], min(changed[-1] + 64, len(newer))) if changed else range(0)


# A directory stands in the tables of names as None.
_Entry = _File | None


class _MemoryMapping:
    """See `Mapping`; shared like a real one."""

    __slots__ = ("_file", "_owner", "_path", "buffer")

    def __init__(self, owner: MemoryFiles, file: _File, path: Path) -> None:
        self._owner = owner
        self._file = file
        self._path = path
        self.buffer = memoryview(file.content)

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        self.buffer[start : start + len(data)] = data

    def sync(self) -> None:
        self._owner.sync_content(self._file, "sync", self._path)

    def allocate(self, start: int, length: int) -> None:
        self._owner.allocate_range(self._file, start + length, self._path)

    def zero(self, start: int, length: int) -> None:
        self._owner.step("zero", self._path)
        self.buffer[start : start + length] = bytes(length)
        self._owner.sync_content(self._file, "zero sync", self._path)

    def rewrite(self, start: int, length: int) -> None:
        self._file.rewrite(start, length)

    def absent_from(self, start: int, end: int) -> int:
        return end

    def load(self, start: int, end: int) -> None:
        pass

    def close(self) -> None:
        self.buffer = memoryview(b"")


class MemoryFiles:
    """Files below ``root``. Thread-safe, except that mapped bytes change under everybody's hands, as real ones do.

    ``capacity`` is the size of the disk in bytes; `on_step` may only look and copy. After a failed sync of a file for which
    ``is_dropping`` the kernel takes its dirty pages for clean; the same bytes written again count only with `Mapping.rewrite`.
    """

    def __init__(
        self,
        root: Path,
        *,
        capacity: int = NO_LIMIT,
        now_ms: Callable[[], int] = lambda: 0,
        is_dropping: Callable[[Path], bool] = lambda _: True,
    ) -> None:
        self._root = root
        self._skip = len(str(root)) + 1
        self._entries: dict[str, _Entry] = {"": None}
        self._durable_entries: dict[str, _Entry] = {"": None}
        self._guard = threading.RLock()
        self._failures: dict[tuple[str, int], int] = {}
        self.capacity = capacity
        self.now_ms = now_ms
        self._is_dropping = is_dropping
        self.on_step: Callable[[str, Path], None] | None = None
        self.calls: dict[str, int] = {}
        self.tripped: list[str] = []

    # For tests.

    def fail(self, operation: str, number: int, error_number: int = errno.EIO) -> None:
        """Let the ``number``-th (from 1) step called ``operation`` from now on fail; `calls` names those that there are."""
        with self._guard:
            self._failures[operation, self.calls.get(operation, 0) + number] = error_number

    def crash(self, root: Path, loss: Loss, chance: random.Random) -> MemoryFiles:
        """What a power cut now would leave, as a file system of its own below ``root``."""
        image = MemoryFiles(root, capacity=self.capacity, now_ms=self.now_ms)
        with self._guard:
            copies: dict[int, _File] = {}
            for key in sorted(self._entries.keys() | self._durable_entries.keys()):
                entry = self._surviving_entry(key, loss, chance)
                parent = key.rpartition("/")[0]
                if entry is _MISSING or (key and image._entries.get(parent, _MISSING) is not None):
                    continue
                if isinstance(entry, _File):
                    copy = copies.get(id(entry))
                    if copy is None:
                        content = entry.survives(loss, chance)
                        copy = copies[id(entry)] = _File(content, content, entry.modified_ms)
                        copy.allocated = min(entry.allocated, len(content))
                    image._entries[key] = image._durable_entries[key] = copy
                else:
                    image._entries[key] = image._durable_entries[key] = None
        return image

    def remember(self) -> None:
        """Note what every file holds now: a disk may have got this version of a page, and no later one."""
        with self._guard:
            for entry in self._entries.values():
                if isinstance(entry, _File):
                    entry.remember()

    def paths(self) -> list[Path]:
        """All files."""
        with self._guard:
            return [self._root / key for key, entry in self._entries.items() if isinstance(entry, _File)]

    def flip(self, path: Path, position: int, mask: int) -> None:
        """Change bits of one durable byte, as a bad disk does."""
        file = self._file(path)
        file.content[position] ^= mask
        file.sync()

    def _surviving_entry(self, key: str, loss: Loss, chance: random.Random) -> object:
        live: object = self._entries.get(key, _MISSING)
        durable: object = self._durable_entries.get(key, _MISSING)
        if live is durable or loss is Loss.NONE:
            return live
        if loss is Loss.ALL:
            return durable
        return chance.choice((live, durable))

    # For mappings.

    def step(self, operation: str, path: Path) -> None:
        """Count a step, let a test cut the power before it, and raise OSError if it is to fail."""
        on_step = self.on_step
        if on_step is not None:
            on_step(operation, path)
        with self._guard:
            number = self.calls[operation] = self.calls.get(operation, 0) + 1
            code = self._failures.get((operation, number))
            if code is not None:
                self.tripped.append(f"{operation} {number} {path.name}")
        if code is not None:
            raise OSError(code, f"{operation} {number} fails as planned", str(path))

    def sync_content(self, file: _File, operation: str, path: Path) -> None:
        """fsync of a file."""
        try:
            self.step(operation, path)
        except OSError:
            with self._guard:
                if self._is_dropping(path):
                    file.refused = bytes(file.content)
            raise
        with self._guard:
            file.sync()

    def allocate_range(self, file: _File, end: int, path: Path) -> None:
        """Give blocks up to byte ``end``."""
        self.step("allocate", path)
        with self._guard:
            self._take_space(max(0, end - file.allocated), path)
            file.allocated = max(file.allocated, end)

    # FileSystem.

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
            self.step("map", path)
        with self._guard:
            key = self._key(path)
            entry = self._entries.get(key, _MISSING)
            if entry is _MISSING and create and self._entries.get(key.rpartition("/")[0], _MISSING) is None:
                entry = _File(b"", b"", self.now_ms())
                self._entries[key] = entry
            if not isinstance(entry, _File):
                raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
            found = len(entry.content)
            if create and found < size:
                first = size if allocated is None else min(allocated, size)
                try:
                    self._take_space(max(0, first - entry.allocated), path)
                except OSError:
                    if not found:
                        del self._entries[key]
                    raise
                entry.content = entry.content + bytes(size - found)
                entry.allocated = max(entry.allocated, first)
            elif found != size:
                raise OSError(errno.EINVAL, f"is {found} bytes, configured are {size}", str(path))
        if create and found < size and durable:
            self.sync_content(entry, "map sync", path)
            self._sync_directory(path.parent)
        return _MemoryMapping(self, entry, path)

    def zero_fill(self, path: Path, size: int) -> None:
        """See `FileSystem.zero_fill`."""
        self.step("zero", path)
        file = self._file(path)
        file.content[:size] = bytes(size)
        self.sync_content(file, "zero sync", path)

    def truncate_tail(self, path: Path, cut: int, size: int) -> None:
        """See `FileSystem.truncate_tail`."""
        file = self._file(path)
        self.step("truncate", path)
        with self._guard:
            # A new object: views that are still mapped see the old bytes, where real ones would fault.
            file.content = file.content[:cut]
            file.allocated = min(file.allocated, cut)
        self.sync_content(file, "truncate sync", path)
        self.step("truncate allocate", path)
        with self._guard:
            if size > cut:
                self._take_space(size - file.allocated, path)
                file.content = file.content + bytes(size - cut)
                file.allocated = size
        self.sync_content(file, "truncate sync", path)

    def read(self, path: Path) -> bytes:
        """See `FileSystem.read`."""
        with self._guard:
            return bytes(self._file(path).content)

    def replace(self, path: Path, data: bytes, *, backup: bool = True) -> None:
        """See `FileSystem.replace`: the steps of `RealFiles.replace`, in its order."""
        temporary, kept = path.with_name(f"{path.name}.tmp.0"), path.with_name(f"{path.name}.bak")
        try:
            self.step("replace write", temporary)
            file = _File(b"", b"", self.now_ms())
            with self._guard:
                self._take_space(len(data), path)
                self._entries[self._key(temporary)] = file
                file.content = bytearray(data)
                file.allocated = len(data)
            self.sync_content(file, "replace sync", temporary)
            old = self._entries.get(self._key(path), _MISSING)
            if backup and isinstance(old, _File):
                self.step("replace link", kept)
                with self._guard:
                    self._entries[self._key(kept)] = old
            self.step("replace rename", path)
            with self._guard:
                self._entries[self._key(path)] = self._entries.pop(self._key(temporary))
        except BaseException:
            with self._guard:
                self._entries.pop(self._key(temporary), None)
            raise
        self._sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        """See `FileSystem.remove`."""
        self.step("remove", path)
        with self._guard:
            if not isinstance(self._entries.get(self._key(path), _MISSING), _File):
                return
            del self._entries[self._key(path)]
        self._sync_directory(path.parent)

    def remove_directory(self, path: Path) -> None:
        """See `FileSystem.remove_directory`."""
        with self._guard:
            if not self.list(path):
                self._entries.pop(self._key(path), None)

    def make_directory(self, path: Path, *, durable: bool = True) -> None:
        """See `FileSystem.make_directory`."""
        parts = self._key(path).split("/") if path != self._root else []
        for depth in range(1, len(parts) + 1):
            key = "/".join(parts[:depth])
            with self._guard:
                is_missing = key not in self._entries
                if is_missing:
                    self._entries[key] = None
            if is_missing and durable:
                self._sync_directory((self._root / key).parent)

    def list(self, path: Path) -> list[Path]:
        """See `FileSystem.list`."""
        key = self._key(path)
        with self._guard:
            return sorted(self._root / name for name in self._entries if name and name.rpartition("/")[0] == key)

    def size(self, path: Path) -> int:
        """See `FileSystem.size`."""
        with self._guard:
            return len(self._file(path).content)

    def modified_ms(self, path: Path) -> int:
        """See `FileSystem.modified_ms`."""
        return self._file(path).modified_ms

    def sync_file(self, path: Path) -> None:
        """See `FileSystem.sync_file`."""
        with self._guard:
            entry = self._entries.get(self._key(path), _MISSING)
        if isinstance(entry, _File):
            self.sync_content(entry, "sync_file", path)
        elif entry is None:
            self._sync_directory(path)
        else:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))

    def sync_all(self, path: Path) -> None:
        """See `FileSystem.sync_all`."""
        self.step("sync_all", path)
        with self._guard:
            for entry in self._entries.values():
                if isinstance(entry, _File):
                    entry.sync()
            self._durable_entries = dict(self._entries)

    def usage(self, path: Path) -> tuple[int, int]:
        """See `FileSystem.usage`."""
        with self._guard:
            return self.capacity, max(0, self.capacity - self._used())

    # Inside.

    def _key(self, path: Path) -> str:
        return str(path)[self._skip :]

    def _file(self, path: Path) -> _File:
        entry = self._entries.get(self._key(path), _MISSING)
        if not isinstance(entry, _File):
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path))
        return entry

    def _used(self) -> int:
        return sum({id(e): e.allocated for e in self._entries.values() if isinstance(e, _File)}.values())

    def _take_space(self, size: int, path: Path) -> None:
        if self.capacity < NO_LIMIT and self._used() + size > self.capacity:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def _sync_directory(self, path: Path) -> None:
        self.step("sync directory", path)
        directory = self._key(path)
        with self._guard:
            for key in [k for k in self._durable_entries if k and k.rpartition("/")[0] == directory]:
                if key not in self._entries:
                    del self._durable_entries[key]
            for key, entry in self._entries.items():
                if key and key.rpartition("/")[0] == directory:
                    self._durable_entries[key] = entry


class _Missing:
    """Neither a file nor a directory stands there."""


_MISSING: Final = _Missing()
