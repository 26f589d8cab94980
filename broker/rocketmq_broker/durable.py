"""Configuration tables on disk: one JSON file each, replaced whole, read back with its ``.bak`` as second chance.

Writing means several fsyncs, so it happens on one I/O thread; callers that owe somebody durability await `DurableTable.save`, and
all who ask while a write is under way share the next one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

from rocketmq_common.files import FileSystem
from rocketmq_common.tables import Table, decode_table, encode_table

logger = logging.getLogger(__name__)

CONFIG_DIRECTORY: Final = "config"
DAMAGED_SUFFIX: Final = ".damaged"


class TableError(Exception):
    """A table file that exists but cannot be used; the message says which and what to do."""


def load_table(files: FileSystem, path: Path) -> Table:
    """The table, else its ``.bak``, the generation before; empty when there is neither.

    A damaged file is kept beside as ``.damaged``, and the good one put in its place. Raises TableError when something is there and
    nothing of it can be read: going on with an empty table would register an empty broker and overwrite what an operator could
    still repair.
    """
    problems: list[str] = []
    damaged = b""
    for candidate in (path, path.with_name(f"{path.name}.bak")):
        try:
            text = files.read(candidate)
        except FileNotFoundError:
            continue
        try:
            loaded = decode_table(text)
        except ValueError as error:
            problems.append(f"{candidate} {error}")
            damaged = text
            continue
        if problems:
            kept = path.with_name(f"{path.name}{DAMAGED_SUFFIX}")
            logger.error(
                "%s: going on with the generation before, %s; the damaged file is kept as %s",
                problems[0],
                candidate,
                kept,
            )
            files.replace(kept, damaged, backup=False)
            files.replace(path, text, backup=False)
        elif candidate != path:
            logger.error("%s is missing: going on with the generation before, %s", path, candidate)
        return loaded
    if problems:
        raise TableError(f"{'; '.join(problems)}: repair the file, or remove it to start with an empty table")
    return Table({}, 0)


class DurableTable:
    """One file and the function that makes its content. ``encode`` runs on the loop, the rest on ``executor``."""

    def __init__(self, files: FileSystem, path: Path, encode: Callable[[], bytes], executor: Executor) -> None:
        self._files = files
        self.path = path
        self._encode = encode
        self._executor = executor
        self._lock = asyncio.Lock()
        self._wanted = 0
        self._saved = 0
        self._generation = 0

    @property
    def is_dirty(self) -> bool:
        """Something was `touch`ed that is not on disk yet."""
        return self._saved < self._wanted

    def load(self) -> dict[str, Any]:
        """What is on disk, see `load_table`."""
        content, self._generation = load_table(self._files, self.path)
        return content

    def touch(self) -> None:
        """The content changed; a later `save` or `save_if_dirty` writes it."""
        self._wanted += 1

    async def save(self) -> None:
        """Return once what the table holds now is durable. Raises OSError; the change is then only in memory."""
        self._wanted += 1
        await self._save_up_to(self._wanted)

    async def save_if_dirty(self) -> None:
        """Write when there is something to write. Raises OSError."""
        if self.is_dirty:
            await self._save_up_to(self._wanted)

    def save_now(self) -> None:
        """Write on the calling thread; for the end of the process. Raises OSError."""
        wanted = self._wanted
        self._write(self._encode())
        self._saved = wanted

    async def _save_up_to(self, wanted: int) -> None:
        async with self._lock:
            if self._saved >= wanted:
                return
            included = self._wanted
            data = self._encode()
            await asyncio.get_running_loop().run_in_executor(self._executor, self._write, data)
            self._saved = included

    def _write(self, data: bytes) -> None:
        # One write at a time, so the generation needs no lock.
        self._generation += 1
        self._files.replace(self.path, encode_table(data, self._generation))
