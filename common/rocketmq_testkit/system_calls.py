"""The operating system's file calls, counted, one of them failing: for the seam below `RealFiles`, on real files.

`RealFiles` reaches the system through the name ``os`` of its module; `FailingCalls.installed` puts itself there. So the order of
its calls can be checked, each of them fails once, and writes are cut short, all without another process.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from rocketmq_common import files

# Calls that change something or make it durable.
WATCHED: Final = (
    "fsync", "fdatasync", "posix_fallocate", "ftruncate", "write", "pwrite", "link", "replace", "unlink",
)  # fmt: skip


class Call(NamedTuple):
    """One call that was made: its name, and the path it was about as far as that is known."""

    name: str
    path: str


class FailingCalls:
    """Stands in for the module ``os``. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._paths: dict[int, str] = {}
        self._failure: tuple[str, int, int] | None = None
        self.counts: dict[str, int] = {}
        self.trace: list[Call] = []
        self.has_tripped = False
        # The kernel may take less of a write than it was given.
        self.writes_short = False

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """All `RealFiles` of this process go through here."""
        vars(files)["os"] = self
        try:
            yield self
        finally:
            vars(files)["os"] = os

    def fail(self, name: str, number: int, error_number: int = errno.EIO) -> None:
        """Let the ``number``-th (from 1) call of ``name`` fail."""
        self._failure = (name, number, error_number)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WATCHED:
            return real

        def call(*arguments: Any) -> Any:
            self._count(name, arguments)
            if self.writes_short and name in ("write", "pwrite") and len(arguments[1]) > 1:
                arguments = (arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
            return real(*arguments)

        return call

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """os.open, remembering which file a descriptor is."""
        descriptor = os.open(path, flags, mode)
        with self._guard:
            self._paths[descriptor] = str(path)
        return descriptor

    def _count(self, name: str, arguments: tuple[Any, ...]) -> None:
        subject = arguments[-1] if name in ("link", "replace") else arguments[0]
        with self._guard:
            path = self._paths.get(subject, "?") if isinstance(subject, int) else str(subject)
            number = self.counts[name] = self.counts.get(name, 0) + 1
            self.trace.append(Call(name, path))
            failure = self._failure
            if failure is None or failure[:2] != (name, number):
                return
            self.has_tripped = True
        raise OSError(failure[2], f"{name} {number} fails as planned", path)
