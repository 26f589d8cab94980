"""Power losses at any moment, in both flush modes, against a model of the queues."""

from __future__ import annotations

import errno
import random
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketmq_store.errors import StoreError
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.harness import Harness
from rocketmq_testkit.files import FaultyFiles

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.integers(10, 3000)),
        st.tuples(st.just("batch"), st.integers(0, 2), st.integers(1, 12)),
        st.tuples(st.just("flush"), st.just(0), st.just(0)),
        st.tuples(st.just("checkpoint"), st.just(0), st.just(0)),
        st.tuples(st.just("index"), st.just(0), st.integers(1, 50)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        st.tuples(st.just("kill"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


class Model:
    """What was stored, in order, and how much of it must survive."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, int]] = []  # (queue id, number) in log order
        self.ends: list[int] = []
        self.durable_count = 0

    def durable(self, offset: int) -> None:
        self.durable_count = max(self.durable_count, sum(end <= offset for end in self.ends))

    def check(self, harness: Harness, *, at_least: int) -> int:
        """The store holds a prefix of what was stored, ``at_least`` so many; returns how many."""
        found = [harness.numbers(queue_id=queue_id) for queue_id in range(3)]
        kept = sum(map(len, found))
        assert kept >= at_least
        for queue_id in range(3):
            assert found[queue_id] == [n for q, n in self.numbers[:kept] if q == queue_id]
        for _, number in self.numbers[:kept][:: max(1, kept // 5)]:
            assert harness.find(number) == [number]
        del self.numbers[kept:], self.ends[kept:]
        self.durable_count = min(self.durable_count, kept)
        return kept


@pytest.mark.parametrize("sync", [False, True])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_any_history_survives_a_power_loss_as_far_as_the_mode_promises(sync, steps, seed):
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        generation = 0
        files = FaultyFiles(root / "0")
        harness = Harness(
            root / "0", sync=sync, files=files, commit_log_segment_size=16384, consume_queue_segment_size=400
        )
        harness.open()
        model = Model()
        number = 0
        for step, queue_id, size in [*steps, ("power", 0, 0), ("put", 0, 100), ("power", 0, 0)]:
            if step == "put":
                result = harness.put_ok(number, queue_id, size=size)
                model.numbers.append((queue_id, number))
                model.ends.append(result.end_offset)
                number += 1
            elif step == "batch":
                batch = harness.put_batch(range(number, number + size), queue_id)
                assert batch.status is PutStatus.PUT_OK
                model.numbers += [(queue_id, n) for n in range(number, number + size)]
                model.ends += [*batch.physical_offsets[1:], batch.end_offset]
                number += size
            elif step == "flush":
                harness.flush()
                model.durable(harness.store.positions.flushed)
            elif step == "checkpoint":
                harness.checkpoint()
                model.durable(harness.store.positions.flushed)
            elif step == "index":
                harness.store.build_index(size)
            elif step == "reopen":
                harness.close()
                harness.open()
                model.check(harness, at_least=len(model.numbers))
                model.durable(harness.store.positions.flushed)
            elif step == "kill":
                harness.abandon()
                harness.open()
                model.check(harness, at_least=len(model.numbers))
                model.durable(harness.store.positions.flushed)
            else:
                model.durable(harness.store.positions.flushed)
                harness.abandon()
                generation += 1
                target = root / str(generation)
                files.crash_copy(target, chance)
                files = FaultyFiles(target)
                harness = Harness(
                    target, sync=sync, files=files, commit_log_segment_size=16384, consume_queue_segment_size=400
                )
                harness.open()
                model.check(harness, at_least=model.durable_count)
                model.durable(harness.store.positions.flushed)
        harness.close()


def note(acknowledged: list[int], number: int, status: PutStatus) -> None:
    if status is PutStatus.PUT_OK:
        acknowledged.append(number)


def is_flushed(harness: Harness, offset: int) -> bool:
    return harness.store.positions.flushed >= offset or bool(harness.fatal)


def scenario(harness: Harness) -> int:
    """A short life; returns how many messages were acknowledged as durable. Ends early when the disk fails."""
    acknowledged: list[int] = []
    for number in range(60):
        result = harness.put(number, size=900)
        if result.status is not PutStatus.PUT_OK:
            break
        harness.store.when_durable(result.end_offset, partial(note, acknowledged, number))
        if number % 10 == 9:
            harness.store.flush()
            harness.wait(partial(is_flushed, harness, 1000 * number))
            harness.clock.advance(20_000)
            harness.store.flush()
            harness.pump()
            harness.store.build_index()
        if harness.fatal:
            break
    harness.pump()
    return len(acknowledged)


@pytest.mark.parametrize("operation", ["sync", "sync_file", "map", "allocate", "replace"])
def test_after_any_single_failure_everything_acknowledged_is_there(tmp_path, operation):
    for number in count(1):
        root = tmp_path / f"{operation}{number}"
        files = FaultyFiles(root)
        harness = Harness(root, sync=True, files=files, commit_log_segment_size=16384)
        files.fail(operation, number)
        acknowledged = 0
        try:
            harness.open()
            acknowledged = scenario(harness)
            harness.close() if not harness.fatal else harness.abandon()
        except StoreError:
            # The open or close that met the fault says so.
            harness.abandon()
            assert files.tripped
        tripped = bool(files.tripped)
        files.crash_copy(tmp_path / "copy" / str(number))
        copy = Harness(tmp_path / "copy" / str(number), sync=True, commit_log_segment_size=16384)
        copy.open()
        assert copy.numbers()[:acknowledged] == list(range(acknowledged))
        copy.close()
        if not tripped:
            assert acknowledged == 60
            break
        assert number < 200


def test_full_disk_refuses_and_recovers_when_space_returns(tmp_path):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    harness.put_ok(0)
    files.full_after = "commitlog"
    statuses = set()
    stored = 1
    for number in range(1, 400):
        result = harness.put(number, size=1000)
        statuses.add(result.status)
        if result.status is not PutStatus.PUT_OK:
            assert "disk is full" in result.reason
            break
        stored += 1
    assert statuses == {PutStatus.PUT_OK, PutStatus.CREATE_MAPPED_FILE_FAILED}
    assert harness.put_batch(range(1000, 1060), size=900).status is PutStatus.CREATE_MAPPED_FILE_FAILED
    assert harness.numbers() == list(range(stored))
    files.full_after = None

    def is_taken() -> bool:
        harness.clock.advance(1000)
        return harness.put(stored, size=1000).status is PutStatus.PUT_OK

    harness.wait(is_taken)
    assert harness.numbers() == list(range(stored + 1))
    assert not harness.fatal
    harness.close()
    assert harness.open().truncated_bytes == 0
    assert harness.numbers() == list(range(stored + 1))
    harness.close()


def test_full_disk_for_a_queue_refuses_before_the_log_is_touched(tmp_path):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    harness.put_ok(0)
    files.full_after = "consumequeue"
    written = harness.store.positions.written
    assert harness.put(1, topic="New").status is PutStatus.CREATE_MAPPED_FILE_FAILED
    assert harness.store.positions.written == written
    files.full_after = None
    assert harness.put_ok(1, topic="New").queue_offset == 0
    assert harness.numbers("New") == [1]
    harness.close()


def test_full_disk_for_the_index_refuses_in_time_and_loses_no_entry(tmp_path, monkeypatch):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    harness.store._dispatcher.index_pending_max = 50
    files.full_after = "store/index"
    for number in range(1000):
        if harness.put(number).status is not PutStatus.PUT_OK:
            break
    assert number <= 60
    assert "the index cannot grow" in harness.put(number).reason
    files.full_after = None
    assert harness.store.build_index() < 50
    assert harness.put(number).status is PutStatus.PUT_OK
    assert all(harness.find(n) == [n] for n in range(number + 1))
    harness.close()


def test_disk_error_other_than_full_is_fatal(tmp_path):
    files = FaultyFiles(tmp_path / "store")
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    files.fail("map", 1, errno.EIO)
    harness.put(1, topic="New")
    harness.wait(lambda: bool(harness.fatal))
    harness.abandon()
