"""What an elected master answers: when every member of the in-sync set has a message, and while it may write."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from rocketmq_broker.failover.succession import SuccessionStatus
from rocketmq_broker.ha.acknowledgements import Acknowledgements
from rocketmq_broker.ha.metrics import election_families, replication_families
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.tests.nodes import Nodes, until
from rocketmq_broker.ha.tests.stores import put
from rocketmq_common.exposition import COUNTER, GAUGE, Family
from rocketmq_store.statuses import PutStatus

OK, REFUSED = PutStatus.PUT_OK, PutStatus.SERVICE_NOT_AVAILABLE


class ReignOfTest:
    """Three members; the right to write is the test's to give."""

    member = "m"
    members = frozenset(("m", "s1", "s2"))
    is_right = True

    def may_write(self) -> bool:
        return self.is_right


class Sends:
    """Sends that wait, and what they were answered."""

    def __init__(self, *, waits_for_slaves: bool = True) -> None:
        self.reign = ReignOfTest()
        self.acknowledgements = Acknowledgements(
            ReplicationSettings(), waits_for_slaves=waits_for_slaves, start_offset=100, reign=self.reign
        )
        self.answers: dict[int, PutStatus] = {}

    def send(self, end: int) -> None:
        self.acknowledgements.when_replicated(end, 0.0, lambda status: self.answers.__setitem__(end, status))

    def report(self, name: str, offset: int, written: int = 1000) -> None:
        self.acknowledgements.acknowledged(name, name, offset)
        if self.acknowledgements.settle(written):
            self.acknowledgements.answer()


def test_every_member_is_waited_for_by_name_and_others_count_for_nothing() -> None:
    sends = Sends()
    assert sends.acknowledgements.is_synchronous, "whatever inSyncReplicas says"
    assert sends.acknowledgements.needed_count(1000) == 3
    sends.send(200)
    sends.report("s1", 300)
    sends.report("stranger", 300)
    assert sends.answers == {}, "a member that is not there is waited for"
    assert sends.acknowledgements.in_sync_count(1000) == 2
    sends.report("s2", 150)
    assert sends.answers == {}
    sends.report("s2", 200)
    assert sends.answers == {200: OK}
    # What both have, and not what one of them has.
    assert sends.acknowledgements.replicated == 200
    sends.report("s2", 400)
    assert sends.acknowledgements.replicated == 300
    # What everybody has is answered at once; and never taken back.
    sends.answers.clear()
    sends.send(300)
    assert sends.answers == {300: OK}
    sends.acknowledgements.forget("s2", "s2")
    sends.report("s2", 120)
    assert sends.acknowledgements.replicated == 300


def test_a_master_whose_right_ended_meanwhile_answers_no_success() -> None:
    sends = Sends()
    sends.send(200)
    sends.reign.is_right = False
    sends.report("s1", 200)
    sends.report("s2", 200)
    assert sends.answers == {200: REFUSED}
    sends.send(150)
    assert sends.answers[150] is REFUSED
    free = Sends(waits_for_slaves=False)
    free.reign.is_right = False
    free.send(200)
    assert free.answers == {200: REFUSED}, "nor does one that waits for nobody"


@pytest.mark.parametrize("is_sync_flush", [False, True])
async def test_the_right_to_write_is_asked_for_even_where_nothing_else_is_waited_for(
    nodes: Nodes, is_sync_flush: bool
) -> None:
    class Asked:
        is_awaited, is_synchronous, ends = True, False, [0]

        def when_replicated(self, end_offset: int, callback: object) -> None:
            assert callable(callback)
            self.ends.append(end_offset)
            callback(REFUSED)

    store, asked = nodes.store("m", is_sync=is_sync_flush), Asked()
    promise = SendPromise(store)
    assert promise.is_deferred == is_sync_flush
    promise.follow(asked)
    assert promise.is_deferred
    answered: list[PutStatus] = []
    put(store, 1)
    end = store.positions.written
    promise.when_kept(end, answered.append)
    await until(lambda: answered == [REFUSED])
    assert asked.ends[-1] == end
    if is_sync_flush:
        # First the flush, then the right: it is the last thing that is looked at.
        assert store.positions.flushed >= end


def texts(families: Iterable[Family]) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in families:
        for line in family.encode().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name.split("{")[0]] = float(value)
    return found


def gauge(name: str, text: str, *labels: str) -> Family:
    return Family(GAUGE, name, text, {}, labels)


def counter(name: str, text: str, *labels: str) -> Family:
    return Family(COUNTER, f"{name}_total", text, {}, labels)


async def test_metrics_tell_how_far_and_how_long_a_slave_is_behind(nodes: Nodes) -> None:
    store = nodes.store("m")
    put(store, 1)
    master = await nodes.master(store)
    peer = await nodes.peer(master, store.positions.written)
    await until(lambda: len(master.status().slaves) == 1)
    told = texts(replication_families(master.status(), gauge, counter))
    assert (told["rocketmq_replication_lag_bytes"], told["rocketmq_replication_lag_milliseconds"]) == (0, 0)
    result = put(store, 2)

    def lags() -> bool:
        told.update(texts(replication_families(master.status(), gauge, counter)))
        return told["rocketmq_replication_lag_milliseconds"] > 50

    await until(lags)
    assert told["rocketmq_replication_lag_bytes"] == store.positions.written - result.physical_offset
    await peer.receive_to(store.positions.written)
    peer.report(store.positions.written)
    await until(lambda: master.status().slaves[0].lag_ms == 0)
    assert told["rocketmq_replication_unauthenticated_total"] == 0


def test_metrics_of_elections_tell_everything_that_a_replica_knows() -> None:
    status = SuccessionStatus(
        member="a", is_master=True, epoch=7, in_sync=("a", "b"), holder="a", may_write=True, is_suspect=False,
        lease_age_s=1.5, election_count=2, failure_count=3, fenced_count=4,
    )  # fmt: skip
    assert texts(election_families(status, gauge, counter)) == {
        "rocketmq_failover_epoch": 7,
        "rocketmq_failover_is_master": 1,
        "rocketmq_failover_may_write": 1,
        "rocketmq_failover_members": 2,
        "rocketmq_failover_is_suspect": 0,
        "rocketmq_failover_lease_reachable": 1,
        "rocketmq_failover_lease_age_seconds": 1.5,
        "rocketmq_failover_elections_total": 2,
        "rocketmq_failover_lease_failures_total": 3,
        "rocketmq_failover_fenced_total": 4,
    }
    away = msgspec.structs.replace(status, problem="no answer", may_write=False)
    assert texts(election_families(away, gauge, counter))["rocketmq_failover_lease_reachable"] == 0
    assert texts(election_families(None, gauge, counter)) == {}
