"""One process per store directory, by the lock that Java takes too: a POSIX record lock on byte 0 of ``lock``."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from rocketmq_store.errors import StoreLocked

LOCK_FILE_NAME = "lock"
# struct flock of Linux: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi")

# A record lock does not keep the same process out, so that is remembered here.
_held_paths: set[str] = set()


class DirectoryLock:
    """Held from construction until `release`, or until the process dies.

    The file is opened exactly once per holder: closing any other descriptor of it would drop the lock (POSIX).
    """

    __slots__ = ("_descriptor", "_key")

    def __init__(self, root: Path) -> None:
        """Raises StoreLocked with a line that names directory and holder."""
        path = root / LOCK_FILE_NAME
        self._key = os.path.realpath(path)
        if self._key in _held_paths:
            raise StoreLocked(f"store {root} is already open in this process (pid {os.getpid()})")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            holder = self._holder()
            os.close(self._descriptor)
            raise StoreLocked(
                f"store {root} is in use by {holder}: stop that broker or give this one another storePathRootDir"
            ) from error
        os.pwrite(self._descriptor, b"lock", 0)
        _held_paths.add(self._key)

    def _holder(self) -> str:
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
        try:
            process_id = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, request))[4]
        except OSError:
            process_id = 0
        return f"process {process_id}" if process_id > 0 else "another process"

    def release(self) -> None:
        """Give the directory free; repeated calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            _held_paths.discard(self._key)
