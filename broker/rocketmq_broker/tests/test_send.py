"""Sending over a real connection: codes, properties, places."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker import topic_creation
from rocketmq_broker.tests.harness import BORN_MS, messages_of, serving
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.message_ids import parse_offset_message_id
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.send import SendMessageRequestHeaderV1

UNIQUE_KEY = "AC1100010B2E18B4AAC2F1B2C3D40000"


async def test_a_send_is_answered_with_its_place_and_read_back_unchanged(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.send(body=b"\x00\xffbody", sys_flag=1, queue_id=2)
        ext = answer.ext_fields()
        assert answer.code == ResponseCode.SUCCESS
        assert answer.remark is None
        assert ext["queueId"] == "2"
        assert ext["queueOffset"] == "0"
        assert ext["transactionId"] == UNIQUE_KEY
        assert ext["MSG_REGION"] == "DefaultRegion"
        assert ext["TRACE_ON"] == "true"
        place = parse_offset_message_id(ext["msgId"])
        assert (place.host, place.port) == ("127.0.0.1", peer.broker.identity.port)
        (message,) = messages_of(await peer.pull(queue_id=2))
        assert message.body == b"\x00\xffbody"
        assert (message.flag, message.sys_flag, message.born_timestamp) == (7, 1, BORN_MS)
        assert message.physical_offset == place.physical_offset
        assert message.message_id == ext["msgId"]
        assert message.property_map() == {
            "TAGS": "TagA",
            "KEYS": "k1",
            "UNIQ_KEY": UNIQUE_KEY,
            "MSG_REGION": "DefaultRegion",
            "TRACE_ON": "true",
            "CLUSTER": "DefaultCluster",
        }


async def test_an_old_client_that_leaves_out_the_last_separator_keeps_its_last_value(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(properties="UNIQ_KEY\x01AB\x02TAGS\x01TagA")
        (message,) = messages_of(await peer.pull(subscription="TagA"))
        assert message.property_map()["TAGS"] == "TagA"
        assert message.property_map()["CLUSTER"] == "DefaultCluster"


async def test_a_missing_unique_key_is_made_by_the_broker(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.send(properties={"MY_UNIQ_KEY": "no"})
        (message,) = messages_of(await peer.pull())
        unique_key = message.property_map()["UNIQ_KEY"]
        assert len(unique_key) == 32
        assert answer.ext_fields()["transactionId"] == unique_key


async def test_a_unique_key_with_quotes_does_not_break_the_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.send(properties={"UNIQ_KEY": 'a"b\\'})
        assert answer.ext_fields()["transactionId"] == 'a"b\\'


async def test_the_brokers_own_properties_are_not_doubled_when_a_message_is_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "MSG_REGION": "elsewhere", "TRACE_ON": "false", "CLUSTER": "c2"})
        (message,) = messages_of(await peer.pull())
        assert message.properties.count("MSG_REGION\x01") == 1
        assert message.property_map()["CLUSTER"] == "DefaultCluster"


async def test_transient_properties_and_foreign_receipts_are_not_stored(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "__RMQ.TRANSIENT.x": "1", "POP_CK": "0 1 2", "a": "b"})
        (message,) = messages_of(await peer.pull())
        assert set(message.property_map()) == {"UNIQ_KEY", "a", "MSG_REGION", "TRACE_ON", "CLUSTER"}


async def test_an_unknown_topic_is_created_from_its_template_and_durable_when_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("fresh", default_topic_queue_nums=4)
        config = peer.broker.topics.get("fresh")
        assert config is not None
        assert (config.read_queue_nums, config.write_queue_nums, config.perm) == (4, 4, 6)
        assert b'"fresh"' in (tmp_path / "store" / "config" / "topics.json").read_bytes()


async def test_many_sends_to_one_unknown_topic_create_it_once_and_keep_their_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        before = peer.broker.topics.data_version.counter
        answers = await asyncio.gather(*(peer.send("fresh", body=b"%d" % n) for n in range(20)))
        assert [a.code for a in answers] == [0] * 20
        assert [m.body for m in messages_of(await peer.pull("fresh"))] == [b"%d" % n for n in range(20)]
        assert peer.broker.topics.data_version.counter == before + 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "missing", "default_topic": "no-template"}, ResponseCode.TOPIC_NOT_EXIST),
        ({"topic": "bad topic"}, ResponseCode.INVALID_PARAMETER),
        ({"topic": "x" * 128}, ResponseCode.INVALID_PARAMETER),
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, ResponseCode.NO_PERMISSION),
        ({"topic": "T", "queue_id": 99}, ResponseCode.INVALID_PARAMETER),
        ({"properties": {"UNIQ_KEY": "A", "TRAN_MSG": "true", "TIMER_DELAY_MS": "9"}}, ResponseCode.MESSAGE_ILLEGAL),
        ({"sys_flag": 4}, ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": {"UNIQ_KEY": "A", "TIMER_DELAY_MS": "soon"}}, ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": {"UNIQ_KEY": "A", "DELAY": "soon"}}, ResponseCode.MESSAGE_ILLEGAL),
        ({"body": b"x" * 4097}, ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": {"UNIQ_KEY": "A", "x": "y" * 32767}}, ResponseCode.MESSAGE_ILLEGAL),
    ],
)
async def test_a_send_that_cannot_be_stored_gets_apaches_code(
    tmp_path: Path, fields: dict[str, Any], code: ResponseCode
) -> None:
    async with serving(tmp_path, maxMessageSize=4096) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T", read_queue_nums=4, write_queue_nums=4))
        answer = await peer.send(**fields)
        assert answer.code == code, answer.remark
        assert answer.remark
        assert peer.broker.store.statistics().put_message_count == 0


async def test_a_slave_refuses_sends_as_busy(tmp_path: Path) -> None:
    async with serving(tmp_path, brokerId=1) as peer:
        answer = await peer.send()
        assert answer.code == ResponseCode.SYSTEM_BUSY
        assert (answer.remark or "").startswith("[REJECTREQUEST]")


async def test_sends_before_the_configured_start_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        peer.broker.settings.start_accept_send_request_time_stamp = 1 << 50
        assert (await peer.send()).code == ResponseCode.SYSTEM_ERROR
        peer.broker.settings.start_accept_send_request_time_stamp = 1
        assert (await peer.send()).code == ResponseCode.SUCCESS


async def test_an_ordered_topic_of_a_read_only_broker_takes_nothing_and_a_plain_one_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="ordered", order=True))
        assert (await peer.send("ordered")).code == ResponseCode.SUCCESS
        peer.broker.settings.broker_permission = 4
        assert (await peer.send("ordered")).code == ResponseCode.NO_PERMISSION
        assert (await peer.send("plain")).code == ResponseCode.SUCCESS


async def test_a_negative_queue_id_lets_the_broker_choose_a_write_queue(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T", read_queue_nums=4, write_queue_nums=2))
        chosen = {(await peer.send(queue_id=-1)).ext_fields()["queueId"] for _ in range(40)}
        assert chosen == {"0", "1"}


async def test_the_long_header_names_of_code_10_work(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        header = SendMessageRequestHeaderV1(
            producer_group="pg", topic="T", default_topic="TBW102", default_topic_queue_nums=4, queue_id=1, sys_flag=0,
            born_timestamp=BORN_MS, flag=0, properties="TAGS\x01x",
        )  # fmt: skip
        answer = await peer.ask(RequestCode.SEND_MESSAGE, header, b"b")
        assert (answer.code, answer.ext_fields()["queueId"]) == (0, "1")


async def test_a_oneway_send_is_stored_and_not_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        connection = await peer.client.connect(peer.address)
        header = SendMessageRequestHeaderV1(
            producer_group="pg", topic="T", default_topic="TBW102", default_topic_queue_nums=4, queue_id=0, sys_flag=0,
            born_timestamp=BORN_MS, flag=0,
        )  # fmt: skip
        connection.notify(RequestCode.SEND_MESSAGE, header, b"oneway")
        bodies = [m.body for m in messages_of(await peer.pull(offset=1, sys_flag=6))]
        assert bodies == [b"oneway"]
        assert peer.broker.server is not None
        (server_side,) = peer.broker.server.connections
        assert server_side.in_flight == 0


async def test_with_sync_flush_a_send_is_answered_once_it_is_flushed(tmp_path: Path) -> None:
    async with serving(tmp_path, flushDiskType="SYNC_FLUSH") as peer:
        answers = await asyncio.gather(*(peer.send(body=b"%d" % n) for n in range(50)))
        assert [a.code for a in answers] == [0] * 50
        assert sorted(int(a.ext_fields()["queueOffset"]) for a in answers) == list(range(50))
        statistics = peer.broker.store.statistics()
        assert statistics.flushed_offset == statistics.written_offset


async def test_with_sync_flush_a_send_that_does_not_want_to_wait_is_answered_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, flushDiskType="SYNC_FLUSH") as peer:
        await peer.send()
        store = peer.broker.store
        store.when_durable = None  # type: ignore[assignment,method-assign]
        answer = await peer.send(properties={"UNIQ_KEY": "A", "WAIT": "false"})
        assert answer.code == ResponseCode.SUCCESS


def batch_body(count: int) -> bytes:
    return encode_batch(BatchEntry(n, b"body-%d" % n, b"UNIQ_KEY\x01U%d\x02TAGS\x01t%d" % (n, n)) for n in range(count))


@pytest.mark.parametrize("code", [RequestCode.SEND_BATCH_MESSAGE, RequestCode.SEND_MESSAGE_V2])
async def test_a_batch_is_stored_as_single_messages_with_consecutive_offsets(tmp_path: Path, code: RequestCode) -> None:
    # Java has a code for batches; Apache's C++ client sends them by the code of single messages, and the field tells.
    async with serving(tmp_path) as peer:
        await peer.send()
        answer = await peer.send(
            body=batch_body(10),
            code=code,
            batch=True,
            properties={"UNIQ_KEY": "OUTER", "WAIT": "true"},
        )
        ext = answer.ext_fields()
        ids = ext["msgId"].split(",")
        assert (answer.code, ext["queueOffset"], len(ids)) == (0, "1", 10)
        messages = messages_of(await peer.pull(offset=1))
        assert [m.message_id for m in messages] == ids
        assert [m.queue_offset for m in messages] == list(range(1, 11))
        assert [m.property_map()["UNIQ_KEY"] for m in messages] == [f"U{n}" for n in range(10)]
        assert [m.property_map()["TAGS"] for m in messages] == [f"t{n}" for n in range(10)]
        assert all(m.property_map()["CLUSTER"] == "DefaultCluster" for m in messages)
        assert [m.flag for m in messages] == list(range(10))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "%RETRY%cg"}, ResponseCode.MESSAGE_ILLEGAL),
        ({"topic": "x" * 128}, ResponseCode.MESSAGE_ILLEGAL),
        ({"properties": {"DELAY": "1"}}, ResponseCode.MESSAGE_ILLEGAL),
        ({"body": b"garbage"}, ResponseCode.MESSAGE_ILLEGAL),
        ({"body": b""}, ResponseCode.MESSAGE_ILLEGAL),
    ],
)
async def test_a_batch_that_breaks_the_rules_is_refused_whole(
    tmp_path: Path, fields: dict[str, Any], code: ResponseCode
) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        answer = await peer.send(**{"body": batch_body(2), "code": RequestCode.SEND_BATCH_MESSAGE, **fields})
        assert answer.code == code, answer.remark
        assert peer.broker.store.statistics().put_message_count == 0


async def test_statistics_count_messages_bytes_and_sizes_of_a_topic(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(body=b"x" * 10)
        await peer.send(body=b"x" * 2000)
        await peer.send(queue_id=99)
        statistics = peer.broker.statistics
        assert (statistics.topics["T"].put_nums, statistics.topics["T"].put_size) == (2, 2010)
        assert (statistics.put_nums, statistics.put_size) == (2, 2010)
        assert statistics.topics["T"].size_counts() == [1, 1, 0, 0, 0, 0, 0]


async def test_sends_that_wait_for_a_topic_that_cannot_be_created_all_learn_why(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answers = await asyncio.gather(*(peer.send("missing", default_topic="no-template") for _ in range(5)))
        assert {a.code for a in answers} == {ResponseCode.TOPIC_NOT_EXIST}
        assert all("not exist, apply first please!" in (a.remark or "") for a in answers)
        assert (await peer.send("missing")).code == ResponseCode.SUCCESS


async def test_the_number_of_sends_that_wait_for_a_topic_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_creation, "WAITING_SENDS_MAX", 2)
    async with serving(tmp_path) as peer:
        codes = [a.code for a in await asyncio.gather(*(peer.send("fresh") for _ in range(5)))]
        assert codes.count(ResponseCode.SYSTEM_BUSY) == 2
        assert codes.count(ResponseCode.SUCCESS) == 3
