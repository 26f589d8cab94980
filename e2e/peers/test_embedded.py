"""`rocketmq up` with a RocketMQCluster document, used by Apache's unmodified client and mqadmin."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
ROCKETMQ = str(Path(sys.executable).with_name("rocketmq"))
COMMAND_TIMEOUT_SECONDS = 60
TOPIC = "EmbeddedTopic"
MESSAGE_COUNT = 200


def rocketmq(*arguments: str) -> str:
    done = subprocess.run(
        [ROCKETMQ, *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two name servers and two broker groups of one master each, from the document that `make demo` uses."""
    document = Path(__file__).resolve().parents[2] / "examples/demo.yaml"
    data = str(tmp_path_factory.mktemp("embedded") / "data")
    up = rocketmq("up", "-f", str(document), "--detach", "-o", "json", "--port-base", "0", "--data", data)
    try:
        yield json.loads(up)
    finally:
        rocketmq("down", "--data", data, "--purge")


def test_the_java_client_uses_both_brokers_of_an_embedded_cluster(
    java: Driver, embedded: dict[str, Any], unique: Callable[[str], str], clients: Callable[[Driver, str, str], None]
) -> None:
    namesrv, topic = ";".join(embedded["nameServers"]), unique(TOPIC)
    producer, consumer = unique("producer"), unique("consumer")
    clients(java, "producer", producer)
    clients(java, "consumer", consumer)
    java.call("producer.start", name=producer, namesrv=namesrv)
    messages = [{"body": f"{n}", "tag": "TagA", "keys": f"key-{n}"} for n in range(MESSAGE_COUNT)]
    java.call("producer.send", name=producer, topic=topic, messages=messages[:8])
    java.call("consumer.start", name=consumer, group=unique("group"), namesrv=namesrv, subscriptions=[{"topic": topic}])

    sent = java.call("producer.send", name=producer, topic=topic, messages=messages[8:])

    received = java.receive(consumer, MESSAGE_COUNT, 60)
    assert {message["body"] for message in received} == {str(n) for n in range(MESSAGE_COUNT)}
    brokers = {process["brokerName"] for process in embedded["processes"] if process["role"] == "broker"}
    assert {result["broker_name"] for result in sent} <= brokers
    (found,) = wait_until(lambda: java.call("query.key", name=producer, topic=topic, key="key-9"), "key-9", 10)
    assert found["body"] == "9"


def test_mqadmin_lists_the_embedded_brokers_at_each_name_server(java5: Driver, embedded: dict[str, Any]) -> None:
    brokers = {(p["brokerName"], p["address"]) for p in embedded["processes"] if p["role"] == "broker"}
    for namesrv in embedded["nameServers"]:
        out = java5.mqadmin("clusterList", "-n", namesrv)
        assert not out.failed, out.output + out.errors
        assert {(row[1], row[3]) for row in out.rows} == brokers


def test_every_process_of_the_document_has_what_up_promises(embedded: dict[str, Any]) -> None:
    assert len(embedded["nameServers"]) == 2
    assert sorted(process["role"] for process in embedded["processes"]) == ["broker", "broker", "namesrv", "namesrv"]
    for process in embedded["processes"]:
        assert process["ready"]
        assert Path(f"/proc/{process['pid']}").exists()
        assert Path(process["dataDirectory"]).is_dir()
