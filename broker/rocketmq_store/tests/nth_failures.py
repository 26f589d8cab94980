"""Each call of a store's life fails once: SQLite's method, on real files and on files that can lose what was not synced.

The scenario is always the same, so the n-th call of a kind is always the same one, up to what the store's threads do at the same
time. After each failure the store is opened again, as after a kill on real files, as after a power cut in memory, and everything
acknowledged must be there, nothing else, and nothing may have been acknowledged on the strength of a sync that failed.
"""

from __future__ import annotations

import errno
import random
import shutil
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_common.records import RecordError
from rocketmq_store.errors import StoreError
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.crash_states import TINY, Findings
from rocketmq_store.tests.harness import Harness
from rocketmq_testkit.memory_files import Loss, MemoryFiles
from rocketmq_testkit.system_calls import WATCHED, FailingCalls

# Steps of MemoryFiles, by the names under which they can fail.
MEMORY_STEPS: Final = (
    "sync", "sync_file", "sync directory", "map", "map sync", "allocate", "zero", "zero sync", "truncate", "truncate sync",
    "truncate allocate", "replace write", "replace sync", "replace rename", "remove",
)  # fmt: skip
SYSTEM_CALLS: Final = tuple(name for name in WATCHED if name != "link")  # no table with a backup here
# With these a full disk is no reason to end: the store waits for room.
ALLOCATIONS: Final = ("map", "allocate", "posix_fallocate")
EXIT_S_MAX: Final = 10.0
# More failures of one kind than this, and the scenario does something odd.
CALL_COUNT_MAX: Final = 2000
MESSAGE_COUNT: Final = 40


class Life:
    """The scenario on any files; ``acknowledged`` counts messages in the order of the log."""

    def __init__(self, root: Path, files: FileSystem, *, sync: bool) -> None:
        self.harness = Harness(root, sync=sync, files=files, **TINY)
        self.sync = sync
        self.stored: list[tuple[int, int]] = []  # (number, end offset) in the order of the log
        self.acknowledged = 0
        self.refused: list[str] = []
        # Cleaning began: what lies below may be there or not.
        self.removed_offset = 0

    def run(self) -> None:
        """Live until the end, or until the disk fails. Raises StoreError when an open or a close met the failure."""
        harness = self.harness
        harness.open()
        for number in range(MESSAGE_COUNT):
            self._put(number)
            if number % 8 == 7:
                self._flush()
                harness.store.build_index()
            if number == 20:
                self._checkpoint()
                harness.clock.advance(4_000_000)
                harness.store.clean(harness.clock.now_ms(), is_manual=True)
                self.removed_offset = harness.store.log_min_offset
            if harness.fatal:
                return
            if number == 30:
                harness.abandon()
                harness.open()
                self.acknowledged = len(self.stored)
            if harness.fatal:
                return
        self._flush()
        harness.close() if not harness.fatal else harness.abandon()

    def _put(self, number: int) -> None:
        result = self.harness.put(number, size=900)
        if result.status is not PutStatus.PUT_OK:
            self.refused.append(result.reason)
            return
        self.stored.append((number, result.end_offset))
        self.harness.store.when_durable(result.end_offset, partial(self._answered, len(self.stored)))

    def _answered(self, total: int, status: PutStatus) -> None:
        # An asynchronous flush promises what was flushed, whatever it answered before.
        if status is PutStatus.PUT_OK and self.sync:
            self.acknowledged = max(self.acknowledged, total)

    def _flush(self) -> None:
        harness, written = self.harness, self.harness.store.positions.written
        harness.clock.advance(1000)
        harness.store.flush()
        harness.wait(lambda: harness.store.positions.flushed >= written or bool(harness.fatal))
        if not harness.fatal:
            self.acknowledged = max(self.acknowledged, len(self.stored))

    def _checkpoint(self) -> None:
        harness = self.harness
        harness.clock.advance(20_000)
        harness.store.flush()
        dispatched = harness.store.positions.dispatched
        harness.wait(lambda: harness.store.statistics().checkpoint_offset >= dispatched or bool(harness.fatal))


def sweep_memory(directory: Path, *, sync: bool, operation: str, error_number: int = errno.EIO) -> Findings:
    """Fail each step called ``operation`` once, then cut the power."""
    findings = Findings()
    for number in count(1):
        root = directory / f"{operation}-{error_number}-{sync}-{number}".replace(" ", "-")
        root.mkdir(parents=True)
        # Derived files are written again behind the last checkpoint, byte for byte: the model cannot see that, and need not.
        files = MemoryFiles(root, is_dropping=lambda path: path.parent.name == "commitlog")
        files.fail(operation, number, error_number)
        life = Life(root, files, sync=sync)
        label = f"{operation} {number} fails with {errno.errorcode[error_number]}, {'SYNC' if sync else 'ASYNC'}_FLUSH"
        failed = _live(life, findings, label)
        has_tripped = bool(files.tripped)
        if has_tripped:
            _judge_end(life, findings, label, failed=failed, operation=operation, error_number=error_number)
        must = life.acknowledged
        image = files.crash(root, Loss.ALL, random.Random(number))
        _reopen(life, image, must, findings, label)
        shutil.rmtree(root)
        if not has_tripped or findings.problems or number > CALL_COUNT_MAX:
            return findings
    raise AssertionError("unreachable")


def sweep_system(directory: Path, *, sync: bool, name: str, error_number: int = errno.EIO) -> Findings:
    """Fail each system call ``name`` of `RealFiles` once, then kill the process, as far as a store can see."""
    findings = Findings()
    for number in count(1):
        root = directory / f"{name}-{error_number}-{sync}-{number}"
        root.mkdir(parents=True)
        label = f"{name} call {number} fails with {errno.errorcode[error_number]}, {'SYNC' if sync else 'ASYNC'}_FLUSH"
        with FailingCalls().installed() as calls:
            calls.fail(name, number, error_number)
            life = Life(root, RealFiles(), sync=sync)
            failed = _live(life, findings, label)
        if calls.has_tripped:
            _judge_end(life, findings, label, failed=failed, operation=name, error_number=error_number)
        # The kernel goes on after a kill: what was written is there, acknowledged or not.
        _reopen(life, RealFiles(), len(life.stored), findings, label)
        shutil.rmtree(root)
        if not calls.has_tripped or findings.problems or number > CALL_COUNT_MAX:
            return findings
    raise AssertionError("unreachable")


def _live(life: Life, findings: Findings, label: str) -> bool:
    """Run the scenario; whether it ended because something failed."""
    findings.states += 1
    try:
        life.run()
    except (StoreError, OSError):
        # The call that met the failure says so: an open, a close, a clean-up.
        _end(life)
        return True
    except AssertionError as error:
        findings.errors.append(f"error: {label}: {error}")
    if life.harness.fatal:
        started = time.monotonic()
        life.harness.pump()
        _end(life)
        if time.monotonic() - started > EXIT_S_MAX:
            findings.errors.append(f"error: {label}: the end took more than {EXIT_S_MAX} s")
        return True
    return _end(life)


def _end(life: Life) -> bool:
    """Let go of the store, as the end of a process does; whether that met the failure."""
    try:
        life.harness.abandon()
    except OSError:
        return True
    return False


def _judge_end(life: Life, findings: Findings, label: str, *, failed: bool, operation: str, error_number: int) -> None:
    """A failure must have had its effect: the end, or a refusal where the disk was full and may not be later."""
    if failed or life.refused:
        return
    if operation in (*ALLOCATIONS, "zero", "pwrite") and error_number == errno.ENOSPC:
        return  # made ready ahead of its use, and made again in time
    findings.errors.append(f"error: {label}: nothing came of it")


def _reopen(life: Life, files: FileSystem, must_count: int, findings: Findings, label: str) -> None:
    harness = Harness(life.harness.root, sync=life.sync, files=files, **TINY)
    try:
        harness.open()
    except StoreError as error:
        findings.errors.append(f"error: {label}: does not open afterwards: {error}")
        return
    log_min = max(harness.store.log_min_offset, life.removed_offset)
    try:
        numbers = harness.numbers()
    except (AssertionError, RecordError) as error:
        findings.errors.append(f"error: {label}: queues cannot be read: {error}")
        return
    finally:
        harness.abandon()
    expected = [number for number, end in life.stored if end > log_min]
    numbers = [number for number in numbers if not expected or number >= expected[0]]
    must = [number for number, end in life.stored[:must_count] if end > log_min]
    if numbers[: len(must)] != must:
        findings.lost.append(f"lost: {label}: {len(must)} must be there, found {len(numbers)}")
    if numbers != expected[: len(numbers)]:
        findings.phantoms.append(f"phantom: {label}: found {numbers[-5:]}, sent {expected[-5:]}")
