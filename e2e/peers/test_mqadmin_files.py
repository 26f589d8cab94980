"""mqadmin 5.5: what reads and writes files, probes, traces, single deliveries, and what is not offered."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clusters import Cluster, Kind
from e2e.drivers import Driver
from e2e.peers.mqadmin import MESSAGE_COUNT, Admin, prepared
from e2e.processes import wait_until
from rocketmq_client import Producer, Tracer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
# Required arguments are given, for mqadmin ends its whole process where they lack; {broker} is the broker's address.
NOT_SUPPORTED = (
    "getColdDataFlowCtrInfo -b {broker}",
    "updateColdDataFlowCtrGroupConfig -b {broker} -g some-group -v 1",
    "removeColdDataFlowCtrGroupConfig -b {broker} -g some-group",
    "checkRocksdbCqWriteProgress -c PeerCluster",
    "exportPopRecord -b {broker}",
    "switchTimerEngine -b {broker} -e R",
    "getBrokerLiteInfo -b {broker}",
    "addBroker -c {broker} -b broker.conf",
    "removeBroker -c {broker} -b PeerCluster:broker-a:1",
    "getSyncStateSet -a {broker} -b broker-a",
    "getBrokerEpoch -b broker-a",
    "getControllerMetaData -a {broker}",
    "getControllerConfig -a {broker}",
)


@pytest.fixture(scope="module")
def admin(java5: Driver, cluster: Cluster) -> Iterator[Admin]:
    with prepared(java5, cluster) as made:
        yield made


def test_topics_and_groups_are_made_from_files(admin: Admin, tmp_path: Path) -> None:
    topics = [f"{admin.topic}-file-{n}" for n in range(2)]
    file = tmp_path / "topics.json"
    file.write_text(
        json.dumps(
            [{"topicName": t, "readQueueNums": 3, "writeQueueNums": 2, "perm": 6, "attributes": {}} for t in topics]
        )
    )
    assert "success" in admin("updateTopicList", "-b", admin.broker, "-f", str(file)).output
    for topic in topics:
        wait_until(
            lambda topic=topic: admin.route_row(3, 2, 6) in admin.tries("topicRoute", "-t", topic, "-l").rows,  # type: ignore[misc]
            "the new route",
        )
    groups = [f"{admin.group}-file-{n}" for n in range(2)]
    file.write_text(json.dumps([{"groupName": g, "retryMaxTimes": 3, "consumeEnable": True} for g in groups]))
    assert "success" in admin("updateSubGroupList", "-b", admin.broker, "-f", str(file)).output
    for group in groups:
        assert re.search(r"retryMaxTimes\s+=\s+3", admin("getConsumerConfig", "-g", group).output)


@pytest.mark.parametrize("command", ["exportMetadata", "exportConfigs", "exportMetrics"])
def test_exports_are_written(admin: Admin, tmp_path: Path, command: str) -> None:
    admin(command, "-c", "PeerCluster", "-f", str(tmp_path))
    (written,) = tmp_path.rglob("*.json")
    found = json.loads(written.read_text())
    assert found
    text = json.dumps(found)
    if command == "exportMetadata":
        assert admin.topic in text
        assert admin.group in text
    else:
        assert "broker-a" in text


def test_one_queue_is_printed(admin: Admin) -> None:
    printed = [
        admin("printMsgByQueue", "-t", admin.topic, "-a", "broker-a", "-i", str(n), "-p", "true", "-d", "true").output
        for n in range(4)
    ]
    assert sorted(re.findall(r"body (\d)", "".join(printed))) == [str(n) for n in range(MESSAGE_COUNT)]


def test_a_trace_that_we_wrote_is_shown(admin: Admin) -> None:
    async def send() -> str:
        address = admin.cluster.namesrv_address
        async with Tracer(address) as tracer, Producer(address, tracer=tracer) as producer:
            return (await producer.send(admin.topic, b"traced")).message_id

    message_id = asyncio.run(send())

    def shown() -> str | None:
        out = admin.tries("queryMsgTraceById", "-i", message_id)
        return out.output if "Pub" in out.output else None

    assert "success" in wait_until(shown, "the trace is indexed", 40, poll_seconds=0.5).lower()


def test_sends_are_probed(admin: Admin) -> None:
    assert admin("sendMsgStatus", "-b", "broker-a", "-s", "16", "-c", "3").output.count("SEND_OK") >= 3


def test_a_stored_message_is_delivered_to_one_client_on_demand(admin: Admin) -> None:
    running = admin("consumerStatus", "-g", admin.group).output
    client_id = next(word for line in running.splitlines() if "V5_5_0" in line for word in line.split() if "@" in word)
    before = len(admin.java.call("consumer.received", name=admin.group))
    out = admin(
        "queryMsgById", "-t", admin.topic, "-i", admin.sent[1]["offset_message_id"], "-g", admin.group, "-d", client_id
    ).output
    assert "CR_SUCCESS" in out
    assert admin.java.call("consumer.received", name=admin.group)[before:][0]["body"] == "body 1"


def test_stack_traces_of_a_client_come_through_the_broker(admin: Admin) -> None:
    running = admin("consumerStatus", "-g", admin.group).output
    client_id = next(word for line in running.splitlines() if "V5_5_0" in line for word in line.split() if "@" in word)
    shown = admin("consumerStatus", "-g", admin.group, "-i", client_id, "-s", "true").output
    assert "ConsumeMessageThread" in shown or "#Consumer jstack#" in shown, shown[-2000:]


def test_queues_are_shared_out_on_paper(admin: Admin) -> None:
    out = admin("allocateMQ", "-t", admin.topic, "-i", "10.0.0.1,10.0.0.2").output
    table = json.loads(re.sub(r"\s+", " ", out[out.index("{") :]))
    shares = table.get("result", table)
    assert [len(queues) for queues in shares.values()] == [2, 2]


@pytest.mark.parametrize("line", NOT_SUPPORTED, ids=lambda line: line.split()[0])
def test_what_is_not_offered_is_refused_at_once(admin: Admin, peer_kind: Kind, line: str) -> None:
    if peer_kind is Kind.APACHE:
        pytest.skip("Apache's broker offers it, or refuses it in words of its own")
    out = admin.tries(*line.format(broker=admin.broker).split())
    # The code, not the client's own time limit: the answer came.
    assert re.search(r"CODE: 3\b", out.output + out.errors), out
