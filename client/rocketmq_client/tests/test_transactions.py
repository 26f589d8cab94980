"""Transactional sending, against a broker with behaviour."""

from __future__ import annotations

import asyncio

import pytest

from rocketmq_client import (
    InvalidArgument,
    Message,
    MessageView,
    RequestRefused,
    SendStatus,
    TransactionProducer,
    TransactionState,
    transactions,
)
from rocketmq_client.tests.conftest import until
from rocketmq_common.properties import parse_properties
from rocketmq_remoting.codes import RequestCode
from rocketmq_testkit.fake_cluster import FakeCluster

COMMIT, ROLLBACK, UNKNOWN = TransactionState.COMMIT, TransactionState.ROLLBACK, TransactionState.UNKNOWN


def producer_of(cluster: FakeCluster, answers: list[TransactionState | Exception] | None = None) -> TransactionProducer:
    """A producer whose checks are answered from the list, then with UNKNOWN."""

    async def check(message: MessageView) -> TransactionState:
        answer = answers.pop(0) if answers else UNKNOWN
        if isinstance(answer, Exception):
            raise answer
        return answer

    return TransactionProducer(cluster.name_server, group="tx", check=check)


async def test_the_local_transaction_runs_on_a_stored_half_message_and_its_commit_makes_it_visible(cluster):
    seen: list[tuple[int, int]] = []

    def execute(message: Message) -> TransactionState:
        seen.append((len(cluster.broker.transactions.halves), len(cluster.messages("orders"))))
        return COMMIT

    async with producer_of(cluster) as producer:
        sent = await producer.send_in_transaction("orders", b"hi", tag="t", keys="k", execute=execute)
        await until(lambda: cluster.messages("orders") == [b"hi"], "commit")
    assert seen == [(1, 0)]
    (stored,) = cluster.broker.messages("orders")
    found = parse_properties(stored.properties)
    assert (found["TRAN_MSG"], found["PGROUP"], found["UNIQ_KEY"]) == ("true", "tx", sent.message_id)
    assert sent.state is COMMIT
    assert sent.receipt.transaction_id == sent.message_id


async def test_a_rollback_leaves_nothing(cluster):
    async def execute(message: Message) -> TransactionState:
        return ROLLBACK

    async with producer_of(cluster) as producer:
        await producer.send_in_transaction("orders", b"hi", execute=execute)
        await until(lambda: cluster.broker.transactions.ends, "end")
    assert cluster.broker.transactions.halves == {}
    assert cluster.messages("orders") == []


@pytest.mark.parametrize("answer", [COMMIT, ROLLBACK])
async def test_an_unknown_outcome_is_decided_by_the_check(cluster, answer):
    async with producer_of(cluster, [answer]) as producer:
        await producer.send_in_transaction("orders", b"hi", execute=lambda message: UNKNOWN)
        await until(lambda: cluster.broker.producers["tx"], "heartbeat")
        (place,) = cluster.broker.transactions.halves
        cluster.broker.transactions.ask(place)
        await until(lambda: not cluster.broker.transactions.halves, "answer")
    assert cluster.messages("orders") == ([b"hi"] if answer is COMMIT else [])
    assert cluster.broker.transactions.ends[-1].from_transaction_check


async def test_an_exception_in_the_local_transaction_is_raised_and_leaves_the_outcome_open(cluster):
    def execute(message: Message) -> TransactionState:
        raise KeyError("database")

    async with producer_of(cluster) as producer:
        with pytest.raises(KeyError, match="database"):
            await producer.send_in_transaction("orders", b"hi", execute=execute)
        await until(lambda: cluster.broker.transactions.ends, "end")
    assert cluster.broker.transactions.ends[0].commit_or_rollback == 0
    assert len(cluster.broker.transactions.halves) == 1


async def test_a_check_that_raises_means_unknown_and_may_be_repeated(cluster):
    async with producer_of(cluster, [RuntimeError("no database"), COMMIT]) as producer:
        await producer.send_in_transaction("orders", b"hi", execute=lambda message: UNKNOWN)
        await until(lambda: cluster.broker.producers["tx"], "heartbeat")
        (place,) = cluster.broker.transactions.halves
        cluster.broker.transactions.ask(place)
        await until(lambda: len(cluster.broker.transactions.ends) == 2, "first answer")
        cluster.broker.transactions.ask(place)
        await until(lambda: cluster.messages("orders") == [b"hi"], "commit")
    assert [end.commit_or_rollback for end in cluster.broker.transactions.ends] == [0, 0, 8]


async def test_a_half_message_stored_less_safely_than_asked_is_rolled_back_unexecuted(cluster, monkeypatch):
    executed: list[Message] = []

    def execute(message: Message) -> TransactionState:
        executed.append(message)
        return COMMIT

    real_deliver = TransactionProducer._deliver

    async def deliver(*args, **kwargs):
        receipt = await real_deliver(*args, **kwargs)
        object.__setattr__(receipt, "status", SendStatus.FLUSH_DISK_TIMEOUT)
        return receipt

    monkeypatch.setattr(TransactionProducer, "_deliver", deliver)
    async with producer_of(cluster) as producer:
        sent = await producer.send_in_transaction("orders", b"hi", execute=execute)
        await until(lambda: cluster.broker.transactions.ends, "end")
    assert sent.state is ROLLBACK
    assert executed == []
    assert cluster.broker.transactions.halves == {}


async def test_a_refused_half_message_executes_nothing(cluster):
    executed: list[Message] = []

    def execute(message: Message) -> TransactionState:
        executed.append(message)
        return COMMIT

    cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, 13, times=9)
    async with producer_of(cluster) as producer:
        with pytest.raises(RequestRefused):
            await producer.send_in_transaction("orders", b"hi", execute=execute)
    assert executed == []


async def test_delays_and_outcomes_that_are_none_are_refused(cluster):
    async with producer_of(cluster) as producer:
        with pytest.raises(InvalidArgument, match="delayed"):
            await producer.send_in_transaction(
                Message(topic="orders", body=b"", delay_level=1), execute=lambda message: COMMIT
            )
        with pytest.raises(InvalidArgument, match="TransactionState"):
            await producer.send_in_transaction("orders", b"hi", execute=lambda message: True)  # type: ignore[arg-type, return-value]


async def test_checks_beyond_the_bound_are_dropped_for_the_broker_will_ask_again(cluster, monkeypatch):
    monkeypatch.setattr(transactions, "CHECKS_MAX", 1)
    started, release = asyncio.Event(), asyncio.Event()

    async def check(message: MessageView) -> TransactionState:
        started.set()
        await release.wait()
        return COMMIT

    async with TransactionProducer(cluster.name_server, group="tx", check=check) as producer:
        for _ in range(2):
            await producer.send_in_transaction("orders", b"hi", execute=lambda message: UNKNOWN)
        await until(lambda: cluster.broker.producers["tx"], "heartbeat")
        for place in list(cluster.broker.transactions.halves):
            cluster.broker.transactions.ask(place)
        await started.wait()
        release.set()
        await until(lambda: cluster.messages("orders"), "first answer")
        (left,) = cluster.broker.transactions.halves
        cluster.broker.transactions.ask(left)
        await until(lambda: len(cluster.messages("orders")) == 2, "second answer")
