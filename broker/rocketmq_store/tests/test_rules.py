"""Rules of the store that no single behaviour shows: seams, errors that nobody may swallow, damage that nobody may deliver."""

from __future__ import annotations

import ast
import logging
import random
from pathlib import Path

import pytest

import rocketmq_store
from rocketmq_store.tests.harness import Harness
from rocketmq_testkit.memory_files import Loss, MemoryFiles

MODULES = sorted(Path(rocketmq_store.__file__).parent.glob("*.py"))
# What reaches the system without a seam, and why it may.
SEAMLESS = {
    "directory_lock.py": {"os", "fcntl"},  # a lock is between processes: no fake could tell anything
    "store.py": {"os", "resource"},  # the process id in the abort file, the limit of descriptors
    "reading.py": {"os"},  # the size of the memory
    "batch_arrays.py": {"os"},  # the number of threads of a library
    "index.py": {"time"},  # the calendar name of a file, from the clock's time
    "retention.py": {"time"},  # the hour of the day, from the clock's time
    "inspection.py": {"mmap"},  # looks at directories that no store has open
}
SYSTEM = {"os", "time", "random", "secrets", "mmap", "fcntl", "resource", "socket", "subprocess", "shutil", "tempfile"}


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_the_store_reaches_time_and_disk_through_its_seams_only(path):
    """Rule E1."""
    assert imported(ast.parse(path.read_text())) & SYSTEM <= SEAMLESS.get(path.name, set())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_error_is_swallowed(path):
    """Rule E29: whoever catches everything ends the process or raises; nobody passes over an OSError in silence."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        assert node.type is not None, f"{path.name}:{node.lineno} catches everything"
        names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
        body = ast.dump(ast.Module(node.body, []))
        if names & {"BaseException", "Exception"}:
            assert "fatal" in body or "Raise" in body, f"{path.name}:{node.lineno} goes on after anything"
        if "OSError" in names:
            assert not all(isinstance(n, ast.Pass) for n in node.body), (
                f"{path.name}:{node.lineno} passes over an error"
            )


def test_what_a_failed_sync_dropped_is_written_again_before_it_is_served(tmp_path):
    """Rule E11: after a failed sync the kernel takes pages for clean that the disk never got."""
    files = MemoryFiles(tmp_path)
    harness = Harness(tmp_path, sync=True, files=files)
    harness.open()
    harness.put_ok(0)
    harness.flush()
    files.fail("sync", 1)
    harness.put_ok(1)
    harness.store.flush()
    harness.wait(lambda: bool(harness.fatal))
    harness.abandon()
    harness.open()
    shown = harness.numbers()
    image = files.crash(tmp_path, Loss.ALL, random.Random(0))
    harness.abandon()
    copy = Harness(tmp_path, sync=True, files=image)
    copy.open()
    assert copy.numbers()[: len(shown)] == shown == [0, 1]
    copy.abandon()


@pytest.mark.parametrize("unclean", [False, True])
def test_a_record_that_a_bad_disk_changed_is_told_and_not_delivered(tmp_path, caplog, unclean):
    harness = Harness(tmp_path / "store")
    harness.open()
    results = [harness.put_ok(number) for number in range(20)]
    harness.checkpoint()
    harness.abandon() if unclean else harness.close()
    path = harness.root / "consumequeue" / "T" / "0" / f"{0:020d}"
    data = bytearray(path.read_bytes())
    data[5 * 20 + 7] ^= 1  # entry 5 names the byte behind its record's first
    path.write_bytes(data)
    if not unclean:
        log = harness.root / "commitlog" / f"{0:020d}"
        data = bytearray(log.read_bytes())
        data[results[9].physical_offset + 90] ^= 1  # the body of message 9
        log.write_bytes(data)
    harness.open()
    with caplog.at_level(logging.ERROR):
        found = [int(m.body.partition(b":")[0]) for m in harness.messages()]
        harness.messages()
    damaged = {5} if unclean else {5, 9}
    assert found == [number for number in range(20) if number not in damaged]
    assert harness.store.statistics().damaged_message_count == len(damaged)
    assert len([r for r in caplog.records if "is not delivered" in r.message]) == len(damaged)
    harness.abandon()


def test_an_empty_queue_file_before_another_one_is_built_anew(tmp_path):
    harness = Harness(tmp_path / "store", consume_queue_segment_size=400)
    harness.open()
    for number in range(50):
        harness.put_ok(number)
    harness.abandon()
    (harness.root / "consumequeue" / "T" / "0" / f"{400:020d}").write_bytes(b"")
    assert harness.open().rebuilt_queues
    assert harness.numbers() == list(range(50))
    harness.close()
