"""kill -9 under load, again and again, in both flush modes."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path

import pytest

from e2e import frames
from e2e.clusters import Cluster, Kind
from e2e.local.history import read_queue
from e2e.local.writer import QUEUE_COUNT, Writer
from e2e.processes import wait_until
from rocketmq_testkit.history import History

# The issue asks for 50: ROCKETMQ_CRASH_ROUNDS=50.
ROUNDS = int(os.environ.get("ROCKETMQ_CRASH_ROUNDS", "4"))
SEED = int(os.environ.get("ROCKETMQ_SEED", "20261124"))
pytestmark = [pytest.mark.local, pytest.mark.timeout(60 + 20 * ROUNDS)]
TOPIC = "CrashTopic"
ACKNOWLEDGED_UNTIL_CRASH = (50, 5000)
RESTART_SECONDS_MAX = 15.0
SMALL_SEGMENTS = {"mappedFileSizeCommitLog": str(1024 * 1024), "mappedFileSizeConsumeQueue": str(20 * 1000)}


def answers(address: str) -> bool:
    try:
        return frames.call(address, 28, timeout_seconds=2.0).code == 0
    except OSError:
        return False


def has_acknowledged(history: History, count: int) -> bool:
    return len(history.acknowledged) >= count


@pytest.mark.parametrize("flush", ["ASYNC_FLUSH", "SYNC_FLUSH"])
def test_kill_9_under_load_loses_nothing_acknowledged_and_needs_no_help(tmp_path: Path, flush: str) -> None:
    chance = random.Random(SEED)
    history = History()
    with Cluster(Kind.OURS, tmp_path / "cluster", settings=SMALL_SEGMENTS | {"flushDiskType": flush}) as cluster:
        broker = cluster.broker
        for number in range(ROUNDS):
            writer = Writer(broker.address, TOPIC, history)
            enough = len(history.acknowledged) + chance.randrange(*ACKNOWLEDGED_UNTIL_CRASH)
            writer.start()
            wait_until(partial(has_acknowledged, history, enough), f"{enough} sends are acknowledged", 30, 0.001)

            broker.process.kill()
            writer.join()
            broker.process.start()
            wait_until(lambda: answers(broker.address), f"restart {number}", RESTART_SECONDS_MAX)

            assert writer.failures == []
            with frames.Link(broker.address) as link:
                found = {queue: read_queue(link, TOPIC, queue) for queue in range(QUEUE_COUNT)}
            assert history.problems(found) == [], f"round {number}, seed {SEED}"


def test_an_orderly_stop_under_load_loses_nothing_and_ends_with_0(tmp_path: Path) -> None:
    history = History()
    with Cluster(Kind.OURS, tmp_path / "cluster", settings=SMALL_SEGMENTS) as cluster:
        broker = cluster.broker
        writer = Writer(broker.address, TOPIC, history)
        writer.start()
        wait_until(lambda: len(history.acknowledged) >= 1000, "sends are acknowledged", 20)

        code = broker.process.stop()
        writer.join()

        assert code == 0, broker.process.tail()
        assert not (broker.store / "abort").exists()
        broker.process.start()
        wait_until(lambda: answers(broker.address), "restart", RESTART_SECONDS_MAX)
        with frames.Link(broker.address) as link:
            found = {queue: read_queue(link, TOPIC, queue) for queue in range(QUEUE_COUNT)}
        assert history.problems(found) == []
