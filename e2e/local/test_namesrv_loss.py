"""The cluster without its name server, and with it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import frames
from e2e.clusters import Cluster, Kind, registered_brokers
from e2e.local.writer import Writer
from e2e.processes import wait_until
from rocketmq_testkit.history import History

pytestmark = [pytest.mark.local, pytest.mark.timeout(90), pytest.mark.slow]
# The shortest period that Apache's brokers take.
SETTINGS = {"registerNameServerPeriod": "10000"}


def test_sends_go_on_without_the_name_server_and_the_broker_comes_back_to_it_by_itself(tmp_path: Path) -> None:
    history = History()
    with Cluster(Kind.OURS, tmp_path / "cluster", settings=SETTINGS) as cluster:
        writer = Writer(cluster.broker.address, "LossTopic", history)
        writer.start()
        try:
            wait_until(lambda: history.acknowledged, "the first sends")
            cluster.namesrvs[0].kill()
            before = len(history.acknowledged)
            wait_until(lambda: len(history.acknowledged) > before + 1000, "sends without a name server")

            cluster.namesrvs[0].start()
            wait_until(
                lambda: registered_brokers(cluster.namesrv_address) == {"broker-a"}, "the broker registers again", 30
            )
        finally:
            writer.stop()
            writer.join()
        assert writer.failures == []


def test_one_of_two_name_servers_is_enough_and_the_other_catches_up(tmp_path: Path) -> None:
    with Cluster(Kind.OURS, tmp_path / "cluster", settings=SETTINGS, namesrv_count=2) as cluster:
        first, second = (f"127.0.0.1:{port}" for port in cluster.namesrv_ports)
        cluster.namesrvs[0].kill()
        topic = {
            "topic": "LateTopic",
            "defaultTopic": "TBW102",
            "readQueueNums": "2",
            "writeQueueNums": "2",
            "perm": "6",
            "topicFilterType": "SINGLE_TAG",
        }

        assert frames.call(cluster.broker.address, 17, topic).code == 0

        wait_until(
            lambda: frames.call(second, 105, {"topic": "LateTopic"}).code == 0, "the living one knows the topic", 5
        )
        cluster.namesrvs[0].start()
        wait_until(lambda: has_route(first, "LateTopic"), "the restarted one learns everything", 30)


def has_route(address: str, topic: str) -> bool:
    try:
        return frames.call(address, 105, {"topic": topic}).code == 0
    except OSError:
        return False
