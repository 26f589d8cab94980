"""SQL92 over a real connection: pulls, long polls, checks of a starting consumer, retry topics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.filters import subscriptions
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.sysflags import PULL_SUBSCRIPTION, PULL_SUSPEND
from rocketmq_remoting.bodies import CheckClientRequestBody, ConsumerData, HeartbeatData, SubscriptionData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command

EU = "region = 'eu' AND amount > 100"


async def send_amounts(peer: Peer, *amounts: int, topic: str = "T", **properties: str) -> None:
    for amount in amounts:
        fields = {"region": "eu", "amount": str(amount), **properties}
        assert (await peer.send(topic, body=b"%d" % amount, properties=fields)).code == 0


async def pull_sql(peer: Peer, expression: str = EU, offset: int = 0, **fields: Any) -> Command:
    return await peer.pull(offset=offset, subscription=expression, expression_type="SQL92", **fields)


async def subscribe(peer: Peer, expression: str, version: int = 1, topic: str = "T", group: str = "cg") -> None:
    wanted = [
        SubscriptionData(topic=topic, sub_string=expression, expression_type="SQL92", sub_version=version),
        SubscriptionData(topic=f"%RETRY%{group}", sub_version=1),
    ]
    data = HeartbeatData(
        client_id="c", consumer_data_set=[ConsumerData(group_name=group, subscription_data_set=wanted)]
    )
    assert (await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))).code == 0


async def check(peer: Peer, expression: str, expression_type: str | None) -> Command:
    subscription = SubscriptionData(topic="T", sub_string=expression, expression_type=expression_type)
    body = CheckClientRequestBody(client_id="c", group="cg", subscription_data=subscription)
    return await peer.ask(RequestCode.CHECK_CLIENT_CONFIG, None, msgspec.json.encode(body))


def bodies(answer: Command) -> list[bytes]:
    return [message.body for message in messages_of(answer)]


async def test_sql_is_refused_unless_the_broker_enables_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await send_amounts(peer, 1)
        remark = "The broker does not support consumer to filter message by SQL92"
        for answer in (await pull_sql(peer), await check(peer, EU, "SQL92")):
            assert (answer.code, answer.remark) == (ResponseCode.SYSTEM_ERROR, remark)
        assert (await check(peer, "*", "TAG")).code == 0


async def test_a_starting_consumer_learns_whether_its_expression_is_understood(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        assert (await check(peer, EU, "SQL92")).code == 0
        assert (await check(peer, "TagA", None)).code == 0
        answer = await check(peer, "region > 'eu'", "SQL92")
        assert answer.code == ResponseCode.SUBSCRIPTION_PARSE_FAILED
        assert "position 10: > compares properties and numbers, here stands a text" in (answer.remark or "")
        answer = await check(peer, "x", "GROOVY")
        assert answer.code == ResponseCode.SUBSCRIPTION_PARSE_FAILED
        assert "'GROOVY' is unknown" in (answer.remark or "")


async def test_a_pull_with_its_own_expression_gets_what_matches_and_moves_over_the_rest(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 50, 150, 100, 200)
        await send_amounts(peer, 300, region="us")
        answer = await pull_sql(peer)
        assert bodies(answer) == [b"150", b"200"]
        assert answer.ext_fields()["nextBeginOffset"] == "5"
        answer = await pull_sql(peer, "region = 'asia'")
        assert answer.code == ResponseCode.PULL_RETRY_IMMEDIATELY
        assert answer.ext_fields()["nextBeginOffset"] == "5"


async def test_the_subscription_of_the_heartbeat_filters_until_a_newer_one_comes(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 50, 150)
        await subscribe(peer, EU)
        for _ in range(2):
            assert bodies(await peer.pull(sys_flag=0, subscription=None)) == [b"150"]
        await subscribe(peer, "amount = 50", version=2)
        assert bodies(await peer.pull(sys_flag=0, subscription=None)) == [b"50"]


async def test_an_expression_that_cannot_be_read_is_answered_with_its_place(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 1)
        await subscribe(peer, "amount >")
        answers = [await pull_sql(peer, "amount >"), await peer.pull(sys_flag=0, subscription=None)]
        for answer in answers:
            assert answer.code == ResponseCode.SUBSCRIPTION_PARSE_FAILED
            assert "position 9: expected a property, a literal or (, found the end" in (answer.remark or "")


async def test_a_waiting_pull_is_answered_by_a_message_that_matches_only(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 1)
        held = asyncio.create_task(
            pull_sql(peer, offset=1, sys_flag=PULL_SUBSCRIPTION | PULL_SUSPEND, suspend_timeout_millis=60_000)
        )
        while not peer.broker.pulling.held.count:
            await asyncio.sleep(0)
        await send_amounts(peer, 2, 3)
        # The sends were answered after the append woke the pull, so it was looked at and still waits.
        assert peer.broker.pulling.held.count == 1
        assert not held.done()
        await send_amounts(peer, 101)
        answer = await held
        assert bodies(answer) == [b"101"]
        assert answer.ext_fields()["nextBeginOffset"] == "4"


async def test_a_waiting_pull_that_times_out_moves_over_what_did_not_match(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 1)
        held = asyncio.create_task(
            pull_sql(peer, offset=1, sys_flag=PULL_SUBSCRIPTION | PULL_SUSPEND, suspend_timeout_millis=60_000)
        )
        while not peer.broker.pulling.held.count:
            await asyncio.sleep(0)
        await send_amounts(peer, 2, 3)
        peer.broker.pulling.held.release_all()
        answer = await held
        assert answer.code == ResponseCode.PULL_RETRY_IMMEDIATELY
        assert answer.ext_fields()["nextBeginOffset"] == "3"


async def test_a_scan_ends_when_its_time_is_over_and_the_next_pull_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "SCAN_TIME_MAX_MS", -1)
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 1, 2, 101)
        offsets = []
        offset = 0
        found: list[bytes] = []
        while not found:
            answer = await pull_sql(peer, offset=offset)
            offset = int(answer.ext_fields()["nextBeginOffset"])
            offsets.append(offset)
            found = bodies(answer)
        assert found == [b"101"]
        assert offsets == [1, 2, 3]


async def test_a_waiting_pull_whose_scan_ends_early_is_answered_rather_than_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "SCAN_TIME_MAX_MS", -1)
    async with serving(tmp_path, enablePropertyFilter=True) as peer:
        await send_amounts(peer, 1)
        held = asyncio.create_task(
            pull_sql(peer, offset=1, sys_flag=PULL_SUBSCRIPTION | PULL_SUSPEND, suspend_timeout_millis=60_000)
        )
        while not peer.broker.pulling.held.count:
            await asyncio.sleep(0)
        # All of a batch becomes visible before the pull is looked at.
        entries = [BatchEntry(0, b"%d" % n, b"region\x01eu\x02amount\x01%d" % n) for n in (2, 101)]
        sent = await peer.send(body=encode_batch(entries), code=RequestCode.SEND_BATCH_MESSAGE, batch=True)
        assert sent.code == 0
        answer = await held
        assert answer.code == ResponseCode.PULL_RETRY_IMMEDIATELY
        assert answer.ext_fields()["nextBeginOffset"] == "2"
        assert bodies(await pull_sql(peer, offset=2)) == [b"101"]


@pytest.mark.parametrize(("is_supported", "expected"), [("true", [b"101"]), ("false", [b"1", b"101"])])
async def test_retry_topics_use_the_filter_of_the_origin_when_asked_to(
    tmp_path: Path, is_supported: str, expected: list[bytes]
) -> None:
    async with serving(tmp_path, enablePropertyFilter=True, filterSupportRetry=is_supported) as peer:
        await subscribe(peer, EU)
        await send_amounts(peer, 1, 101, topic="%RETRY%cg", RETRY_TOPIC="T")
        answer = await peer.pull("%RETRY%cg", sys_flag=0, subscription=None, sub_version=1)
        assert bodies(answer) == expected


async def test_retried_messages_of_topics_without_an_sql_filter_are_all_wanted(tmp_path: Path) -> None:
    async with serving(tmp_path, enablePropertyFilter=True, filterSupportRetry="true") as peer:
        await subscribe(peer, EU)
        await send_amounts(peer, 1, topic="%RETRY%cg", RETRY_TOPIC="Other")
        await send_amounts(peer, 2, topic="%RETRY%cg")
        answer = await peer.pull("%RETRY%cg", sys_flag=0, subscription=None, sub_version=1)
        assert bodies(answer) == [b"1", b"2"]
