"""Log files of the processes: bounded, appended by the processes themselves, cut by the supervisor."""

from __future__ import annotations

import os
from pathlib import Path

SIZE_MAX = 16 * 1024 * 1024  # bytes; beyond it the file is moved to `.1`, which is overwritten
TAIL_READ_MAX = 64 * 1024


def cut_if_large(path: Path, size_max: int = SIZE_MAX) -> bool:
    """Move a large log's content to ``.1`` and empty the file.

    The process keeps its descriptor: it writes in append mode, so it goes on at the start of the emptied file.
    """
    try:
        if path.stat().st_size <= size_max:
            return False
    except FileNotFoundError:
        return False
    with open(path, "rb") as source, open(f"{path}.1", "wb") as target:
        os.sendfile(target.fileno(), source.fileno(), 0, size_max * 2)
    os.truncate(path, 0)
    return True


def tail(path: Path, lines: int) -> str:
    """The last lines of a log; empty when there is none."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_READ_MAX))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


class Reader:
    """Reads a log that is being written, and notices when it was cut."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._partial = b""

    def last(self, lines: int) -> list[str]:
        """The last lines; what follows comes from `new`."""
        try:
            self._position = self._path.stat().st_size
        except FileNotFoundError:
            return []
        text = tail(self._path, lines) if lines else ""
        return text.splitlines()

    def new(self) -> list[str]:
        """Whole lines written since the last call."""
        try:
            with open(self._path, "rb") as file:
                if file.seek(0, os.SEEK_END) < self._position:
                    self._position, self._partial = 0, b""
                file.seek(self._position)
                data = file.read(TAIL_READ_MAX)
        except FileNotFoundError:
            return []
        self._position += len(data)
        *whole, self._partial = (self._partial + data).split(b"\n")
        return [line.decode("utf-8", errors="replace") for line in whole]
