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
from typing import Any

import msgspec

from rocketmq_common import javajson
from rocketmq_common.files import FileSystem

logger = logging.getLogger(__name__)


class TableError(Exception):
    """A table file that exists but cannot be used; the message says which and what to do."""


def load_table(files: FileSystem, path: Path) -> dict[str, Any]:
    """The parsed file, else its ``.bak``; empty when there is neither.

    Raises TableError when something is there and nothing of it can be read: going on with an empty table would register an empty
    broker and overwrite what an operator could still repair.
    """
    problems: list[str] = []
    for candidate in (path, path.with_name(f"{path.name}.bak")):
        try:
            text = files.read(candidate)
        except FileNotFoundError:
            continue
        try:
            value = javajson.loads(text)
        except javajson.JavaJsonError as error:
            problems.append(f"{candidate} cannot be parsed ({error})")
            continue
        if isinstance(value, dict):
            if problems:
                logger.error("%s; going on with %s", problems[0], candidate)
            return value
        problems.append(f"{candidate} holds no JSON object")
    if problems:
        raise TableError(f"{'; '.join(problems)}: repair the file, or remove it to start with an empty table")
    return {}


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

    @property
    def is_dirty(self) -> bool:
        """Something was `touch`ed that is not on disk yet."""
        return self._saved < self._wanted

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
        _write(self._files, self.path, self._encode())
        self._saved = wanted

    async def _save_up_to(self, wanted: int) -> None:
        async with self._lock:
            if self._saved >= wanted:
                return
            included = self._wanted
            data = self._encode()
            await asyncio.get_running_loop().run_in_executor(self._executor, _write, self._files, self.path, data)
            self._saved = included


def _write(files: FileSystem, path: Path, data: bytes) -> None:
    files.replace(path, msgspec.json.format(data, indent=1))
