"""Real traffic of Apache's clients, mqadmin, broker and name server, kept as one request and one response per code.

The proxies stand between: the broker listens on 127.0.0.1 and advertises 127.0.0.2, where its proxy listens on the same port.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from e2e import frames, toolchain
from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver, java_driver
from e2e.golden.recording_proxy import RecordedFrame, RecordingProxy
from e2e.processes import free_port

HEART_BEAT = 34
LABEL_BROKER = "broker-5.5.0"
# For these codes a later frame says more than the first: a consumer's heartbeat, a route with queues.
LARGEST_WANTED = {HEART_BEAT, 105, 103, 202, 208, 14}


def record_session(directory: Path) -> list[dict[str, Any]]:
    """Run the session below ``directory`` and return the chosen frames, ready for JSON."""
    cluster = Cluster(
        Kind.APACHE,
        directory / "cluster",
        settings=TEST_BROKER_SETTINGS | {"bindAddress": "127.0.0.1", "brokerIP1": "127.0.0.2"},
    )
    cluster.directory.mkdir(parents=True)
    cluster.start_namesrv(0)
    real_namesrv = cluster.namesrv_ports[0]
    namesrv_proxy = RecordingProxy(("127.0.0.1", free_port()), ("127.0.0.1", real_namesrv), LABEL_BROKER)
    namesrv_proxy.start()
    proxies = [namesrv_proxy]
    cluster.namesrv_ports[0] = namesrv_proxy.listen[1]
    try:
        broker = cluster.add_broker("broker-a")
        cluster.wait_registered()
        broker_proxy = RecordingProxy(("127.0.0.2", broker.port), ("127.0.0.1", broker.port))
        broker_proxy.start()
        proxies.append(broker_proxy)
        for peer in (toolchain.apache_client_4(), toolchain.apache()):
            home = directory / peer.name
            home.mkdir()
            with java_driver(peer, home) as driver:
                _label(proxies, f"client-{peer.version}")
                _use_client(driver, cluster.namesrv_address, peer.version.replace(".", "-"))
                if peer.commands:
                    _label(proxies, f"mqadmin-{peer.version}")
                    _use_admin(driver, cluster.namesrv_address, broker.address.replace("127.0.0.1", "127.0.0.2"))
        _label(proxies, LABEL_BROKER)
    finally:
        cluster.stop()
        for proxy in proxies:
            proxy.close()
    return chosen([frame for proxy in proxies for frame in _with_proxy(proxy)])


def _label(proxies: list[RecordingProxy], label: str) -> None:
    for proxy in proxies:
        proxy.label = label


def _with_proxy(proxy: RecordingProxy) -> list[tuple[int, RecordedFrame]]:
    return [(id(proxy), frame) for frame in proxy.frames]


def _use_client(driver: Driver, namesrv: str, suffix: str) -> None:
    topic, group = f"Golden-{suffix}", f"golden-group-{suffix}"
    driver.call("producer.start", name="p", namesrv=namesrv, group=f"golden-producer-{suffix}", compress_over=1000)
    one = {"tag": "TagA", "keys": "key-1", "body": "hello", "properties": {"n": "中😀"}}
    sent = driver.call("producer.send", name="p", topic=topic, messages=[one])
    driver.call("producer.send", name="p", topic=topic, mode="batch", messages=[one, one])
    driver.call("producer.send", name="p", topic=topic, mode="oneway", messages=[one])
    driver.call(
        "producer.send", name="p", topic=topic, messages=[{"body_size": 1500}, {"body": "later", "delay_level": 1}]
    )
    driver.call(
        "consumer.start",
        name="c",
        group=group,
        namesrv=namesrv,
        fail_times=1,
        subscriptions=[{"topic": topic, "expression": "TagA || TagB"}],
    )
    driver.receive("c", 8)
    driver.call(
        "consumer.start",
        name="o",
        group=f"{group}-orderly",
        namesrv=namesrv,
        orderly=True,
        subscriptions=[{"topic": topic}],
    )
    driver.receive("o", 6)
    driver.call("query.key", name="p", topic=topic, key="key-1")
    driver.call("query.view", name="p", topic=topic, id=sent[0]["offset_message_id"])
    for which in ("min", "max", "earliest_ms", "time"):
        driver.call("query.offset", name="p", topic=topic, which=which, timestamp_ms=int(time.time() * 1000))
    driver.call("lite.start", name="l", group=f"{group}-lite", namesrv=namesrv, topic=topic)
    driver.call("lite.poll", name="l", timeout_ms=3000)
    for command, name in (("lite.stop", "l"), ("consumer.stop", "o"), ("consumer.stop", "c"), ("producer.stop", "p")):
        driver.call(command, name=name)


def _use_admin(driver: Driver, namesrv: str, broker: str) -> None:
    topic, group = "Golden-5-5-0", "golden-group-5-5-0"
    driver.call("consumer.start", name="again", group=group, namesrv=namesrv, subscriptions=[{"topic": topic}])
    driver.wait_assigned("again", topic, lambda queues: len(queues) == 4)
    for line in (
        f"clusterList -n {namesrv}",
        f"topicList -n {namesrv}",
        f"topicRoute -n {namesrv} -t {topic}",
        f"topicStatus -n {namesrv} -t {topic}",
        f"updateTopic -n {namesrv} -b {broker} -t GoldenAdmin -r 4 -w 4",
        f"updateSubGroup -n {namesrv} -b {broker} -g golden-admin-group",
        f"consumerProgress -n {namesrv} -g {group}",
        f"consumerConnection -n {namesrv} -g {group}",
        f"consumerStatus -n {namesrv} -g {group}",
        f"brokerStatus -n {namesrv} -b {broker}",
        f"getBrokerConfig -n {namesrv} -b {broker}",
        f"brokerConsumeStats -n {namesrv} -b {broker}",
        f"resetOffsetByTime -n {namesrv} -g {group} -t {topic} -s 0",
        f"statsAll -n {namesrv}",
        f"updateKvConfig -n {namesrv} -s GOLDEN -k key -v value",
        f"wipeWritePerm -n {namesrv} -b broker-a",
        f"addWritePerm -n {namesrv} -b broker-a",
        f"haStatus -n {namesrv} -b {broker}",
        f"deleteTopic -n {namesrv} -c PeerCluster -t GoldenAdmin",
    ):
        driver.mqadmin(*line.split())
    driver.call("consumer.stop", name="again")


def chosen(recorded: list[tuple[int, RecordedFrame]]) -> list[dict[str, Any]]:
    """One request and response for each label and code, the first or the one that says most."""
    pairs: dict[tuple[str, int, bool], tuple[RecordedFrame, RecordedFrame | None]] = {}
    waiting: dict[tuple[int, int, bool, int], RecordedFrame] = {}
    for proxy, frame in recorded:
        command = frames.decode(frame.data[4:])
        if not command.flag & frames.RESPONSE_FLAG:
            label = frame.label
            waiting[proxy, frame.connection, frame.is_to_server, command.opaque] = frame
            pairs.setdefault((label, command.code, frame.is_to_server), (frame, None))
            continue
        request = waiting.pop((proxy, frame.connection, not frame.is_to_server, command.opaque), None)
        if request is None:
            continue
        code = frames.decode(request.data[4:]).code
        key = (request.label, code, request.is_to_server)
        old, old_answer = pairs[key]
        size_old = len(old.data) + (len(old_answer.data) if old_answer else 0)
        if old_answer is None or (code in LARGEST_WANTED and len(request.data) + len(frame.data) > size_old):
            pairs[key] = (request, frame)
    return [
        _vector(label, code, is_to_server, *pair)
        for (label, code, is_to_server), pair in sorted(pairs.items(), key=lambda item: item[0])
    ]


def _vector(
    label: str, code: int, is_to_server: bool, request: RecordedFrame, response: RecordedFrame | None
) -> dict[str, Any]:
    vector: dict[str, Any] = {"who": label, "code": code, "direction": "to server" if is_to_server else "to client"}
    for name, frame in (("request", request), ("response", response)):
        if frame is not None:
            command = frames.decode(frame.data[4:])
            vector[name] = {
                "header": json.loads(frame.data[8 : 8 + (int.from_bytes(frame.data[4:8], "big") & 0xFFFFFF)]),
                "body_size": len(command.body),
                "frame_hex": frame.data.hex(),
            }
    return vector
