"""Group commit, the bound of what is visible, and disks that fail."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_store.positions import UNBOUNDED
from rocketmq_store.statuses import GetStatus, PutStatus
from rocketmq_store.tests.harness import Harness
from rocketmq_testkit.files import FaultyFiles, FaultyMapping


class GatedFiles(FaultyFiles):
    """Syncs of log segments wait until the test lets them through; each notes how far the log was written when it began."""

    __slots__ = ("entered", "gate")

    def __init__(self, root) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.entered = threading.Event()

    def check(self, operation, path):
        if operation == "sync" and path.parent.name == "commitlog":
            self.entered.set()
            assert self.gate.wait(20)
        super().check(operation, path)


def note_number(order: list[object], number: int, status: PutStatus) -> None:
    assert status is PutStatus.PUT_OK
    order.append(number)


@pytest.fixture
def gated(tmp_path):
    files = GatedFiles(tmp_path / "store")
    files.gate.set()
    harness = Harness(tmp_path / "store", sync=True, files=files)
    harness.open()
    files.gate.clear()
    files.entered.clear()
    yield harness, files
    files.gate.set()
    harness.close()


def test_message_is_neither_visible_nor_acknowledged_before_its_sync(gated):
    harness, files = gated
    answers: list[PutStatus] = []
    result = harness.put_ok(1)
    harness.store.when_durable(result.end_offset, answers.append)
    assert files.entered.wait(20)
    harness.pump()
    assert answers == []
    assert harness.store.get_messages("T", 0, 0, 32).status is GetStatus.NO_MESSAGE_IN_QUEUE
    assert harness.store.message_at(result.physical_offset) is None
    assert harness.find(1) == []
    files.gate.set()
    harness.wait(lambda: bool(answers))
    assert answers == [PutStatus.PUT_OK]
    assert harness.numbers() == [1]
    assert harness.find(1) == [1]


def test_sync_acknowledges_only_what_was_written_before_it_began(gated):
    harness, files = gated
    order: list[object] = []
    first = harness.put_ok(1)
    harness.store.when_durable(first.end_offset, lambda status: order.append((1, status)))
    assert files.entered.wait(20)
    second = harness.put_ok(2)
    harness.store.when_durable(second.end_offset, lambda status: order.append((2, status)))
    files.entered.clear()
    files.gate.set()
    harness.wait(lambda: len(order) >= 1)
    assert order[0] == (1, PutStatus.PUT_OK)
    harness.wait(lambda: len(order) == 2)
    assert order[1] == (2, PutStatus.PUT_OK)
    assert harness.store.positions.flushed == second.end_offset


def test_one_sync_serves_a_group_in_order(gated):
    harness, files = gated
    order: list[object] = []
    harness.put_ok(0)
    harness.store.when_durable(harness.store.positions.written, lambda status: None)
    assert files.entered.wait(20)
    before = harness.store.statistics().flush_count
    for number in range(1, 200):
        result = harness.put_ok(number)
        harness.store.when_durable(result.end_offset, partial(note_number, order, number))
    files.gate.set()
    harness.wait(lambda: len(order) == 199)
    assert order == list(range(1, 200))
    assert harness.store.statistics().flush_count - before <= 3


def test_watcher_fires_before_the_sender_is_answered(gated):
    harness, files = gated
    order: list[object] = []
    harness.store.queue("T", 0).watcher = lambda *_: order.append("visible")
    result = harness.put_ok(1)
    harness.store.when_durable(result.end_offset, lambda status: order.append("answered"))
    files.gate.set()
    harness.wait(lambda: len(order) == 2)
    assert order == ["visible", "answered"]


def test_durable_offset_is_acknowledged_at_once(gated):
    harness, files = gated
    files.gate.set()
    result = harness.put_ok(1)
    harness.flush()
    answers: list[PutStatus] = []
    harness.store.when_durable(result.end_offset, answers.append)
    assert answers == [PutStatus.PUT_OK]


def test_slow_disk_answers_flush_disk_timeout_and_keeps_the_message(gated):
    harness, files = gated
    answers: list[PutStatus] = []
    result = harness.put_ok(1)
    harness.store.when_durable(result.end_offset, answers.append)
    assert files.entered.wait(20)
    harness.clock.advance(4_999)
    harness.store.tick()
    assert answers == []
    harness.clock.advance(1)
    harness.store.tick()
    assert answers == [PutStatus.FLUSH_DISK_TIMEOUT]
    files.gate.set()
    harness.wait(lambda: harness.numbers() == [1])


def test_async_flush_acknowledges_at_once_and_flushes_on_its_own(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    answers: list[PutStatus] = []
    result = harness.put_ok(1)
    harness.store.when_durable(result.end_offset, answers.append)
    assert answers == [PutStatus.PUT_OK]
    assert harness.numbers() == [1]
    harness.clock.advance(500)
    harness.wait(lambda: harness.store.positions.flushed == result.end_offset)
    harness.close()


def test_index_is_built_behind_the_appends_without_being_asked(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(1000):
        harness.put_ok(number)
    assert harness.store.statistics().index_pending_count == 1000
    harness.clock.advance(1000)
    harness.store.flush()
    harness.wait(lambda: harness.store.statistics().index_pending_count == 0)
    harness.close()


@pytest.mark.parametrize("number", range(1, 6))
def test_failed_sync_is_fatal_and_nothing_is_acknowledged_after_it(tmp_path, number):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", sync=True, files=files)
    harness.open()
    files.fail("sync", number)
    answers: dict[int, PutStatus] = {}
    for message in range(20):
        result = harness.put(message)
        if result.status is not PutStatus.PUT_OK:
            break
        harness.store.when_durable(result.end_offset, partial(answers.__setitem__, message))
        harness.wait(partial(answers.__contains__, message))
    failed = [message for message, status in answers.items() if status is not PutStatus.PUT_OK]
    assert failed
    assert all(answers[message] is PutStatus.UNKNOWN_ERROR for message in failed)
    assert isinstance(harness.fatal[0], OSError)
    assert len(harness.fatal) == 1
    assert harness.put(99).status is PutStatus.UNKNOWN_ERROR
    late: list[PutStatus] = []
    harness.store.when_durable(harness.store.positions.written, late.append)
    assert late == [PutStatus.UNKNOWN_ERROR]
    harness.abandon()
    files.crash_copy(tmp_path / "copy")
    copy = Harness(tmp_path / "copy", sync=True)
    copy.open()
    acknowledged = {message for message, status in answers.items() if status is PutStatus.PUT_OK}
    assert acknowledged <= set(copy.numbers())
    copy.close()


@pytest.mark.parametrize("operation", ["sync_file", "sync"])
def test_failed_sync_of_derived_files_is_fatal(tmp_path, operation):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    harness.put_ok(1)
    harness.flush()
    files.fail(operation, 1)
    harness.clock.advance(20_000)
    harness.store.flush()
    harness.wait(lambda: bool(harness.fatal))
    assert harness.put(2).status is PutStatus.UNKNOWN_ERROR
    harness.abandon()


def test_failed_sync_at_close_leaves_the_store_unclean(tmp_path):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    harness.put_ok(1)
    files.fail("sync", 1)
    with pytest.raises(Exception, match="could not be closed cleanly"):
        harness.close()
    assert (tmp_path / "store" / "abort").exists()
    assert harness.fatal


def test_nothing_beyond_the_confirmed_offset_is_visible(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    first = harness.put_ok(1)
    harness.store.confirm(first.end_offset)
    second = harness.put_ok(2)
    harness.put_batch(range(3, 6))
    assert harness.numbers() == [1]
    assert harness.store.message_at(second.physical_offset) is None
    harness.store.confirm(second.end_offset)
    assert harness.numbers() == [1, 2]
    harness.store.confirm(UNBOUNDED)
    assert harness.numbers() == [1, 2, 3, 4, 5]
    assert harness.put_ok(6).queue_offset == 5
    assert harness.numbers() == [1, 2, 3, 4, 5, 6]
    harness.close()


def test_messages_that_wait_for_their_flush_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("rocketmq_store.appending.PENDING_DISPATCH_COUNT_MAX", 10)
    monkeypatch.setattr("rocketmq_store.batch_appending.PENDING_DISPATCH_COUNT_MAX", 10)
    harness = Harness(tmp_path / "store")
    harness.open()
    harness.store.confirm(0)
    for number in range(10):
        harness.put_ok(number)
    assert harness.put(10).status is PutStatus.OS_PAGE_CACHE_BUSY
    assert harness.put_batch(range(10, 12)).status is PutStatus.OS_PAGE_CACHE_BUSY
    harness.store.confirm(UNBOUNDED)
    assert harness.put_ok(10).queue_offset == 10
    assert harness.numbers() == list(range(11))
    harness.close()


def test_deleting_a_topic_drops_its_messages_that_wait(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    harness.store.confirm(0)
    harness.put_ok(1)
    harness.put_ok(2, topic="Other")
    harness.store.delete_topic("T")
    harness.store.confirm(UNBOUNDED)
    assert harness.store.queue_bounds("T", 0) is None
    assert harness.numbers("Other") == [2]
    harness.close()


def test_zeroing_ahead_never_touches_written_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("rocketmq_store.commit_log.APPEND_SIZE_MIN", 1 << 12)
    monkeypatch.setattr("rocketmq_store.preparation.ZERO_CHUNK_SIZE", 1 << 13)
    monkeypatch.setattr("rocketmq_store.preparation.ZERO_FIRST_SIZE", 1 << 13)
    harness = Harness(tmp_path / "store", sync=True, commit_log_segment_size=1 << 20, message_size_max=1 << 11)
    harness.open()
    for number in range(4000):
        harness.put_ok(number, number % 3, size=1000)
        if number % 7 == 0:
            harness.store._log.nudge_preparer()
    harness.flush()
    for queue_id in range(3):
        assert harness.numbers(queue_id=queue_id) == list(range(queue_id, 4000, 3))
    harness.close()


def test_faulty_mapping_reports_what_it_made_durable(tmp_path):
    files = FaultyFiles(tmp_path)
    mapping = files.map_file(tmp_path / "f", 8192, create=True)
    assert isinstance(mapping, FaultyMapping)
    mapping.buffer[:4] = b"once"
    mapping.sync()
    mapping.buffer[:4] = b"lost"
    files.crash_copy(tmp_path / "copy")
    assert (tmp_path / "copy" / "f").read_bytes()[:4] == b"once"
    mapping.close()
    assert RealFiles().size(tmp_path / "f") == 8192
