"""Reports on the broker itself, raw queues, and the table of requests as a whole."""

from __future__ import annotations

import json
from pathlib import Path

from rocketmq_broker.admin import queues
from rocketmq_broker.tests.harness import serving
from rocketmq_common.hashing import java_hash
from rocketmq_remoting.codes import RequestCode, ResponseCode

# What `mqadmin clusterList` takes apart, and how.
NUMBERS = (
    "msgPutTotalYesterdayMorning", "msgPutTotalTodayMorning", "msgPutTotalTodayNow", "msgGetTotalYesterdayMorning",
    "msgGetTotalTodayMorning", "msgGetTotalTodayNow", "sendThreadPoolQueueSize", "pullThreadPoolQueueSize",
    "ackThreadPoolQueueSize", "sendThreadPoolQueueHeadWaitTimeMills", "pullThreadPoolQueueHeadWaitTimeMills",
    "ackThreadPoolQueueHeadWaitTimeMills", "pageCacheLockTimeMills", "earliestMessageTimeStamp", "timerReadBehind",
    "timerOffsetBehind", "timerCongestNum", "bootTimestamp", "commitLogMinOffset", "commitLogMaxOffset",
)  # fmt: skip
FRACTIONS = ("commitLogDiskRatio", "consumeQueueDiskRatio", "timerEnqueueTps", "timerDequeueTps", "putLatency99")
TRIPLES = ("putTps", "getTransferredTps", "getFoundTps", "getMissTps", "getTotalTps")
SERVED = {
    17, 18, 21, 25, 26, 28, 43, 45, 200, 201, 202, 203, 204, 207, 208, 215, 222, 223, 225, 300, 303, 305, 306, 307, 308, 309,
    314, 315, 316, 317, 321, 328, 329, 343, 345, 351, 352, 353, 901, 907,
}  # fmt: skip


async def test_runtime_info_has_what_mqadmin_parses(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        table = json.loads((await peer.ask(RequestCode.GET_BROKER_RUNTIME_INFO)).body)["table"]
        assert all(isinstance(value, str) for value in table.values())
        for key in NUMBERS:
            int(table[key])
        for key in FRACTIONS:
            float(table[key])
        for key in TRIPLES:
            assert len([float(part) for part in table[key].split(" ")]) == 3
        assert table["brokerVersionDesc"] == "V5_5_0"
        assert table["msgPutTotalTodayNow"] == "1"
        assert int(table["commitLogMaxOffset"]) == peer.broker.store.statistics().written_offset
        assert table["commitLogDirCapacity"].startswith("Total : ")
        assert sum(int(part.split(":")[1]) for part in table["putMessageDistributeTime"].split(" ")) == 1
        assert table["scheduleMessageOffset_1"] == "0,0"


async def test_statistics_of_existing_things_are_zeros_and_of_others_errors(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat("cg", "quiet")
        await peer.send("T")
        await peer.send("quiet")
        zero = {"avgpt": 0.0, "sum": 0, "tps": 0.0}
        for name, key, minute in (
            ("TOPIC_PUT_NUMS", "T", 1),
            ("TOPIC_PUT_SIZE", "T", 5),
            ("GROUP_GET_NUMS", "quiet@cg", 0),
            ("SNDBCK_PUT_NUMS", "quiet@cg", 0),
            ("GROUP_GET_LATENCY", "0@quiet@cg", 0),
            ("BROKER_PUT_NUMS", "DefaultCluster", 2),
        ):
            answer = await peer.ask(RequestCode.VIEW_BROKER_STATS_DATA, {"statsName": name, "statsKey": key})
            assert answer.code == 0, name
            body = json.loads(answer.body)
            assert body["statsMinute"]["sum"] == body["statsDay"]["sum"] == minute
            if not minute:
                assert body == {"statsDay": zero, "statsHour": zero, "statsMinute": zero}
        for name, key in (
            ("TOPIC_PUT_NUMS", "x"),
            ("GROUP_GET_NUMS", "T@x"),
            ("NONSENSE", "T"),
            ("BROKER_PUT_NUMS", "x"),
        ):
            answer = await peer.ask(RequestCode.VIEW_BROKER_STATS_DATA, {"statsName": name, "statsKey": key})
            assert (answer.code, answer.remark) == (1, f"The stats <{name}> <{key}> not exist")


async def test_cleaning_on_request_answers(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for code in (RequestCode.CLEAN_EXPIRED_CONSUMEQUEUE, RequestCode.DELETE_EXPIRED_COMMITLOG):
            assert (await peer.ask(code)).code == 0


async def test_replication_status_and_members_without_replicas(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        status = json.loads((await peer.ask(RequestCode.GET_BROKER_HA_STATUS)).body)
        assert (status["master"], status["haConnectionInfo"], status["inSyncSlaveNums"]) == (True, [], 0)
        ext = {"clusterName": "DefaultCluster", "brokerName": "broker-a"}
        members = json.loads((await peer.ask(RequestCode.GET_BROKER_MEMBER_GROUP, ext)).body)
        assert members["brokerMemberGroup"]["brokerAddrs"] == {"0": peer.address}


async def test_queue_entries_show_the_filter_s_verdict(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T", properties={"TAGS": "TagA"})
        await peer.send("T", properties={"TAGS": "TagB"})
        await peer.heartbeat("cg", "T", "TagB")
        ext = {"topic": "T", "queueId": "0", "index": "0", "count": "10", "consumerGroup": "cg"}
        body = json.loads((await peer.ask(RequestCode.QUERY_CONSUME_QUEUE, ext)).body)
        assert (body["minQueueIndex"], body["maxQueueIndex"]) == (0, 2)
        assert [entry["eval"] for entry in body["queueData"]] == [False, True]
        assert [entry["tagsCode"] for entry in body["queueData"]] == [java_hash("TagA"), java_hash("TagB")]
        assert body["subscriptionData"]["subString"] == "TagB"
        second = json.loads((await peer.ask(RequestCode.QUERY_CONSUME_QUEUE, ext | {"index": "1"})).body)
        assert second["queueData"] == body["queueData"][1:]
        unknown = await peer.ask(RequestCode.QUERY_CONSUME_QUEUE, ext | {"topic": "x"})
        assert (unknown.code, unknown.remark) == (1, "0@x is not exist!")


async def test_queue_entries_are_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(queues, "ENTRIES_MAX", 2)
    async with serving(tmp_path) as peer:
        for _ in range(4):
            await peer.send("T")
        ext = {"topic": "T", "queueId": "0", "index": "-5", "count": "100"}
        body = json.loads((await peer.ask(RequestCode.QUERY_CONSUME_QUEUE, ext)).body)
        assert len(body["queueData"]) == 2


async def test_every_request_of_the_family_is_served_and_others_are_told_cleanly(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert {route.code for route in peer.broker.observation.routes()} == SERVED
        for code in (513, 902, 2003, 200074, 5001):
            answer = await peer.ask(code)
            assert answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
