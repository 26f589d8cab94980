"""The seam to the disk.

Every byte that must survive goes through a `FileSystem`, so that tests can lose what was not synced, fail the n-th call or
fill the disk. Only `RealFiles` calls the operating system. All calls block; whoever runs an event loop calls the slow ones
(allocate, sync, unlink of large files) from an I/O thread.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import secrets
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

ZERO_BLOCK = bytes(1 << 20)
LOAD_BLOCK_SIZE = 256 << 10
# mincore only looks at tables of the kernel: not worth giving the interpreter away.
_LIBC = ctypes.PyDLL(None)


class Mapping(Protocol):
    """A file mapped whole for reading and writing."""

    @property
    def buffer(self) -> memoryview:
        """The mapped bytes; slices stay valid until `close`."""
        ...

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        """Write many bytes, seen in `buffer` at once; into pages never touched at half the cost of a store. Raises OSError."""
        ...

    def sync(self) -> None:
        """Make every byte written so far durable (fdatasync). Raises OSError: what was written is then unknown."""
        ...

    def allocate(self, start: int, length: int) -> None:
        """Give blocks to a range of a file mapped with ``allocated`` before it is first written. Raises OSError (ENOSPC)."""
        ...

    def zero(self, start: int, length: int) -> None:
        """Write zeros over a range, durable on return, so that later overwrites there need no metadata commit."""
        ...

    def rewrite(self, start: int, length: int) -> None:
        """Write a range once more as it reads, so that the next `sync` carries it to the disk whatever became of an earlier one.

        After a failed sync the kernel takes pages for clean that the disk never got.
        """
        ...

    def absent_from(self, start: int, end: int) -> int:
        """The first byte from ``start`` on that a touch would have to fetch from the disk; ``end`` when all are in memory."""
        ...

    def load(self, start: int, end: int) -> None:
        """Bring a range into memory, leaving other threads alone meanwhile. Any thread. Raises OSError, also once closed."""
        ...

    def close(self) -> None:
        """Unmap; postponed by the operating system while slices of `buffer` are still referenced."""
        ...


class MapOptions(TypedDict):
    """The keywords of `FileSystem.map_file`, for a file system that hands them on to another."""

    create: bool
    allocated: NotRequired[int | None]
    durable: NotRequired[bool]
    is_read_ahead: NotRequired[bool]


class FileSystem(Protocol):
    """What stores and configuration managers ask of a disk."""

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
        """Map ``path`` of exactly ``size`` bytes. With ``create`` it is allocated in full and made durable first.

        ``allocated`` gives blocks to that many first bytes only; the caller owes `Mapping.allocate` for the others, because
        a store into a hole that cannot be filled is SIGBUS, not an exception. Without ``durable`` a new file is not synced: the
        caller syncs it and its directory before it relies on it.
        Without ``is_read_ahead`` a touch brings in one page only: for files that are hit here and there, or hold little.
        Raises OSError: ENOSPC when there is no room (nothing is left behind), EINVAL when an existing file has another size.
        """
        ...

    def zero_fill(self, path: Path, size: int) -> None:
        """Write zeros over the whole file, so that later overwrites need no metadata commit; durable on return."""
        ...

    def truncate_tail(self, path: Path, cut: int, size: int) -> None:
        """Make bytes from ``cut`` to ``size`` zeros by cutting and allocating anew; durable on return."""
        ...

    def read(self, path: Path) -> bytes:
        """The whole file; raises FileNotFoundError."""
        ...

    def replace(self, path: Path, data: bytes, *, backup: bool = True) -> None:
        """Put ``data`` in place of the file atomically and durably; with ``backup`` the old content stays as ``.bak``."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file and make that durable; a missing file is fine."""
        ...

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory; a missing or non-empty one is left alone."""
        ...

    def make_directory(self, path: Path, *, durable: bool = True) -> None:
        """Create a directory with its parents, durably unless told otherwise; an existing one is fine."""
        ...

    def list(self, path: Path) -> list[Path]:
        """Entries in name order; empty when there is no such directory."""
        ...

    def size(self, path: Path) -> int:
        """Bytes of a file; raises FileNotFoundError."""
        ...

    def modified_ms(self, path: Path) -> int:
        """Modification time in ms since the epoch."""
        ...

    def sync_file(self, path: Path) -> None:
        """fsync of a file or directory: before found content is trusted, or a checkpoint names it."""
        ...

    def sync_all(self, path: Path) -> None:
        """syncfs of the file system that holds ``path``: cheaper than thousands of `sync_file`. Raises OSError like it."""
        ...

    def usage(self, path: Path) -> tuple[int, int]:
        """(total, available) bytes that the file system of ``path`` has for this process; root's reserve is in neither."""
        ...


class RealFiles:
    """The operating system's files."""

    __slots__ = ()

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
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        descriptor = os.open(path, flags, 0o644)
        try:
            found = os.fstat(descriptor).st_size
            if create and found < size:
                try:
                    # Not ftruncate: a hole that cannot be filled later would be SIGBUS in the middle of an append.
                    first = size if allocated is None else min(allocated, size)
                    if first:
                        os.posix_fallocate(descriptor, 0, first)
                    if first < size:
                        os.ftruncate(descriptor, size)
                except OSError:
                    if found == 0:
                        os.unlink(path)
                    raise
                if durable:
                    os.fsync(descriptor)
                    _sync_directory(path.parent)
            elif found != size:
                raise OSError(errno.EINVAL, f"is {found} bytes, configured are {size}", str(path))
            return _RealMapping(descriptor, size, is_read_ahead=is_read_ahead)
        except BaseException:
            os.close(descriptor)
            raise

    def zero_fill(self, path: Path, size: int) -> None:
        """See `FileSystem.zero_fill`."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _write_zeros(descriptor, 0, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate_tail(self, path: Path, cut: int, size: int) -> None:
        """See `FileSystem.truncate_tail`."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, cut)
            os.fsync(descriptor)
            if size > cut:
                os.posix_fallocate(descriptor, 0, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path) -> bytes:
        """See `FileSystem.read`."""
        return path.read_bytes()

    def replace(self, path: Path, data: bytes, *, backup: bool = True) -> None:
        """See `FileSystem.replace`."""
        temporary = path.with_name(f"{path.name}.tmp.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if backup and path.exists():
                # A hard link, not a rename: at no moment is there no file under the real name.
                kept = path.with_name(f"{path.name}.bak")
                link = path.with_name(f"{path.name}.bak.tmp.{secrets.token_hex(4)}")
                os.link(path, link)
                os.replace(link, kept)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        """See `FileSystem.remove`."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        _sync_directory(path.parent)

    def remove_directory(self, path: Path) -> None:
        """See `FileSystem.remove_directory`."""
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise

    def make_directory(self, path: Path, *, durable: bool = True) -> None:
        """See `FileSystem.make_directory`."""
        missing = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing) if durable else ():
            _sync_directory(made.parent)

    def list(self, path: Path) -> list[Path]:
        """See `FileSystem.list`."""
        try:
            return sorted(path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, path: Path) -> int:
        """See `FileSystem.size`."""
        return path.stat().st_size

    def modified_ms(self, path: Path) -> int:
        """See `FileSystem.modified_ms`."""
        return path.stat().st_mtime_ns // 1_000_000

    def sync_file(self, path: Path) -> None:
        """See `FileSystem.sync_file`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, path: Path) -> None:
        """See `FileSystem.sync_all`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # os.sync() would tell nothing of errors; syncfs does since Linux 5.8.
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))
        finally:
            os.close(descriptor)

    def usage(self, path: Path) -> tuple[int, int]:
        """See `FileSystem.usage`."""
        status = os.statvfs(path)
        used = status.f_blocks - status.f_bfree
        return status.f_frsize * (used + status.f_bavail), status.f_frsize * status.f_bavail


class _RealMapping:
    __slots__ = ("_address", "_descriptor", "_map", "buffer")

    def __init__(self, descriptor: int, size: int, *, is_read_ahead: bool) -> None:
        self._map = mmap.mmap(descriptor, size, access=mmap.ACCESS_WRITE)
        if not is_read_ahead:
            # With a disk that reads 8 MiB ahead the first store into an empty file took 15 ms; so it takes 35 us.
            self._map.madvise(mmap.MADV_RANDOM)
        self._descriptor = descriptor
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.buffer = memoryview(self._map)

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        # A store would fault page by page, and each would be zeroed first.
        written = os.pwrite(self._descriptor, data, start)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], start + written)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def allocate(self, start: int, length: int) -> None:
        os.posix_fallocate(self._descriptor, start, length)

    def zero(self, start: int, length: int) -> None:
        _write_zeros(self._descriptor, start, start + length)
        os.fdatasync(self._descriptor)

    def rewrite(self, start: int, length: int) -> None:
        for position in range(start, start + length, len(ZERO_BLOCK)):
            stop = min(position + len(ZERO_BLOCK), start + length)
            self.buffer[position:stop] = bytes(self.buffer[position:stop])

    def absent_from(self, start: int, end: int) -> int:
        first = start - start % mmap.PAGESIZE
        pages = ctypes.create_string_buffer(-(-(end - first) // mmap.PAGESIZE))
        if _LIBC.mincore(ctypes.c_void_p(self._address + first), ctypes.c_size_t(end - first), pages) != 0:
            # A kernel that does not say: the touch then waits.
            return end
        found = pages.raw.find(b"\0")
        return end if found < 0 else max(start, first + found * mmap.PAGESIZE)

    def load(self, start: int, end: int) -> None:
        # Read, and thrown away: a touch would keep the interpreter from all other threads while it waits.
        block = memoryview(bytearray(min(LOAD_BLOCK_SIZE, end - start)))
        while start < end:
            count = os.preadv(self._descriptor, [block[: end - start]], start)
            if not count:
                break
            start += count

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        # Answers on their way out may still hold slices. Dropping our references unmaps when the last of them goes;
        # mmap.close() would raise BufferError instead.
        self.buffer = memoryview(b"")
        del self._map


def _write_zeros(descriptor: int, start: int, end: int) -> None:
    position = start
    while position < end:
        position += os.pwrite(descriptor, ZERO_BLOCK[: min(len(ZERO_BLOCK), end - position)], position)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
