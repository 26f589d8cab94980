"""Leases as files, for the embedded mode: one JSON file per group, changed under a file lock.

All processes of the machine see one directory, so a lock and an atomic replacement are the compare-and-swap. Blocking work runs on
the executor that is given.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rocketmq_broker.failover.lease import NO_LEASE, LeaseConflict, LeaseRecord, LeaseUnavailable, Observed
from rocketmq_common.files import FileSystem

# A process that is stopped while it holds the lock must not stop the others for ever.
LOCK_TIMEOUT_S = 1.0
LOCK_POLL_S = 0.005


class _Content(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    version: int
    duration_ms: int
    record: LeaseRecord


class FileLeaseStore:
    """The lease of ``group`` in ``directory``; see `LeaseStore`."""

    def __init__(self, directory: Path, group: str, files: FileSystem, executor: Executor | None = None) -> None:
        self._path = directory / f"{group}.json"
        self._lock_path = directory / f"{group}.lock"
        self._files = files
        self._executor = executor

    async def read(self) -> Observed:
        """See `LeaseStore.read`."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.read_now)

    async def write(self, record: LeaseRecord, version: str, duration_ms: int) -> Observed:
        """See `LeaseStore.write`."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, self.write_now, record, version, duration_ms
        )

    async def close(self) -> None:
        """Nothing is held between calls."""

    def read_now(self) -> Observed:
        """`read`, on the calling thread."""
        try:
            content = msgspec.json.decode(self._files.read(self._path), type=_Content)
        except FileNotFoundError:
            return NO_LEASE
        except (OSError, msgspec.MsgspecError) as error:
            raise LeaseUnavailable(f"{self._path}: {error}") from error
        return Observed(content.record, str(content.version))

    def write_now(self, record: LeaseRecord, version: str, duration_ms: int) -> Observed:
        """`write`, on the calling thread."""
        try:
            self._files.make_directory(self._path.parent)
            with self._locked():
                found = self.read_now()
                if found.version != version:
                    raise LeaseConflict(
                        f"{self._path} is at version {found.version or 'none'}, not {version or 'none'}"
                    )
                following = int(version or 0) + 1
                content = _Content(version=following, duration_ms=duration_ms, record=record)
                self._files.replace(self._path, msgspec.json.format(msgspec.json.encode(content)), backup=False)
        except OSError as error:
            raise LeaseUnavailable(f"{self._path}: {error}") from error
        return Observed(record, str(following))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)
