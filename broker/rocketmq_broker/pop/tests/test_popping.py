"""Pop, acknowledge, give again: through the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from rocketmq_broker.pop.tests.popping import ack, change, changed, pop, popped
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.pop import NotificationRequestHeader, PeekMessageRequestHeader, PollingInfoRequestHeader
from rocketmq_remoting.pop_handles import encode_bits

WAIT_S = 30.0


def committed(peer: Peer, topic: str = "T", queue_id: int = 0, group: str = "cg") -> int:
    return peer.broker.offsets.query(group, topic, queue_id)


async def fill(peer: Peer, count: int, queue_id: int = 0, topic: str = "T") -> None:
    for number in range(count):
        await peer.send(topic, b"%d" % number, queue_id=queue_id)


async def test_popped_messages_are_invisible_until_acknowledged_and_the_offset_follows_the_acknowledged_prefix(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 5)
        first = popped(await pop(peer, max_msg_nums=3))
        assert [message.body for message, _ in first] == [b"0", b"1", b"2"]
        second = popped(await pop(peer))
        assert [message.body for message, _ in second] == [b"3", b"4"]
        assert (await pop(peer)).code == ResponseCode.POLLING_TIMEOUT
        for _, handle in (first[1], second[0]):
            assert (await ack(peer, handle)).code == 0
        assert committed(peer) == 0
        assert (await ack(peer, first[0][1])).code == 0
        assert committed(peer) == 2
        for _, handle in (first[2], second[1]):
            await ack(peer, handle)
        assert committed(peer) == 5


async def test_a_message_that_is_not_acknowledged_comes_again_with_one_more_attempt(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 2)
        first = popped(await pop(peer, invisible_time=300))
        await ack(peer, first[0][1])
        again = popped(await pop(peer, poll_time=20_000))
        ((message, handle),) = again
        assert (message.body, message.topic, message.reconsume_times) == (b"1", "T", 1)
        assert handle.retry == "1"
        assert (await ack(peer, handle)).code == 0
        assert committed(peer, "%RETRY%cg_T") == 1
        # The handle of the first time is of no use any more, and does no harm.
        assert (await ack(peer, first[1][1])).code == 0
        assert (await pop(peer)).code == ResponseCode.POLLING_TIMEOUT
        async with asyncio.timeout(WAIT_S):
            while committed(peer) != 2:
                await asyncio.sleep(0.02)


async def test_messages_fail_as_often_as_they_like(tmp_path: Path) -> None:
    async with serving(tmp_path, enableRetryTopicV2="true") as peer:
        await fill(peer, 1)
        for times in range(4):
            ((message, handle),) = popped(await pop(peer, invisible_time=100, poll_time=20_000))
            assert message.reconsume_times == times
            assert handle.retry == ("2" if times else "0")


async def test_changing_the_invisible_time_prolongs_it_and_gives_a_new_handle(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 1)
        ((_, handle),) = popped(await pop(peer, invisible_time=400))
        longer = changed(handle, await change(peer, handle, 60_000))
        assert longer.due_ms > handle.due_ms
        assert (await pop(peer, poll_time=1200)).code == ResponseCode.POLLING_TIMEOUT
        assert (await change(peer, handle, 60_000)).code == ResponseCode.NO_MESSAGE
        await ack(peer, handle)
        assert committed(peer) == 0
        await ack(peer, longer)
        assert committed(peer) == 1


async def test_a_message_given_back_at_once_is_there_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 1)
        ((_, handle),) = popped(await pop(peer))
        assert (await change(peer, handle, 0)).code == 0
        ((message, _),) = popped(await pop(peer, poll_time=20_000))
        assert message.reconsume_times == 1


async def test_a_waiting_pop_is_woken_by_the_append_in_any_queue(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 1)
        await pop(peer)
        waiting = asyncio.create_task(pop(peer, poll_time=20_000))
        info = PollingInfoRequestHeader(consumer_group="cg", topic="T", queue_id=-1)
        async with asyncio.timeout(WAIT_S):
            while (await peer.ask(RequestCode.POLLING_INFO, info)).ext_fields()["pollingNum"] != "1":
                await asyncio.sleep(0.01)
        # Somebody who pulls the same queue waits, too.
        pulling = asyncio.create_task(peer.pull(queue_id=3, offset=0, sys_flag=2 | 4, consumer_group="other"))
        await peer.send(body=b"new", queue_id=3)
        ((message, _),) = popped(await waiting)
        assert (message.body, message.queue_id) == (b"new", 3)
        assert (await pulling).code in (0, ResponseCode.PULL_OFFSET_MOVED)


async def test_one_message_goes_to_one_of_many_who_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 1)
        await pop(peer)
        waiting = [asyncio.create_task(pop(peer, poll_time=2500)) for _ in range(8)]
        async with asyncio.timeout(WAIT_S):
            while peer.broker.pop.held.count < 8:
                await asyncio.sleep(0.01)
        await peer.send(body=b"x")
        answers = await asyncio.gather(*waiting)
        assert sorted(answer.code for answer in answers) == [0] + 7 * [ResponseCode.POLLING_TIMEOUT]


async def test_what_a_filter_leaves_out_is_passed_over_for_good(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for number in range(6):
            await peer.send(body=b"%d" % number, properties={"TAGS": "odd" if number % 2 else "even"})
        found = popped(await pop(peer, exp="odd", exp_type="TAG"))
        assert [message.body for message, _ in found] == [b"1", b"3", b"5"]
        for _, handle in found:
            await ack(peer, handle)
        assert committed(peer) == 6


async def test_batch_acknowledgement_names_messages_by_bits(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 10)
        found = popped(await pop(peer))
        handle = found[0][1]
        fields = {
            "c": "cg", "t": "T", "so": handle.start_offset, "q": 0, "pt": handle.pop_time_ms, "it": handle.invisible_ms,
            "r": "0", "rq": handle.revive_queue_id, "b": encode_bits([0, 9]),
        }  # fmt: skip
        assert fields["b"] == "AQI="
        body = msgspec.json.encode({"brokerName": "broker-a", "acks": [fields]})
        assert (await peer.ask(RequestCode.BATCH_ACK_MESSAGE, None, body)).code == 0
        assert committed(peer) == 1
        fields["b"] = encode_bits(range(1, 9))
        long_names = {
            "consumerGroup": "cg", "topic": "T", "startOffset": fields["so"], "queueId": 0, "popTime": fields["pt"],
            "invisibleTime": 1, "retry": "0", "reviveQueueId": 0, "bitSet": fields["b"],
        }  # fmt: skip
        body = msgspec.json.encode({"brokerName": "broker-a", "acks": [long_names]})
        assert (await peer.ask(RequestCode.BATCH_ACK_MESSAGE, None, body)).code == 0
        assert committed(peer) == 10
        empty = msgspec.json.encode({"brokerName": "broker-a", "acks": []})
        assert (await peer.ask(RequestCode.BATCH_ACK_MESSAGE, None, empty)).code == ResponseCode.NO_MESSAGE


async def test_peek_takes_nothing_and_notification_says_whether_there_is_something(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 3)
        peek = PeekMessageRequestHeader(consumer_group="cg", topic="T", queue_id=-1, max_msg_nums=2)
        for _ in range(2):
            answer = await peer.ask(RequestCode.PEEK_MESSAGE, peek)
            assert answer.code == 0
            assert answer.ext_fields()["restNum"] == "1"
        asked = NotificationRequestHeader(consumer_group="cg", topic="T", queue_id=-1, poll_time=0)
        assert (await peer.ask(RequestCode.NOTIFICATION, asked)).ext_fields()["hasMsg"] == "true"
        await pop(peer)
        assert (await peer.ask(RequestCode.PEEK_MESSAGE, peek)).code == ResponseCode.PULL_NOT_FOUND
        assert (await peer.ask(RequestCode.NOTIFICATION, asked)).ext_fields()["hasMsg"] == "false"
        asked.poll_time = 20_000
        waiting = asyncio.create_task(peer.ask(RequestCode.NOTIFICATION, asked))
        async with asyncio.timeout(WAIT_S):
            while peer.broker.pop.held.count < 1:
                await asyncio.sleep(0.01)
        await peer.send()
        assert (await waiting).ext_fields() == {"hasMsg": "true", "pollingFull": "false"}


async def test_forged_and_foreign_handles_settle_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 2)
        found = popped(await pop(peer))
        handle = found[0][1]
        assert (await ack(peer, handle._replace(broker_name="broker-b"))).code == ResponseCode.INVALID_PARAMETER
        assert (await ack(peer, handle._replace(pop_time_ms=handle.pop_time_ms - 1))).code == 0
        assert (await ack(peer, handle, group="other")).code == 0
        assert (await ack(peer, handle._replace(offset=99))).code == ResponseCode.NO_MESSAGE
        assert (await ack(peer, handle._replace(queue_id=77))).code == ResponseCode.MESSAGE_ILLEGAL
        assert committed(peer) == 0
        assert peer.broker.pop.queues.in_flight_count == 2


async def test_nobody_but_the_broker_writes_into_the_journal(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.send(
            "rmq_sys_REVIVE_LOG_DefaultCluster", b'["s","cg","T",0,[0]]', properties={"TAGS": "pop"}
        )
        assert answer.code == ResponseCode.NO_PERMISSION


async def test_limits_are_refused_in_words_of_the_protocol(tmp_path: Path) -> None:
    async with serving(tmp_path, popPollingSize=1, popInflightMessageThreshold=32) as peer:
        await fill(peer, 40)
        assert (await pop(peer, max_msg_nums=33)).code == ResponseCode.INVALID_PARAMETER
        assert (await pop(peer, topic="unknown")).code == ResponseCode.TOPIC_NOT_EXIST
        assert (await pop(peer, born_time=1, poll_time=1)).code == ResponseCode.POLLING_TIMEOUT
        found = popped(await pop(peer))
        assert len(found) == 32
        # The queue has as many in flight as it may.
        waiting = asyncio.create_task(pop(peer, poll_time=20_000))
        async with asyncio.timeout(WAIT_S):
            while peer.broker.pop.held.count < 1:
                await asyncio.sleep(0.01)
        assert (await pop(peer, poll_time=20_000)).code == ResponseCode.POLLING_FULL
        await ack(peer, found[0][1])
        assert len(popped(await waiting)) == 1


async def test_a_group_goes_on_where_it_pulled_and_the_other_way_round(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 6)
        peer.broker.offsets.commit("cg", "T", 0, 2)
        found = popped(await pop(peer, max_msg_nums=2))
        assert [message.body for message, _ in found] == [b"2", b"3"]
        await ack(peer, found[0][1])
        assert committed(peer) == 3
        # A consumer of the group that pulls has got up to here.
        peer.broker.offsets.commit("cg", "T", 0, 5)
        found = popped(await pop(peer))
        assert [message.body for message, _ in found] == [b"5"]


async def test_a_new_group_begins_where_it_says_unless_the_topic_is_young(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 3)
        assert len(popped(await pop(peer, group="young", init_mode=1))) == 3
        assert len(popped(await pop(peer, group="first", init_mode=0))) == 3


async def test_what_is_in_flight_is_seen_by_metrics(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 3)
        found = popped(await pop(peer))
        await ack(peer, found[0][1])
        families = peer.broker.observation.metrics.collect()
        page = b"".join(family.encode() for family in families if family is not None).decode()
        samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        values = {name.partition("{")[0]: value for name, value in samples.items()}
        assert values["rocketmq_pop_messages_total"] == "3"
        assert values["rocketmq_pop_acks_total"] == "1"
        assert values["rocketmq_pop_checkpoint_buffer_size"] == "2"
        inflight = next(v for n, v in samples.items() if "consumer_inflight" in n and '"cg"' in n and '="T"' in n)
        assert inflight == "2"
