"""Metrics as Prometheus reads them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rocketmq_broker import metrics, windows
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.bodies import HeartbeatData, ProducerData
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode

Samples = dict[str, list[tuple[dict[str, str], float]]]
COMMON = {"cluster": "DefaultCluster", "node_type": "broker", "node_id": "broker-a"}


async def scrape(peer: Peer) -> Samples:
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{peer.broker.identity.http_port}") as session,
        session.get("/metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = await answer.text()
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    """The value of the single series with these labels."""
    values = [value for found, value in samples.get(name, []) if labels.items() <= found.items()]
    assert len(values) == 1, (name, labels, samples.get(name))
    return values[0]


async def test_every_series_carries_the_common_labels(tmp_path: Path) -> None:
    async with serving(tmp_path, metricsLabel="zone:a,rack:1,broken") as peer:
        await peer.send("T")
        samples = await scrape(peer)
        for name, series in samples.items():
            for labels, _ in series:
                assert {**COMMON, "zone": "a", "rack": "1"}.items() <= labels.items(), name


async def test_traffic_is_counted_by_topic_and_group(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(3):
            await peer.send("T", b"12345")
        await peer.send("%RETRY%cg")
        await peer.heartbeat("cg", "T")
        await peer.pull("T")
        samples = await scrape(peer)
        incoming = {"topic": "T", "message_type": "normal", "is_system": "false"}
        assert one(samples, "rocketmq_messages_in_total", **incoming) == 3
        assert one(samples, "rocketmq_throughput_in_total", **incoming) == 15
        assert not any(labels["topic"].startswith("%") for labels, _ in samples["rocketmq_messages_in_total"])
        outgoing = {"topic": "T", "consumer_group": "cg", "is_system": "false"}
        assert one(samples, "rocketmq_messages_out_total", **outgoing) == 3
        assert one(samples, "rocketmq_throughput_out_total", **outgoing) > 15
        assert one(samples, "rocketmq_message_size_bucket", le="1024.0", **incoming) == 3
        assert one(samples, "rocketmq_message_size_sum", **incoming) == 15
        assert one(samples, "rocketmq_damaged_messages_total") == 0


async def test_message_type_is_the_topics_attribute(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        body = json.dumps({"topicConfigList": [{"topicName": "F", "attributes": {"+message.type": "FIFO"}}]}).encode()
        assert (await peer.ask(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, body)).code == 0
        await peer.send("F")
        assert one(await scrape(peer), "rocketmq_messages_in_total", topic="F", message_type="fifo") == 1


async def test_lag_is_told_from_the_first_heartbeat_and_follows_commits(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for queue_id in (0, 1, 1):
            await peer.send("T", queue_id=queue_id)
        await peer.heartbeat("cg", "T")
        labels = {"consumer_group": "cg", "topic": "T", "is_retry": "false", "is_system": "false"}
        assert one(await scrape(peer), "rocketmq_consumer_lag_messages", **labels) == 0
        peer.broker.offsets.commit("cg", "T", 0, 0)
        peer.broker.offsets.commit("cg", "T", 1, 1)
        samples = await scrape(peer)
        assert one(samples, "rocketmq_consumer_lag_messages", **labels) == 2
        assert one(samples, "rocketmq_consumer_ready_messages", **labels) == 2
        assert one(samples, "rocketmq_consumer_inflight_messages", **labels) == 0
        oldest = min(peer.broker.store.store_time("T", 0, 0), peer.broker.store.store_time("T", 1, 1))
        now = peer.broker.clock.now_ms()
        assert 0 <= one(samples, "rocketmq_consumer_lag_latency_milliseconds", **labels) <= now - oldest
        peer.broker.offsets.note_pull("cg", "T", 1, 2)
        samples = await scrape(peer)
        assert one(samples, "rocketmq_consumer_inflight_messages", **labels) == 1
        assert one(samples, "rocketmq_consumer_ready_messages", **labels) == 1
        assert one(samples, "rocketmq_consumer_lag_messages", consumer_group="cg", is_retry="true") == 0


async def test_groups_whose_members_disagree_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        other = Peer(peer.broker, RemotingClient())
        await peer.heartbeat("cg", "T", client_id="c1")
        await peer.heartbeat("alike", "T", client_id="c1")
        try:
            await other.heartbeat("cg", "T", "TagA", client_id="c2")
            samples = await scrape(peer)
        finally:
            await other.client.close()
        name = "rocketmq_group_inconsistent_subscription"
        assert one(samples, name, consumer_group="cg") == 1
        assert one(samples, name, consumer_group="alike") == 0


async def test_lag_of_slaves_is_not_told_so_that_sums_count_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.heartbeat("cg", "T")
        peer.broker.settings.broker_id = 1
        assert "rocketmq_consumer_lag_messages" not in await scrape(peer)


async def test_lag_series_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "LAG_SERIES_MAX", 1)
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.heartbeat("cg", "T")
        assert len((await scrape(peer))["rocketmq_consumer_lag_messages"]) == 1


async def test_series_of_deleted_topics_and_closed_connections_vanish(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.heartbeat("cg", "T")
        data = HeartbeatData(client_id="client-1", producer_data_set=[ProducerData(group_name="pg")])
        await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))
        samples = await scrape(peer)
        assert one(samples, "rocketmq_producer_connections", language="python", version="v5_5_0") == 1
        assert one(samples, "rocketmq_consumer_connections", consumer_group="cg", consume_mode="push") == 1
        await peer.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "T"})
        await peer.client.close()
        samples = await scrape(peer)
        for name in ("rocketmq_messages_in_total", "rocketmq_producer_connections", "rocketmq_consumer_connections"):
            assert not [labels for labels, _ in samples.get(name, []) if labels.get("topic") in (None, "T")], name


async def test_requests_unknown_to_anybody_share_one_series(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for code in (7777, 8888):
            await peer.ask(code)
        samples = await scrape(peer)
        assert one(samples, "rocketmq_rpc_latency_milliseconds_count", request_code="unknown") == 2


async def test_storage_tables_and_process_are_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        samples = await scrape(peer)
        disk = {"storage_type": "local", "storage_medium": "disk"}
        assert one(samples, "rocketmq_storage_size_bytes", **disk) > 0
        assert one(samples, "rocketmq_storage_dispatch_behind_bytes", **disk) == 0
        assert one(samples, "rocketmq_storage_message_reserve_time_milliseconds", **disk) >= 0
        assert one(samples, "rocketmq_broker_permission") == 6
        assert one(samples, "rocketmq_topic_number") == len(peer.broker.topics.configs)
        assert one(samples, "rocketmq_consumer_group_number") == len(peer.broker.groups.configs)
        assert one(samples, "rocketmq_recovery_duration_seconds", mode="fresh") >= 0
        assert 0 < one(samples, "rocketmq_disk_ratio") < 1
        assert one(samples, "rocketmq_build_info", version="V5_5_0") == 1
        assert one(samples, "rocketmq_store_writeable") == 1
        assert one(samples, "rocketmq_event_loop_lag_seconds") >= 0
        assert one(samples, "rocketmq_rpc_latency_milliseconds_count", request_code="send_message_v2") == 1


async def test_large_scrape_and_sample_give_way_between_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SLICE", 10)
    monkeypatch.setattr(metrics, "LAG_SLICE", 10)
    monkeypatch.setattr(windows, "SLICE", 10)
    async with serving(tmp_path) as peer:
        broker = peer.broker
        for number in range(100):
            broker.statistics.topic(f"t{number}").put_nums += 1
            broker.statistics.group("cg", f"t{number}").get_nums += 1
            broker.offsets.commit("cg", f"t{number}", 0, 1)
        pauses = sum(item is None for item in broker.observation.metrics.collect())
        assert pauses >= 30
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await broker.observation.windows.sample_in_slices()
        counting.cancel()
        assert turns >= 20
        assert broker.observation.windows.item_count == 200


def test_label_pairs_that_are_none_are_left_out():
    assert metrics.parse_labels("a:1, b : 2,nonsense,9x:3,") == {"a": "1", "b": "2"}
