"""Cutting the end off a closed store's log: bytes that a new master's log does not have.

The derived files are left as they are: without a checkpoint that vouches for them, and with the abort file, the next recovery
brings them to exactly what the log holds then. Each step may be interrupted and the whole begun again.
"""

from __future__ import annotations

from pathlib import Path

from rocketmq_common.files import FileSystem
from rocketmq_store.checkpoint import Checkpoint
from rocketmq_store.commit_log import COMMIT_LOG_DIRECTORY
from rocketmq_store.directory_lock import DirectoryLock
from rocketmq_store.recovery import TRUNCATION_FILE_NAME
from rocketmq_store.segments import list_segments, segment_name
from rocketmq_store.settings import StoreSettings
from rocketmq_store.store import ABORT_FILE_NAME


def truncate_log(files: FileSystem, settings: StoreSettings, offset: int) -> None:
    """Remove every log byte from ``offset`` on, which must be where a record begins. Blocks.

    Raises StoreLocked while the store is open, StoreError, OSError, ValueError when the log begins behind ``offset``.
    """
    root, size = Path(settings.root), settings.commit_log_segment_size
    directory = root / COMMIT_LOG_DIRECTORY
    lock = DirectoryLock(root)
    try:
        bases = list_segments(files, directory, size, "mappedFileSizeCommitLog")
        if bases and offset < bases[0]:
            raise ValueError(f"the log begins at {bases[0]} and cannot be cut at {offset}")
        files.replace(root / ABORT_FILE_NAME, b"truncation", backup=False)
        checkpoint = Checkpoint(files, root)
        checkpoint.write(checkpoint.read_apache(), None)
        checkpoint.close()
        for base in reversed(bases):
            path = directory / segment_name(base)
            if base >= offset and base != bases[0]:
                files.remove(path)
            elif base + size > offset:
                marker = root / TRUNCATION_FILE_NAME
                files.replace(marker, f"{path.name} {offset - base}\n".encode(), backup=False)
                files.truncate_tail(path, offset - base, size)
                files.remove(marker)
    finally:
        lock.release()
