"""Where Apache's broker loses timer messages, and ours must not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocketmq_broker.timer.master_span import MasterSpan
from rocketmq_broker.timer.tests.rig import TimerRig
from rocketmq_store.statuses import PutStatus
from rocketmq_store.timer.checkpoint import TimerCheckpoint

DAY_MS = 86_400_000


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def rig(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> Iterator[TimerRig]:
    made = TimerRig(tmp_path, loop)
    made.open()
    yield made
    made.close()
    made.end()


def send_all(rig: TimerRig, count: int, delay_ms: int) -> int:
    due_ms = rig.clock.now_ms() + delay_ms
    for number in range(count):
        rig.send(number, due_ms)
    rig.settle()
    return due_ms


@pytest.mark.parametrize("days", [1, 8, 15, 400])
def test_a_broker_that_was_down_for_weeks_delivers_everything_once(rig: TimerRig, days: int) -> None:
    send_all(rig, 5, 3_600_000)
    rig.close()
    rig.clock.advance(days * DAY_MS)
    rig.open()
    # A new message whose slot has the place of an old one waits until that is delivered.
    rig.send(5, rig.clock.now_ms() + 1000)
    rig.advance(0)
    assert rig.numbers() == [0, 1, 2, 3, 4]
    rig.advance(1000)
    assert rig.numbers() == [0, 1, 2, 3, 4, 5]


def test_messages_that_wait_move_to_the_young_end_before_the_log_is_cut(rig: TimerRig) -> None:
    send_all(rig, 300, 3_600_000)
    store = rig.store
    rig.recall(7, rig.clock.now_ms() + 3_600_000)
    while len(store._log.segments) < 3:
        rig._append(b"x" * 1000, "UNIQ_KEY\x01FILL\x02")
    end = store._log.segments[0].end
    assert not rig.service.may_remove(end)
    for _ in range(50):
        rig.settle()
        rig.flush()
        if rig.service.may_remove(end):
            break
    else:
        raise AssertionError("the first segment is never released")
    store._log.remove_first()
    for queue in store._queues.by_key.values():
        queue.correct_min_offset(store.log_min_offset)
    before = len(rig.delivered())
    rig.advance(3_600_000)
    numbers = [int(message.body) for message in rig.delivered()[before:]]
    assert sorted(numbers) == [number for number in range(300) if number != 7]


def test_a_full_disk_does_not_keep_waiting_messages_from_moving(rig: TimerRig) -> None:
    send_all(rig, 3, 3_600_000)
    store = rig.store
    while len(store._log.segments) < 2:
        rig._append(b"x" * 1000, "UNIQ_KEY\x01FILL\x02")
    store.refuse("disk", PutStatus.SERVICE_NOT_AVAILABLE, "full")
    end = store._log.segments[0].end
    for _ in range(50):
        if rig.service.may_remove(end):
            break
        rig.settle()
        rig.flush()
    assert rig.service.may_remove(end)
    assert rig.service.moved_count == 3
    store.lift_refusal("disk")


def test_a_store_that_refuses_for_a_while_loses_nothing(rig: TimerRig) -> None:
    due_ms = send_all(rig, 3, 500)
    rig.store.refuse("test", PutStatus.SERVICE_NOT_AVAILABLE, "not now")
    rig.clock.advance(600)
    rig.run(asyncio.sleep(0))
    rig.service._wake()
    rig.run(asyncio.sleep(0))
    assert rig.numbers() == []
    rig.store.lift_refusal("test")
    rig.settle()
    assert rig.numbers() == [0, 1, 2]
    assert rig.clock.now_ms() >= due_ms


def test_wheel_and_log_that_are_gone_are_built_anew_without_repeating_or_losing(rig: TimerRig) -> None:
    now_ms = rig.clock.now_ms()
    for number in range(4):
        rig.send(number, now_ms + 1000 * (number + 1))
    rig.recall(3, now_ms + 4000)
    rig.advance(2500)
    assert rig.numbers() == [0, 1]
    rig.close()
    (rig.root / "timerwheel").unlink()
    shutil.rmtree(rig.root / "timerlog")
    rig.open()
    rig.advance(10_000)
    assert rig.numbers() == [0, 1, 2]


def test_a_slave_that_takes_over_goes_on_where_its_master_was(rig: TimerRig) -> None:
    now_ms = rig.clock.now_ms()
    for number in range(3):
        rig.send(number, now_ms + 1000 * (number + 1))
    rig.advance(1500)
    assert rig.numbers() == [0]
    master = rig.service.checkpoint()
    rig.service.stop()
    rig.run(rig.service.finish(is_flushed=False))
    rig.run(rig.service.adopt(TimerCheckpoint(read_ms=master.read_ms, master_queue_offset=master.queue_offset)))
    assert not (rig.root / "timerwheel").exists()
    rig.run(rig.service.start(is_unclean=True))
    rig.advance(5000)
    assert rig.numbers() == [0, 1, 2]


def test_a_clock_that_was_set_back_makes_nothing_early_and_repeats_nothing(rig: TimerRig) -> None:
    send_all(rig, 2, 500)
    rig.advance(1500)
    assert rig.numbers() == [0, 1]
    rig.clock._now_ms -= 60_000
    rig.send(2, rig.clock.now_ms() + 700)
    rig.advance(600)
    assert rig.numbers() == [0, 1]
    rig.advance(100)
    assert rig.numbers() == [0, 1, 2]
    rig.advance(120_000)
    assert rig.numbers() == [0, 1, 2]


def test_a_slave_keeps_the_log_of_timer_messages_until_its_master_has_removed_it(rig: TimerRig) -> None:
    store, service = rig.store, rig.service
    # A slave: its log grows, nothing is read or fired.
    service.stop()
    while len(store._log.segments) < 2:
        rig._append(b"x" * 1000, "UNIQ_KEY\x01FILL\x02")
    first, second = (segment.end for segment in store._log.segments[:2])
    # Nothing of these waits for anybody.
    assert service.may_remove(first)
    rig.send(0, rig.clock.now_ms() + 3_600_000)
    assert service.may_remove(first)
    assert not service.may_remove(second)
    # The master still has it; then it has not, but its copies are not here yet.
    service.note_master_log(first, store.positions.written)
    assert not service.may_remove(second)
    service.note_master_log(second, store.positions.written + 1)
    assert not service.may_remove(second)
    rig._append(b"x" * 1000, "UNIQ_KEY\x01FILL\x02")
    assert service.may_remove(second)
    # As master it decides by itself again.
    rig.run(service.start(is_unclean=True))
    assert not service.may_remove(second)


def test_a_slave_that_is_always_behind_gets_to_remove_something() -> None:
    span = MasterSpan()
    for written in range(0, 1000, 10):
        span.note(written // 2, written + 25)
        span.released(written)
    assert 400 < span.released(1000) <= 500
