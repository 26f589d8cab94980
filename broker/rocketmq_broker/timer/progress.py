"""Writing down how far the timer service has come: log, wheel, then the checkpoint, each durable before the next.

None of it may be ahead of the flushed commit log: a checkpoint that says "delivered" of a message whose delivery a power loss took
away would lose it. For the same reason a slot that was worked off is emptied only once its deliveries are flushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

import msgspec

from rocketmq_broker.timer.timing_counts import TimingCounts
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.topics import DataVersion
from rocketmq_store.positions import Positions
from rocketmq_store.timer.checkpoint import TimerCheckpoint, read_checkpoint, write_checkpoint
from rocketmq_store.timer.log import TimerLog
from rocketmq_store.timer.recovery import discard_files
from rocketmq_store.timer.wheel import EMPTY, TimerWheel

FLUSH_POLL_S: Final = 0.05
FLUSH_WAIT_S: Final = 10.0


class TimerProgress:
    """See the module. `found` is what the file said at the start, `saved` what it says now."""

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        positions: Positions,
        flush: Callable[[], None],
        clock: Clock,
        executor: Executor,
        counts: TimingCounts,
    ) -> None:
        self._files = files
        self._directory = directory
        self._positions = positions
        self._flush = flush
        self._clock = clock
        self._executor = executor
        self._counts = counts
        self._lock = asyncio.Lock()
        # Slots that were worked off since the last checkpoint, and still have their chains.
        self._done: set[int] = set()
        self._clearing: set[int] = set()
        self.found: TimerCheckpoint | None = None
        self.saved = TimerCheckpoint()
        self.version = DataVersion()
        self.is_dirty = False

    def load(self) -> None:
        """Read the file; blocking. Raises OSError."""
        self.found = read_checkpoint(self._files, self._directory)
        self.saved = self.found or TimerCheckpoint()
        self.version = self.saved.version

    def note_done(self, number: int) -> None:
        """A slot was worked off."""
        self._done.add(number)
        self.is_dirty = True

    def forget_done(self, number: int) -> bool:
        """Whether a slot still has the chain that was worked off; then it is about to get another one."""
        is_done = number in self._done or number in self._clearing
        self._done.discard(number)
        self._clearing.discard(number)
        return is_done

    async def save(self, wheel: TimerWheel, log: TimerLog, checkpoint: TimerCheckpoint, *, is_flushed: bool) -> None:
        """Write ``checkpoint``, which is the state of now, once the commit log is flushed that far; skip it when that
        takes long.

        Raises OSError.
        """
        async with self._lock:
            clearing = self._clearing = self._done
            self._done = set()
            self.is_dirty = False
            self._counts.capture()
            if not is_flushed and not await self._wait_flushed():
                self._done |= clearing
                self.is_dirty = True
                return
            for number in clearing:
                wheel.put(number, EMPTY)
            self._clearing = set()
            checkpoint = msgspec.structs.replace(checkpoint, version=self.version.next(self._clock.now_ms()))
            mappings, directory = log.take_dirty(), log.take_directory()

            def write() -> None:
                if directory is not None:
                    self._files.sync_file(directory)
                for mapping in mappings:
                    mapping.sync()
                wheel.sync()
                write_checkpoint(self._files, self._directory, checkpoint)

            try:
                await asyncio.get_running_loop().run_in_executor(self._executor, write)
            except OSError:
                self.is_dirty = True
                raise
            self.saved, self.found, self.version = checkpoint, checkpoint, checkpoint.version
            await self._counts.save()

    async def adopt(self, master: TimerCheckpoint, root: Path) -> None:
        """Keep a master's progress; wheel and log of this broker are void then, and built anew when it takes over.

        Raises OSError.
        """
        async with self._lock:
            kept = msgspec.structs.replace(
                master, log_position=0, queue_offset=0, master_queue_offset=master.queue_offset, is_own=False
            )
            if kept == self.found:
                return

            def write() -> None:
                write_checkpoint(self._files, self._directory, kept)
                discard_files(self._files, root)

            await asyncio.get_running_loop().run_in_executor(self._executor, write)
            self.saved = self.found = kept
            self.version = kept.version

    async def _wait_flushed(self) -> bool:
        positions = self._positions
        needed = positions.written
        deadline = self._clock.monotonic() + FLUSH_WAIT_S
        while min(positions.flushed, positions.confirmed) < needed:
            if self._clock.monotonic() > deadline:
                return False
            self._flush()
            await asyncio.sleep(FLUSH_POLL_S)
        return True
