"""Real processes: the directory lock, kill -9 under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rocketmq_store.errors import StoreLocked
from rocketmq_store.tests.harness import Harness

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
print("held", flush=True)
sys.stdin.read()
"""

# Appends as fast as it can, printing the number of each message once it may be acknowledged.
WRITER = """
import queue, sys
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import FlushDiskType, StoreSettings
from rocketmq_store.store import MessageStore
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.harness import properties

posted = queue.SimpleQueue()
settings = StoreSettings(
    root=sys.argv[1], flush_disk_type=FlushDiskType(sys.argv[2]), commit_log_segment_size=1 << 18,
    consume_queue_segment_size=20_000, index_slot_count=997, index_entry_count=4000, flush_interval_ms=20,
    flush_queue_interval_ms=50,
)
store = MessageStore(settings, post=posted.put, fatal=lambda error: sys.exit(3))
store.open()
first = int(sys.argv[3])
acknowledged = []

def answer(number, status):
    if status is PutStatus.PUT_OK:
        acknowledged.append(number)

number = first
while True:
    for _ in range(20):
        result = store.append(NewMessage("T", number % 3, f"{number}:".encode().ljust(200, b"x"), properties(number)))
        assert result.status is PutStatus.PUT_OK, result
        store.when_durable(result.end_offset, lambda status, n=number: answer(n, status))
        number += 1
    store.build_index(20)
    if settings.is_sync_flush:
        while acknowledged[-1:] != [number - 1]:
            posted.get()()
    else:
        while not posted.empty():
            posted.get()()
    print(number - 1, flush=True)
"""


def spawn(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_directory_held_by_another_process_is_refused_naming_both(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    process = spawn(HOLDER, str(root / "lock"))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreLocked, match=f"store {root} is in use by process {process.pid}: stop that broker"):
            Harness(root).open()
    finally:
        end(process)
    harness = Harness(root)
    harness.open()
    harness.close()


def test_directory_held_by_this_process_is_refused(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    with pytest.raises(StoreLocked, match="already open in this process"):
        Harness(tmp_path / "store").open()
    harness.close()
    harness.open()
    harness.close()


def test_lock_and_abort_files_are_apaches(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    assert (tmp_path / "store" / "lock").read_bytes() == b"lock"
    assert (tmp_path / "store" / "abort").read_text() == str(os.getpid())
    harness.close()
    assert not (tmp_path / "store" / "abort").exists()


@pytest.mark.slow
@pytest.mark.parametrize("flush_type", ["ASYNC_FLUSH", "SYNC_FLUSH"])
def test_kill_9_under_load_loses_nothing_that_was_acknowledged(tmp_path, flush_type):
    root = tmp_path / "store"
    first = 0
    for _ in range(4):
        process = spawn(WRITER, str(root), flush_type, str(first))
        try:
            assert process.stdout is not None
            last = -1
            for _ in range(60):
                line = process.stdout.readline()
                assert line, f"the writer ended with {process.wait()}"
                last = int(line)
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split("\n")
            last = max([last, *(int(word) for word in rest[:-1] if word.isdecimal())])
        finally:
            end(process)
        harness = store_of(root)
        report = harness.open()
        assert report.mode == "unclean"
        assert not report.rebuilt_queues, report
        numbers = [harness.numbers(queue_id=queue_id) for queue_id in range(3)]
        kept = sum(map(len, numbers))
        assert kept > last
        assert [numbers[q] for q in range(3)] == [list(range(q, kept, 3)) for q in range(3)]
        for number in range(first, kept, 97):
            assert harness.find(number) == [number]
        first = kept
        harness.abandon()


def store_of(root: Path) -> Harness:
    return Harness(
        root,
        commit_log_segment_size=1 << 18,
        consume_queue_segment_size=20_000,
        index_slot_count=997,
        index_entry_count=4000,
    )
