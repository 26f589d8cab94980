"""Clusters of our real name servers and brokers: a document becomes a cluster that answers, survives a kill, and keeps its data."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.failover.lease import LeaseRecord
from rocketmq_client import Admin, ConsumeFrom, Producer, PushConsumer
from rocketmq_operator.model import ReplicationSecret, RocketMQCluster
from rocketmq_tools.cli import main
from rocketmq_tools.embedded import clusters, starting
from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.leases import read_lease
from rocketmq_tools.embedded.ports import HeldPorts
from rocketmq_tools.embedded.state import ClusterState, read_state
from rocketmq_tools.embedded.tests.clusters_for_tests import cluster, wait_until
from rocketmq_tools.errors import CommandError

pytestmark = [pytest.mark.local, pytest.mark.slow]

OPTIONS = starting.Options(port_base=0, start_timeout_s=60)
TOPIC = "Orders"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[ClusterDirectory]:
    made = ClusterDirectory(tmp_path / "cluster")
    yield made
    clusters.stop(made, purge=True)


def up(of: RocketMQCluster, directory: ClusterDirectory) -> ClusterState:
    lock = starting.claim(directory, starting.digest_of(of, OPTIONS), "-")
    with HeldPorts() as held:
        try:
            plan = starting.make_plan(of, directory, OPTIONS, source="-", held=held)
        except BaseException:
            lock.release()
            raise
        return starting.start_detached(plan, directory, lock)


async def send(state: ClusterState, bodies: list[bytes]) -> None:
    async with Admin(state.name_servers) as admin, Producer(state.name_servers) as producer:
        await admin.topics.create(TOPIC, queues=4)
        for body in bodies:
            await producer.send(TOPIC, body)


async def receive(state: ClusterState, count: int, group: str) -> set[bytes]:
    received: set[bytes] = set()
    consumer = PushConsumer(state.name_servers, group=group, topics={TOPIC: "*"}, consume_from=ConsumeFrom.FIRST)
    async with consumer:
        async for delivery in consumer:
            received.add(delivery.body)
            await delivery.ack()
            if len(received) == count:
                break
    return received


async def test_messages_outlive_down_and_up(directory: ClusterDirectory) -> None:
    of = cluster(servers=2, groups=2)
    sent = [f"message {n}".encode() for n in range(20)]
    await send(up(of, directory), sent)
    clusters.stop(directory, purge=False)
    assert await receive(up(of, directory), len(sent), "first") == set(sent)


async def test_a_killed_broker_comes_back_with_its_messages(directory: ClusterDirectory) -> None:
    state = up(cluster(), directory)
    sent = [f"message {n}".encode() for n in range(20)]
    await send(state, sent)
    broker = state.processes[1]
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = read_state(directory)
        return now is not None and now.processes[1].ready and now.processes[1].restarts == 1

    wait_until(is_back, "the broker is ready again")
    assert await receive(state, len(sent), "first") == set(sent)


async def test_every_broker_is_known_to_every_name_server_when_up_returns(directory: ClusterDirectory) -> None:
    state = up(cluster(servers=2, groups=2), directory)
    for name_server in state.name_servers:
        async with Admin(name_server) as admin:
            known = {b.address for b in (await admin.brokers.cluster()).addresses()}
        assert known == {p.address for p in state.processes if p.role == "broker"}


@pytest.mark.timeout(240)
async def test_a_group_of_two_replaces_its_killed_master_and_changes_it_on_request(
    directory: ClusterDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> dict[str, Any]:
        assert main([*words, "--data", str(directory.root), "-o", "json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    # Replicas that could not prove their secret to each other would never be in sync.
    state = up(cluster(replicas_per_group=2, replication_secret=ReplicationSecret(name="shared")), directory)
    sent = [f"message {n}".encode() for n in range(20)]
    await send(state, sent)
    first = {p["name"]: p["brokerRole"] for p in told("ps")["processes"] if p["role"] == "broker"}
    assert sorted(first.values()) == ["SLAVE", "SYNC_MASTER"]
    wait_until(lambda: len((read_lease(directory, "demo-b0") or LeaseRecord()).in_sync) == 2, "both are in sync")

    killed = await asyncio.to_thread(told, "chaos", "kill-master")
    assert first[killed["killed"]] == "SYNC_MASTER"
    # Which of the two leads now depends on how soon the killed one was back.
    assert killed["master"] in first
    assert await receive(state, len(sent), "after-kill") == set(sent)

    wait_until(lambda: len((read_lease(directory, "demo-b0") or LeaseRecord()).in_sync) == 2, "the killed one is back")
    (other,) = first.keys() - {killed["master"]}
    changed = await asyncio.to_thread(told, "broker", "switchover", "--to", other)
    assert (changed["from"], changed["master"]) == (killed["master"], other)
    assert await receive(state, len(sent), "after-switchover") == set(sent)
    roles = {p["name"]: p["brokerRole"] for p in told("ps")["processes"] if p["role"] == "broker"}
    assert roles == {other: "SYNC_MASTER", killed["master"]: "SLAVE"}


def test_a_broker_that_refuses_its_configuration_is_quoted(directory: ClusterDirectory) -> None:
    with pytest.raises(CommandError) as caught:
        up(cluster(config={"maxMessageSize": "much"}), directory)
    assert "demo-b0-0 exited with code" in caught.value.what
    assert "maxMessageSize" in caught.value.details


def test_a_store_locked_by_another_broker_is_one_line(directory: ClusterDirectory, tmp_path: Path) -> None:
    state = up(cluster(), directory)
    store = state.processes[1].store_directory
    done = subprocess.run(
        [
            *[sys.executable, "-m", "rocketmq_broker", "--set", f"storePathRootDir={store}"],
            *["--set", "listenPort=0", "--set", "bindAddress=127.0.0.1", "--set", "brokerIP1=127.0.0.1"],
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert str(store) in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demonstration_succeeds_and_leaves_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rocketmq_tools.demo"], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "demo-b0" in done.stdout
    assert "demo-b1" in done.stdout
    assert "nothing is left running" in done.stdout


def test_readiness_is_reached_in_the_time_promised_to_users(directory: ClusterDirectory) -> None:
    state = up(cluster(servers=2, groups=2), directory)
    assert state.ready_after_ms is not None
    # 2 s on an idle machine; the suite runs beside other work.
    assert state.ready_after_ms < 10_000
    assert msgspec.json.decode(directory.state.read_bytes())["phase"] == "Running"
