"""The exploration of crash states in short, and that it finds what it is made to find."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rocketmq_store.tests import nth_failures
from rocketmq_store.tests.crash_states import Explorer, explore
from rocketmq_testkit.memory_files import MemoryFiles

STATE_COUNT = 240
SEED = 1


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
def test_no_power_cut_at_any_step_loses_or_invents_a_message(tmp_path, sync):
    findings = explore(tmp_path, sync=sync, state_count=STATE_COUNT, seed=SEED)
    assert findings.problems == []
    assert findings.states >= STATE_COUNT


class LyingFiles(MemoryFiles):
    """A disk that answers syncs of the log without doing anything."""

    def sync_content(self, file, operation, path):
        if path.parent.name == "commitlog" and operation == "sync":
            self.step(operation, path)
            return
        super().sync_content(file, operation, path)


class ForgetfulFiles(MemoryFiles):
    """A file system whose `replace` does not wait for the content."""

    def sync_content(self, file, operation, path):
        if operation != "replace sync":
            super().sync_content(file, operation, path)


def is_found(tmp_path: Path, files_type: type[MemoryFiles], name: str = "", *, scenarios: int = 60) -> bool:
    """Whether some scenario shows a problem that names ``name``. How threads take turns differs, so one scenario proves nothing."""
    for seed in range(scenarios):
        place = tmp_path / str(seed)
        place.mkdir()
        findings = Explorer(place, sync=True, seed=seed, files_type=files_type).run()
        if any(name in problem for problem in findings.problems):
            return True
    return False


def test_a_log_that_is_acknowledged_before_it_is_durable_is_found(tmp_path):
    assert is_found(tmp_path, LyingFiles)


def test_a_table_that_is_renamed_before_its_content_is_durable_is_found(tmp_path):
    assert is_found(tmp_path, ForgetfulFiles, "topics.json")


@pytest.mark.parametrize("operation", nth_failures.MEMORY_STEPS)
def test_no_failed_step_costs_what_was_acknowledged(tmp_path, operation):
    findings = nth_failures.sweep_memory(tmp_path, sync=True, operation=operation)
    assert findings.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("name", nth_failures.SYSTEM_CALLS)
def test_no_failed_system_call_costs_what_was_stored(tmp_path, name):
    findings = nth_failures.sweep_system(tmp_path, sync=True, name=name)
    assert findings.problems == []
    assert findings.states > 1


def test_every_sync_of_a_running_store_is_made_by_an_io_thread(tmp_path):
    """The thread that appends never waits for the disk (rule E2)."""
    place = tmp_path / "one"
    place.mkdir()
    writer = threading.current_thread()
    synced_by: set[threading.Thread] = set()
    explorer = Explorer(place, sync=True, seed=SEED)
    explorer.harness.open()

    def note(operation: str, path: Path) -> None:
        if "sync" in operation:
            synced_by.add(threading.current_thread())

    explorer.files.on_step = note
    try:
        for _ in range(40):
            explorer.step("put")
            explorer.step("flush")
        explorer.step("checkpoint")
    finally:
        explorer.files.on_step = None
        explorer.harness.abandon()
    assert synced_by
    assert writer not in synced_by
