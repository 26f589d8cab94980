"""When a send may be answered: exactly when enough replicas have its bytes, or its time is up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.ha import acknowledgements
from rocketmq_broker.ha.acknowledgements import Acknowledgements
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_store.statuses import PutStatus

OK, LATE = PutStatus.PUT_OK, PutStatus.FLUSH_SLAVE_TIMEOUT


class Waiter:
    """Collects what waits were answered."""

    def __init__(self, **settings: object) -> None:
        self.settings = ReplicationSettings(**settings)  # type: ignore[arg-type]
        self.acks = Acknowledgements(self.settings, waits_for_slaves=True, start_offset=0)
        self.written = 0
        self.answers: dict[int, PutStatus] = {}

    def send(self, end: int, now: float = 0.0) -> None:
        self.written = end
        self.acks.when_replicated(end, now, lambda status: self.answers.__setitem__(end, status))

    def ack(self, slave: str, offset: int, connection: str = "") -> None:
        self.acks.acknowledged(slave, connection or slave, offset)
        self.acks.settle(self.written)
        self.acks.answer()


def test_an_asynchronous_master_waits_for_nobody() -> None:
    acks = Acknowledgements(ReplicationSettings(in_sync_replicas=3), waits_for_slaves=False, start_offset=0)
    answers: list[PutStatus] = []
    acks.when_replicated(100, 0.0, answers.append)
    assert answers == [OK]
    assert not acks.is_synchronous
    assert acks.refusal(100) is None


def test_a_synchronous_master_with_apaches_default_waits_for_nobody() -> None:
    waiter = Waiter()
    waiter.send(100)
    assert waiter.answers == {100: OK}
    assert not waiter.acks.is_synchronous


def test_a_send_waits_for_exactly_its_bytes() -> None:
    waiter = Waiter(in_sync_replicas=2)
    for end in (100, 200, 300):
        waiter.send(end)
    waiter.ack("a", 99)
    assert waiter.answers == {}
    waiter.ack("a", 100)
    assert waiter.answers == {100: OK}
    waiter.ack("a", 299)
    assert waiter.answers == {100: OK, 200: OK}
    waiter.ack("a", 300)
    assert waiter.answers == {100: OK, 200: OK, 300: OK}


def test_a_send_waits_for_as_many_slaves_as_are_asked_for() -> None:
    waiter = Waiter(in_sync_replicas=3)
    waiter.send(100)
    waiter.ack("a", 100)
    assert waiter.answers == {}
    waiter.ack("b", 90)
    assert waiter.acks.replicated == 90
    waiter.ack("b", 100)
    assert waiter.answers == {100: OK}


def test_two_connections_of_one_slave_count_once() -> None:
    waiter = Waiter(in_sync_replicas=3)
    waiter.send(100)
    waiter.ack("a", 100, "old")
    waiter.ack("a", 100, "new")
    assert waiter.answers == {}
    assert waiter.acks.replica_count == 1
    waiter.acks.forget("a", "old")
    waiter.ack("b", 100)
    assert waiter.answers == {100: OK}


def test_bytes_acknowledged_once_stay_replicated_when_the_slave_leaves() -> None:
    waiter = Waiter(in_sync_replicas=2)
    waiter.send(100)
    waiter.ack("a", 100)
    waiter.acks.forget("a", "a")
    waiter.acks.settle(waiter.written)
    assert waiter.acks.replicated == 100
    waiter.send(200)
    assert 200 not in waiter.answers


def test_a_send_that_waited_too_long_is_answered_and_stays_stored() -> None:
    waiter = Waiter(in_sync_replicas=2, slave_timeout=3000)
    waiter.send(100, now=0.0)
    waiter.send(200, now=1.0)
    assert waiter.acks.expire(2.9) == 3.0
    assert waiter.answers == {}
    assert waiter.acks.expire(3.0) == 4.0
    assert waiter.answers == {100: LATE}
    waiter.ack("a", 200)
    assert waiter.answers == {100: LATE, 200: OK}
    assert waiter.acks.expire(9.0) is None
    assert waiter.acks.timeout_count == 1


def test_too_many_waits_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "WAITING_COUNT_MAX", 2)
    waiter = Waiter(in_sync_replicas=2)
    for end in (1, 2, 3):
        waiter.send(end)
    assert waiter.answers == {3: LATE}


def test_a_stopping_master_answers_everybody() -> None:
    waiter = Waiter(in_sync_replicas=2)
    waiter.send(1)
    waiter.acks.fail_all()
    assert waiter.answers == {1: LATE}
    assert waiter.acks.waiting_count == 0


def test_too_few_replicas_in_sync_refuse_before_writing() -> None:
    waiter = Waiter(in_sync_replicas=2, min_in_sync_replicas=2, ha_max_gap_not_in_sync=1000)
    assert waiter.acks.refusal(0) == "in sync are 1 replicas, minInSyncReplicas is 2"
    waiter.ack("a", 0)
    assert waiter.acks.refusal(999) is None
    assert waiter.acks.refusal(1000) is not None
    waiter.ack("a", 500)
    assert waiter.acks.refusal(1499) is None


def test_the_need_follows_the_replicas_in_sync_when_that_is_allowed() -> None:
    waiter = Waiter(
        in_sync_replicas=3, min_in_sync_replicas=1, enable_auto_in_sync_replicas=True, ha_max_gap_not_in_sync=50
    )
    assert waiter.acks.needed_count(0) == 1
    waiter.ack("a", 0)
    assert waiter.acks.needed_count(0) == 2
    waiter.ack("b", 0)
    assert waiter.acks.needed_count(0) == 3
    # Both fell behind: nothing is waited for any more.
    assert waiter.acks.needed_count(50) == 1
    waiter.written = 50
    waiter.acks.settle(50)
    assert waiter.acks.replicated == 50


@given(
    needed=st.integers(2, 4),
    events=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 60), st.booleans()), max_size=60),
)
def test_no_send_succeeds_without_its_replicas(needed: int, events: list[tuple[str, int, bool]]) -> None:
    waiter = Waiter(in_sync_replicas=needed)
    best: dict[str, int] = dict.fromkeys("abcd", -1)
    end = 0
    for slave, step, is_send in events:
        if is_send:
            end += step + 1
            waiter.send(end)
        elif end:
            best[slave] = max(best[slave], min(end, best[slave] + step))
            waiter.ack(slave, best[slave])
        for offset in range(1, end + 1):
            if offset in waiter.answers:
                assert waiter.answers[offset] is OK
                assert sum(have >= offset for have in best.values()) + 1 >= needed
        reachable = sorted(best.values(), reverse=True)[needed - 2]
        assert waiter.acks.replicated == max(0, reachable)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"in_sync_replicas": 0}, "inSyncReplicas"),
        ({"min_in_sync_replicas": 2}, "minInSyncReplicas"),
        ({"slave_timeout": 0}, "slaveTimeout"),
        ({"ha_transfer_batch_size": 5 << 20}, "haTransferBatchSize"),
        ({"ha_housekeeping_interval": 5000}, "haHousekeepingInterval"),
    ],
)
def test_settings_out_of_range_are_named(values: dict[str, int], key: str) -> None:
    from rocketmq_common.settings import SettingsError

    with pytest.raises(SettingsError, match=f"{key}="):
        ReplicationSettings(**values).check("broker.conf")  # type: ignore[arg-type]


def test_default_settings_are_in_range() -> None:
    ReplicationSettings().check("broker.conf")
