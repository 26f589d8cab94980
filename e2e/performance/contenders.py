"""The two brokers side by side: the one that is not measured is stopped by a signal, so that runs can alternate.

Every broker is pinned to one core and the generator to another. Both kinds run with their default settings; only identity,
ports and paths are set.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e import frames
from e2e.clusters import GET_BROKER_CLUSTER_INFO, Broker, Cluster, Kind
from e2e.performance import observation
from e2e.performance.generator import Load, closed_loop
from e2e.performance.observation import CpuMeter
from e2e.performance.pools import QUEUE_COUNT, Pool, single_sends
from e2e.processes import Process, wait_until

APACHE_OPTIONS = ("-Xms1g", "-Xmx2g", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=2g")
UPDATE_AND_CREATE_TOPIC = 17
GET_BROKER_RUNTIME_INFO = 28
GET_MAX_OFFSET = 30
# Read at import, before the generator pins itself.
CORES = sorted(os.sched_getaffinity(0))
BROKER_CORE, GENERATOR_CORE = CORES[0], CORES[-1]
SETTLE_SECONDS = 1.0
WARM_TOPIC = "BenchWarm"
WARM_POOL_FRAMES = 50_000
# A JIT compiler that shares its core may need longer than any fixed time: warm up until three slices gain less than 5 %.
WARM_FIRST_SECONDS = 5.0
# A master that waits for its slave answers within slaveTimeout (3 s) that there is none.
SLAVE_SECONDS = 10.0
WARM_SLICE_SECONDS = 5.0
WARM_SLICES_MAX = 40
WARM_LEVEL_SLICES = 3
WARM_GAIN_NOTABLE = 0.95


@dataclass(slots=True)
class Contender:
    """A running broker of one kind."""

    kind: Kind
    cluster: Cluster
    slaves: Cluster | None = None
    topics: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return self.cluster.broker.address

    @property
    def pid(self) -> int:
        return self.cluster.broker.process.pid

    @property
    def slave(self) -> Broker:
        """The broker's slave; only in modes that have one."""
        assert self.slaves is not None, "this mode has no slave"
        return self.slaves.broker

    def processes(self) -> list[Process]:
        """Of the brokers."""
        clusters = [self.cluster] if self.slaves is None else [self.cluster, self.slaves]
        return [broker.process for cluster in clusters for broker in cluster.brokers.values()]

    def add_slave(self) -> None:
        """Start a slave on the broker's core and wait until it acknowledges what is sent."""
        cluster = self.cluster
        self.slaves = Cluster(
            cluster.kind, cluster.directory / "slave", settings=cluster.settings, java_options=cluster.java_options,
            broker_prefix=cluster.broker_prefix, namesrv_ports=cluster.namesrv_ports,
        )  # fmt: skip
        self.slaves.directory.mkdir()
        self.slaves.add_broker(cluster.broker.name, broker_id=1, brokerRole="SLAVE")
        self.create_topic(WARM_TOPIC)
        pool = single_sends(WARM_TOPIC, 128, 1)

        def acknowledges() -> bool:
            self.slave.process.check()
            return closed_loop(self.address, pool, 1, SLAVE_SECONDS, requests_max=1).codes == {0: 1}

        wait_until(acknowledges, f"{self.kind}: a send is acknowledged", 120, poll_seconds=0.1)
        self.wait_replicated()

    def wait_replicated(self) -> None:
        """Wait until the slave's log ends where the master's does."""

        def is_level() -> bool:
            try:
                answers = [
                    frames.call(address, GET_BROKER_RUNTIME_INFO) for address in (self.address, self.slave.address)
                ]
            except OSError:
                return False  # it starts
            # Apache's broker answers with an error until it has taken its first statistics.
            return (
                all(answer.code == 0 for answer in answers)
                and len({answer.json()["table"]["commitLogMaxOffset"] for answer in answers}) == 1
            )

        wait_until(is_level, f"{self.kind}: master and slave are level", 120, poll_seconds=0.05)

    def stop(self) -> None:
        """End the brokers and the name server."""
        if self.slaves is not None:
            self.slaves.stop()
        self.cluster.stop()

    def create_topic(self, topic: str) -> None:
        """Make a topic of four queues; again is no error."""
        if topic in self.topics:
            return
        ext = {
            "topic": topic, "defaultTopic": "TBW102", "perm": "6",
            "readQueueNums": str(QUEUE_COUNT), "writeQueueNums": str(QUEUE_COUNT),
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false", "attributes": "", "force": "false",
        }  # fmt: skip
        answer = frames.call(self.address, UPDATE_AND_CREATE_TOPIC, ext)
        if answer.code != 0:
            raise RuntimeError(f"{self.kind}: topic {topic}: code {answer.code}, {answer.remark}")
        self.topics.add(topic)

    def stored(self, topic: str) -> int:
        """How many messages the queues of ``topic`` hold, by their maximum offsets."""
        return sum(self.max_offsets(topic))

    def max_offsets(self, topic: str) -> list[int]:
        """The next offset of each queue."""
        ext = {"topic": topic, "committed": "true"}
        return [
            int(frames.call(self.address, GET_MAX_OFFSET, ext | {"queueId": str(queue)}).ext["offset"])
            for queue in range(QUEUE_COUNT)
        ]

    def wait_dispatched(self) -> None:
        """Wait until consumers could read everything: Apache's broker answers sends long before when batches press."""

        def is_level() -> bool:
            table = frames.call(self.address, GET_BROKER_RUNTIME_INFO).json()["table"]
            return int(table["dispatchBehindBytes"]) <= 0

        wait_until(is_level, f"{self.kind}: everything is dispatched", 120, poll_seconds=0.1)

    def fill(self, topic: str, pool: Pool, requests: int) -> None:
        """Send ``requests`` frames of ``pool`` and wait until a consumer could read all of it."""
        self.create_topic(topic)
        before = self.stored(topic)
        load = closed_loop(self.address, pool, 8, 600.0, requests_max=requests)
        if set(load.codes) != {0}:
            raise RuntimeError(f"{self.kind}: filling {topic}: codes {load.codes}")
        wait_until(lambda: self.stored(topic) >= before + load.messages, f"{topic} is dispatched", 120)


def prepare(kind: Kind, directory: Path, settings: Mapping[str, str]) -> Contender:
    """A name server that listens, for a broker yet to be started on its core; default settings apart from ``settings``."""
    cluster = Cluster(
        kind,
        directory,
        settings=settings,
        java_options=APACHE_OPTIONS,
        broker_prefix=("taskset", "-c", str(BROKER_CORE)),
        namesrv_prefix=("taskset", "-c", str(GENERATOR_CORE)),
    )
    directory.mkdir(parents=True)
    process = cluster.start_namesrv(0)

    def answers() -> bool:
        process.check()
        try:
            return frames.call(cluster.namesrv_address, GET_BROKER_CLUSTER_INFO).code == 0
        except OSError:
            return False

    wait_until(answers, "the name server answers")
    return Contender(kind, cluster)


def warm_up(contender: Contender, cpu_seconds_min: float) -> Load:
    """Load at window 64 until the broker no longer gets cheaper; return the first part, from the first moment of the process.

    Judged by CPU per message, not by rate: a neighbour that takes the core for a while would look like the end of the warming.
    """
    contender.create_topic(WARM_TOPIC)
    pool = single_sends(WARM_TOPIC, 128, WARM_POOL_FRAMES)
    start = observation.cpu_seconds(contender.pid)
    first = closed_loop(contender.address, pool, 64, WARM_FIRST_SECONDS)
    best, level_slices = float("inf"), 0
    for _ in range(WARM_SLICES_MAX):
        meter = CpuMeter(contender.pid)
        meter.start()
        load = closed_loop(contender.address, pool, 64, WARM_SLICE_SECONDS)
        meter.stop()
        cost = meter.us_per_message(load.messages)
        level_slices = 0 if cost < best * WARM_GAIN_NOTABLE else level_slices + 1
        best = min(best, cost)
        if level_slices >= WARM_LEVEL_SLICES and observation.cpu_seconds(contender.pid) - start >= cpu_seconds_min:
            return first
    print(f"{contender.kind}: still getting cheaper after {WARM_SLICES_MAX} slices of warming", file=sys.stderr)
    return first


@contextmanager
def paused(stopped: Sequence[Contender]) -> Iterator[None]:
    """Stop these brokers by a signal for as long as the block runs."""
    running = [process for contender in stopped for process in contender.processes() if process.is_running]
    for process in running:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in running:
            os.kill(process.pid, signal.SIGCONT)


@contextmanager
def alone(contender: Contender, everybody: Sequence[Contender]) -> Iterator[None]:
    """Stop the other brokers while this one is measured."""
    with paused([other for other in everybody if other is not contender]):
        time.sleep(SETTLE_SECONDS)
        yield
