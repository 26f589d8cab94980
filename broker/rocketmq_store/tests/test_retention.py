"""Expiry, disk levels, and what follows a shrinking log."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_store.retention import HOUR_MS, DiskState, disk_state, is_cleaning_hour, plan, used_percent
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.harness import Harness

SETTINGS = StoreSettings(root="")


class SizedDisk(RealFiles):
    """A disk whose fill the test sets."""

    __slots__ = ("percent",)

    def __init__(self) -> None:
        self.percent = 10

    def usage(self, path: Path) -> tuple[int, int]:
        return 1000, 1000 - 10 * self.percent


@pytest.fixture
def disk():
    return SizedDisk()


@pytest.fixture
def harness(tmp_path, disk):
    harness = Harness(tmp_path / "store", files=disk, delete_when="")
    harness.open()
    for number in range(1000):
        harness.put_ok(number, number % 2, size=500)
    while harness.store.build_index():
        pass
    harness.flush()
    yield harness
    harness.close()


def age(harness: Harness, hours: float, count: int) -> None:
    """Make the oldest segments so old, and the others fresh, by the harness's clock."""
    for number, path in enumerate(sorted((harness.root / "commitlog").iterdir())):
        modified = harness.clock.now_ms() / 1000 - (hours * 3600 if number < count else 0)
        os.utime(path, (modified, modified))


def hour_of(now_ms: int) -> str:
    return f"{time.localtime(now_ms / 1000).tm_hour:02d}"


def test_used_share_is_rounded_up():
    assert used_percent(1000, 999) == 1
    assert used_percent(1000, 1000) == 0
    assert used_percent(0, 0) == 0


@pytest.mark.parametrize(
    ("percent", "state"),
    [
        (75, DiskState.NORMAL),
        (76, DiskState.CLEAN_EXPIRED),
        (85, DiskState.CLEAN_EXPIRED),
        (86, DiskState.CLEAN_FORCIBLY),
        (90, DiskState.CLEAN_FORCIBLY),
        (91, DiskState.FULL),
    ],
)
def test_disk_levels_are_apaches(percent, state):
    assert disk_state(percent, SETTINGS) is state


def test_disk_levels_are_clamped_to_apaches_ranges():
    high = StoreSettings(root="", disk_warning_percent=99, disk_clean_forcibly_percent=99, disk_max_used_percent=99)
    assert disk_state(91, high) is DiskState.FULL
    assert disk_state(86, high) is DiskState.CLEAN_FORCIBLY


def test_cleaning_hours_are_local_and_several():
    now_ms = 1_700_000_000_000
    hour = hour_of(now_ms)
    assert is_cleaning_hour(hour, now_ms)
    assert is_cleaning_hour(f"99;{hour}", now_ms)
    assert not is_cleaning_hour("", now_ms)


def test_plan_stops_at_the_first_segment_that_is_not_expired():
    now_ms = 1_700_000_000_000
    settings = StoreSettings(root="", delete_when=hour_of(now_ms))
    old, fresh = now_ms - 72 * HOUR_MS, now_ms - 71 * HOUR_MS
    assert plan([old, old, fresh, old, old], settings, DiskState.NORMAL, now_ms, by_age=True) == (2, 0)
    assert plan([old, old], settings, DiskState.NORMAL, now_ms, by_age=True) == (1, 0)
    assert plan([old] * 30, settings, DiskState.NORMAL, now_ms, by_age=True) == (10, 0)
    assert plan([old, old], settings, DiskState.NORMAL, now_ms, by_age=False) == (0, 0)
    elsewhen = StoreSettings(root="", delete_when="")
    assert plan([old, old], elsewhen, DiskState.NORMAL, now_ms, by_age=True) == (0, 0)
    assert plan([old, old], elsewhen, DiskState.CLEAN_EXPIRED, now_ms, by_age=True) == (1, 0)
    assert plan([fresh] * 4, elsewhen, DiskState.CLEAN_FORCIBLY, now_ms, by_age=True) == (3, 3)
    gentle = StoreSettings(root="", delete_when="", clean_file_forcibly_enable=False)
    assert plan([fresh] * 4, gentle, DiskState.FULL, now_ms, by_age=True) == (0, 0)


def test_expired_segments_go_with_their_queue_and_index_files(harness, disk):
    disk.percent = 80
    age(harness, 73, 4)
    report = harness.store.clean(harness.clock.now_ms())
    assert (report.removed_segments, report.removed_unexpired) == (4, 0)
    assert report.removed_queue_segments > 0
    assert report.removed_index_files > 0
    assert harness.store.statistics().log_min_offset == 4 << 16
    bounds = harness.store.queue_bounds("T", 0)
    assert bounds.min_offset > 100
    assert harness.numbers() == [2 * o for o in range(bounds.min_offset, 500)]
    assert harness.find(0) == []
    assert harness.find(998) == [998]
    harness.close()
    report = harness.open()
    assert not report.rebuilt_queues
    assert not report.rebuilt_index
    assert harness.store.queue_bounds("T", 0) == bounds
    assert not (harness.root / "commitlog" / "00000000000000000000").exists()


def test_the_last_segment_and_unflushed_ones_stay(harness, disk):
    disk.percent = 80
    age(harness, 1000, 100)
    for _ in range(5):
        harness.store.clean(harness.clock.now_ms())
    assert harness.store.statistics().segment_count >= 1
    assert harness.put_ok(1000).status is PutStatus.PUT_OK
    assert harness.numbers()[-1] == 1000


def test_nearly_full_disk_removes_the_oldest_and_counts_what_was_not_expired(harness, disk):
    disk.percent = 86
    age(harness, 0, 0)
    report = harness.store.clean(harness.clock.now_ms())
    assert report.removed_segments == report.removed_unexpired == min(10, report.removed_segments)
    assert report.removed_segments > 0


def test_full_disk_refuses_sends_until_there_is_room(harness, disk):
    disk.percent = 91
    harness.store.clean(harness.clock.now_ms())
    refused = harness.put(1)
    assert refused.status is PutStatus.SERVICE_NOT_AVAILABLE
    assert "91 % full" in refused.reason
    assert harness.numbers()
    disk.percent = 90
    harness.store.clean(harness.clock.now_ms())
    assert harness.put(1).status is PutStatus.PUT_OK


def test_full_disk_does_not_lift_another_refusal(harness, disk):
    harness.store.set_writeable(False, "slave")
    disk.percent = 95
    harness.store.clean(harness.clock.now_ms())
    disk.percent = 10
    harness.store.clean(harness.clock.now_ms())
    assert harness.put(1).reason == "slave"


def test_a_clock_that_jumps_ahead_expires_nothing_for_an_hour(harness, disk):
    disk.percent = 80
    age(harness, 0, 0)
    harness.clock._now_ms += 100 * HOUR_MS
    harness.clock._origin_ms += 100 * HOUR_MS
    assert harness.store.clean(harness.clock.now_ms()).removed_segments == 0
    harness.clock.advance(HOUR_MS - 1000)
    assert harness.store.clean(harness.clock.now_ms()).removed_segments == 0
    harness.clock.advance(2000)
    assert harness.store.clean(harness.clock.now_ms()).removed_segments > 0


def test_interrupted_clean_up_is_made_good_at_the_next_start(harness, disk):
    disk.percent = 80
    age(harness, 73, 4)
    harness.checkpoint()
    harness.store.clean(harness.clock.now_ms())
    harness.abandon()
    harness.open()
    bounds = harness.store.queue_bounds("T", 1)
    assert harness.numbers(queue_id=1) == [2 * o + 1 for o in range(bounds.min_offset, 500)]
    assert harness.find(999) == [999]
