"""The timer files byte for byte, and what is cut off or refused when they are opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_common.hashing import java_hash
from rocketmq_common.topics import DataVersion
from rocketmq_store.timer.checkpoint import TimerCheckpoint, decode_checkpoint, read_checkpoint, write_checkpoint
from rocketmq_store.timer.log import MAGIC_DONE, UNIT_SIZE, TimerLog
from rocketmq_store.timer.recovery import TimerStart, recover
from rocketmq_store.timer.wheel import FILE_SIZE, NONE, SLOT_COUNT, Slot, TimerWheel

# 78 units and filler of 40 bytes.
SEGMENT = 4096
PER_SEGMENT = (SEGMENT - 68) // UNIT_SIZE + 1


def put(log: TimerLog, number: int, previous: int = NONE, slot_ms: int = 5000) -> int:
    return log.append(previous, 1, 1000, slot_ms - 1000, number * 100, 100, 7, slot_ms + 1)


def test_a_unit_is_apaches_but_for_the_exact_time_in_its_reserved_word(tmp_path: Path) -> None:
    log = TimerLog(RealFiles(), tmp_path, SEGMENT)
    log.append(NONE, 1, 1_700_000_000_000, 5000, 4096, 168, java_hash("TopicTest"), 0)
    (path,) = (tmp_path / "timerlog").iterdir()
    # The vector of a unit for a message of TopicTest, computed from Apache's layout.
    known = "00000034ffffffffffffffff000000010000018bcfe56800000013880000000000001000000000a88e9876410000000000000000"
    assert path.read_bytes()[:UNIT_SIZE].hex() == known
    assert path.name == "0" * 20


def test_a_slot_stands_where_apache_looks_for_it(tmp_path: Path) -> None:
    wheel = TimerWheel(RealFiles(), tmp_path)
    number = 1_700_000_000_000 // 1000
    wheel.put(number, Slot(52, 104, 2))
    wheel.sync()
    data = (tmp_path / "timerwheel").read_bytes()
    assert len(data) == FILE_SIZE == 38_707_200
    known = f"{number:016x}{52:016x}{104:016x}{2:08x}{0:08x}"
    assert data[512_000 * 32 : 512_001 * 32].hex() == known
    assert wheel.slot(number) == Slot(52, 104, 2)
    assert wheel.slot(number + SLOT_COUNT).last == NONE
    assert wheel.occupant(number + SLOT_COUNT) == number
    assert list(wheel.numbers(1)) == [number]


def test_a_checkpoint_is_apaches_with_a_mark_behind_it(tmp_path: Path) -> None:
    checkpoint = TimerCheckpoint(
        read_ms=1, log_position=2, queue_offset=3, master_queue_offset=4, version=DataVersion(7, 5, 6),
        precision_ms=1000, is_own=True,
    )  # fmt: skip
    write_checkpoint(RealFiles(), tmp_path, checkpoint)
    data = (tmp_path / "timercheck").read_bytes()
    assert len(data) == 4096
    assert data[:56] == b"".join(value.to_bytes(8, "big") for value in (1, 2, 3, 4, 5, 6, 7))
    assert read_checkpoint(RealFiles(), tmp_path) == checkpoint
    assert decode_checkpoint(data[:56]).queue_offset == 3
    # Apache's broker moves on and leaves the mark as it was.
    (tmp_path / "timercheck").write_bytes((9).to_bytes(8, "big") + data[8:])
    found = read_checkpoint(RealFiles(), tmp_path)
    assert found is not None
    assert not found.is_own
    assert found.read_ms == 9


def test_units_pass_over_the_filler_of_a_segment_both_ways(tmp_path: Path) -> None:
    log = TimerLog(RealFiles(), tmp_path, SEGMENT)
    positions = [put(log, number) for number in range(PER_SEGMENT * 2 + 3)]
    assert positions[PER_SEGMENT] == SEGMENT
    assert [unit.offset // 100 for _, unit in log.units_from(0)] == list(range(len(positions)))
    assert log.position_before(SEGMENT) == positions[PER_SEGMENT - 1]
    filler = (tmp_path / "timerlog" / f"{0:020d}").read_bytes()[PER_SEGMENT * UNIT_SIZE :]
    left = SEGMENT - PER_SEGMENT * UNIT_SIZE
    assert filler[:16] == left.to_bytes(4, "big") + bytes(8) + bytes.fromhex("cbd43194")
    log.cut(positions[PER_SEGMENT + 2])
    assert [unit.offset // 100 for _, unit in log.units_from(0)] == list(range(PER_SEGMENT + 2))
    log.mark_done(positions[1])
    unit = log.unit(positions[1])
    assert unit is not None
    assert unit.magic == MAGIC_DONE
    assert [path.name for path in log.take_expired(PER_SEGMENT * 100)] == [f"{0:020d}"]
    assert log.begin == SEGMENT
    assert log.unit(positions[1]) is None


def recovered(
    root: Path, checkpoint: TimerCheckpoint | None, *, is_unclean: bool, log_end: int = 1 << 40
) -> tuple[TimerWheel, TimerLog, TimerStart]:
    return recover(
        RealFiles(), root, SEGMENT, checkpoint, queue_span=(0, 50), precision_ms=1000, log_end=log_end,
        store_timestamp_ms=4000, is_unclean=is_unclean,
    )  # fmt: skip


def own(log_position: int) -> TimerCheckpoint:
    return TimerCheckpoint(read_ms=3000, log_position=log_position, queue_offset=9, precision_ms=1000, is_own=True)


def fill(root: Path, count: int) -> list[int]:
    """``count`` units in slot 5, and one that was done in slot 2."""
    log, wheel = TimerLog(RealFiles(), root, SEGMENT), TimerWheel(RealFiles(), root)
    wheel.put(2, Slot(0, 0, 1))
    positions = [NONE]
    for number in range(count):
        positions.append(put(log, number, positions[-1]))
    wheel.put(5, Slot(0, positions[-1], count))
    return positions[1:]


def test_after_a_kill_units_younger_than_the_checkpoint_are_cut_and_chains_led_back(tmp_path: Path) -> None:
    positions = fill(tmp_path, 90)
    wheel, log, start = recovered(tmp_path, own(positions[80]), is_unclean=True)
    assert log.end == positions[80]
    assert wheel.slot(5).last == positions[79]
    assert wheel.slot(2).last == NONE
    assert (start.read, start.queue_offset, start.doubtful_to, start.doubtful_ms) == (3, 9, 50, 4000)
    assert not start.is_rebuilt


@pytest.mark.parametrize("damage", ["no wheel", "no log", "other precision", "log cut", "torn unit", "no checkpoint"])
def test_files_that_do_not_fit_together_are_built_anew_from_the_queue(tmp_path: Path, damage: str) -> None:
    positions = fill(tmp_path, 90)
    checkpoint: TimerCheckpoint | None = own(positions[80])
    assert checkpoint is not None
    log_end = 1 << 40
    if damage == "no wheel":
        (tmp_path / "timerwheel").unlink()
    elif damage == "no log":
        for path in (tmp_path / "timerlog").iterdir():
            path.unlink()
    elif damage == "other precision":
        checkpoint = TimerCheckpoint(
            read_ms=3000, log_position=positions[80], queue_offset=9, precision_ms=100, is_own=True
        )
    elif damage == "log cut":
        log_end = 7000
    elif damage == "torn unit":
        path = tmp_path / "timerlog" / f"{SEGMENT:020d}"
        data = bytearray(path.read_bytes())
        start_at = positions[89] - SEGMENT
        data[start_at : start_at + UNIT_SIZE] = bytes(UNIT_SIZE)
        path.write_bytes(data)
    else:
        checkpoint = None
    wheel, log, start = recovered(tmp_path, checkpoint, is_unclean=True, log_end=log_end)
    assert (log.end, list(wheel.numbers(1))) == (0, [])
    assert (start.queue_offset, start.doubtful_to, start.is_rebuilt) == (0, 50, True)


def test_a_log_that_apache_left_is_taken_as_far_as_it_is_whole(tmp_path: Path) -> None:
    positions = fill(tmp_path, 90)
    foreign = TimerCheckpoint(read_ms=3000, log_position=positions[60], queue_offset=61)
    wheel, log, start = recovered(tmp_path, foreign, is_unclean=True)
    assert log.end == positions[89] + UNIT_SIZE
    assert wheel.slot(5).last == positions[89]
    assert start.last is not None
    assert start.last.offset == 8900
    # The end of the commit log was lost with the last three records.
    wheel, log, start = recovered(tmp_path, foreign, is_unclean=True, log_end=8700)
    assert wheel.slot(5).last == positions[86]
    assert log.end == positions[87]
