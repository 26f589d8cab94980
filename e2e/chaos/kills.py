"""kill -9 of real brokers under load, alone and replicated, and the end of a broker whose fsync failed."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Final

from e2e import frames
from e2e.chaos.outcomes import Outcome, Scale
from e2e.clusters import Broker, Cluster, Kind
from e2e.local.history import body_of, read_queue
from e2e.local.writer import QUEUE_COUNT, Writer
from e2e.processes import Process, wait_until
from e2e.toolchain import E2E
from rocketmq_client import ClientError, Producer, SendStatus
from rocketmq_testkit.history import Found, History

TOPIC: Final = "ChaosTopic"
SMALL: Final = {
    "mappedFileSizeCommitLog": str(1 << 20), "mappedFileSizeConsumeQueue": "20000", "maxIndexNum": "20000",
    "maxHashSlotNum": "5000", "registerNameServerPeriod": "10000", "waitTimeMillsInSendQueue": "10000",
}  # fmt: skip
RESTART_S_MAX: Final = 30.0
ACKNOWLEDGED_UNTIL_KILL: Final = (50, 3000)
SINGLE_CYCLES: Final = (3, 40)
REPLICATED_CYCLES: Final = (4, 40)  # of each mode
# What a replicated group promises when any of its processes is killed, by mode: (flush, role, sends need the slave).
MODES: Final = (
    ("ASYNC_FLUSH", "SYNC_MASTER"),
    ("SYNC_FLUSH", "SYNC_MASTER"),
    ("ASYNC_FLUSH", "ASYNC_MASTER"),
)
IN_FLIGHT: Final = 32
# A broker exits with this code when it must not go on.
EXIT_FATAL: Final = 70
GET_BROKER_RUNTIME_INFO: Final = 28
GET_ALL_TOPIC_CONFIG: Final = 21
CAUGHT_UP_S_MAX: Final = 60.0


def is_answering(address: str) -> bool:
    """The broker serves."""
    try:
        return frames.call(address, GET_BROKER_RUNTIME_INFO, timeout_seconds=2.0).code == 0
    except (OSError, ValueError):
        return False


def found_in(address: str, topic: str = TOPIC) -> Found:
    """The numbers in each queue of the topic at one broker."""
    with frames.Link(address, timeout_seconds=20.0) as link:
        return {queue: read_queue(link, topic, queue) for queue in range(QUEUE_COUNT)}


def judge(outcome: Outcome, history: History, found: Found, label: str, *, ordered: bool = True) -> None:
    """Add what the history says about ``found``."""
    verdict = history.judge(found, ordered=ordered)
    outcome.lost += [f"{label}: {line}" for line in verdict.lost[:5]]
    outcome.phantoms += [f"{label}: {line}" for line in verdict.phantoms[:5]]
    outcome.errors += [f"{label}: {line}" for line in verdict.disorder[:5]]
    outcome.errors += [f"{label}: {line}" for line in history.observe(found)[:5]]


# One broker alone.


def single_async(directory: Path, scale: Scale) -> Outcome:
    """kill -9 with ASYNC_FLUSH: what was answered is with the kernel, so nothing may be lost."""
    return _single(directory, scale, "ASYNC_FLUSH")


def single_sync(directory: Path, scale: Scale) -> Outcome:
    """kill -9 with SYNC_FLUSH."""
    return _single(directory, scale, "SYNC_FLUSH")


def _single(directory: Path, scale: Scale, flush: str) -> Outcome:
    outcome, history, chance = Outcome(), History(), random.Random(scale.seed)
    with Cluster(Kind.OURS, directory / "cluster", settings=SMALL | {"flushDiskType": flush}) as cluster:
        broker = cluster.broker
        for number in range(scale.of(*SINGLE_CYCLES)):
            writer = Writer(broker.address, TOPIC, history)
            enough = len(history.acknowledged) + chance.randrange(*ACKNOWLEDGED_UNTIL_KILL)
            writer.start()
            wait_until(partial(_has_acknowledged, history, enough), f"{enough} sends are acknowledged", 60, 0.001)
            broker.process.kill()
            writer.join()
            if number % 3 == 2:
                _kill_during_recovery(broker, chance)
            broker.process.start()
            wait_until(partial(is_answering, broker.address), f"restart {number}", RESTART_S_MAX)
            outcome.runs += 1
            label = f"{flush}, kill {number}, seed {scale.seed}"
            outcome.errors += [f"{label}: {line}" for line in writer.failures]
            judge(outcome, history, found_in(broker.address), label)
            if outcome.problems:
                break
    return outcome


def _has_acknowledged(history: History, count: int) -> bool:
    return len(history.acknowledged) >= count


def _kill_during_recovery(broker: Broker, chance: random.Random) -> None:
    """Start and kill once more before it can be ready (F02)."""
    broker.process.start()
    time.sleep(chance.uniform(0.05, 0.8))
    broker.process.kill()


# Master and slave, with our own client.


def replicated(directory: Path, scale: Scale) -> Outcome:
    """kill -9 of master or slave in every mode: nothing answered with success is lost; the logs agree in the end."""
    outcome = Outcome()
    for flush, role in MODES:
        place = directory / f"{flush}-{role}"
        place.mkdir()
        _replicated_mode(place, scale, flush, role, outcome)
    return outcome


class Sender:
    """Our client in a thread of its own: numbered messages to fixed queues, some in flight, through every interruption."""

    def __init__(self, namesrv: str, history: History) -> None:
        self._namesrv = namesrv
        self._history = history
        self._stopping = threading.Event()
        self._numbers = iter(range(1 << 40))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="chaos-sender")
        self.weaker_count = 0
        self.failure = ""

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Let what is in flight be answered, then end."""
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        async with Producer(self._namesrv, attempts=1, send_timeout_ms=4000) as producer:
            await asyncio.gather(*(self._send_on(producer) for _ in range(IN_FLIGHT)))

    async def _send_on(self, producer: Producer) -> None:
        while not self._stopping.is_set():
            number = next(self._numbers)
            self._history.attempted.add(number)
            try:
                receipt = await producer.send(TOPIC, body_of(number, 200), keys=f"n{number}")
            except ClientError:
                await asyncio.sleep(0.05)  # nobody takes messages now: the number stays attempted
                continue
            if receipt.status is SendStatus.SEND_OK:
                place = receipt.queue.queue_id, receipt.queue_offset
                self._history.acknowledge(number, *place, at=time.monotonic())
            else:
                self.weaker_count += 1


def _replicated_mode(directory: Path, scale: Scale, flush: str, role: str, outcome: Outcome) -> None:
    chance, history = random.Random(scale.seed), History()
    is_sync = role == "SYNC_MASTER"
    settings = SMALL | {
        "flushDiskType": flush, "haSendHeartbeatInterval": "500", "haHousekeepingInterval": "3000", "slaveTimeout": "2000",
        "haReconnectInterval": "200",
    }  # fmt: skip
    cluster = Cluster(Kind.OURS, directory / "cluster", settings=settings, broker_names=())
    with cluster:
        master = cluster.add_broker("broker-a", brokerRole=role, inSyncReplicas="2" if is_sync else "1")
        cluster.wait_registered()
        slave = cluster.add_broker(
            "broker-a", broker_id=1, brokerRole="SLAVE", haMasterAddress=f"127.0.0.1:{master.port + 1}"
        )
        try:
            wait_until(partial(is_answering, slave.address), "the slave is up", RESTART_S_MAX)
            sender = Sender(cluster.namesrv_address, history)
            sender.start()
            try:
                for number in range(scale.of(*REPLICATED_CYCLES)):
                    _kill_one(chance, history, master, slave, outcome, number)
            finally:
                sender.stop()
            label = f"{flush} {role}, seed {scale.seed}"
            judge(outcome, history, found_in(master.address), label, ordered=False)
            outcome.notes.append(f"{label}: {len(history.acknowledged)} acknowledged, {sender.weaker_count} with less")
            _compare_logs(master, slave, outcome, label)
            if is_sync:
                _judge_slave_alone(master, slave, history, outcome, label)
        finally:
            slave.process.stop()
            master.process.stop()


def _kill_one(
    chance: random.Random, history: History, master: Broker, slave: Broker, outcome: Outcome, number: int
) -> None:
    enough = len(history.acknowledged) + chance.randrange(20, 800)
    wait_until(partial(_has_acknowledged, history, enough), f"kill {number}: sends succeed", 60, 0.001)
    victims = chance.choice(((master,), (slave,), (master, slave)))
    for victim in victims:
        victim.process.kill()
    for victim in victims:
        victim.process.start()
    for victim in victims:
        wait_until(partial(is_answering, victim.address), f"{victim.process.name} is back", RESTART_S_MAX)
    outcome.runs += 1


def log_end(broker: Broker) -> int:
    """End of a broker's log, as it says itself."""
    info = frames.call(broker.address, GET_BROKER_RUNTIME_INFO).json()["table"]
    return int(info["commitLogMaxOffset"])


def _compare_logs(master: Broker, slave: Broker, outcome: Outcome, label: str) -> None:
    try:
        wait_until(lambda: log_end(master) == log_end(slave), f"{label}: the slave caught up", CAUGHT_UP_S_MAX)
    except TimeoutError as error:
        outcome.errors.append(f"{label}: {error}: {log_end(master)} and {log_end(slave)}")
        return
    end = log_end(master)
    for path in sorted((master.store / "commitlog").iterdir()):
        size = max(0, min(end - int(path.name), path.stat().st_size))
        other = slave.store / "commitlog" / path.name
        if size and path.read_bytes()[:size] != other.read_bytes()[:size]:
            outcome.errors.append(f"{label}: {path.name} differs between master and slave")


def _judge_slave_alone(master: Broker, slave: Broker, history: History, outcome: Outcome, label: str) -> None:
    """The master's disk is gone: what was answered with success is at the slave."""
    # Tables follow the log on their own clock; until they have, the slave holds the messages of a topic it does not know.
    wait_until(lambda: _knows_topic(slave), f"{label}: the slave knows the topic", CAUGHT_UP_S_MAX)
    master.process.kill()
    found = found_in(slave.address)
    judge(outcome, history, found, f"{label}, the slave alone", ordered=False)


def _knows_topic(broker: Broker) -> bool:
    return TOPIC.encode() in frames.call(broker.address, GET_ALL_TOPIC_CONFIG).body


# A disk that fails.


def failed_fsync(directory: Path, scale: Scale) -> Outcome:
    """The n-th fsync of a real broker fails: it answers nothing after that, ends with its code at once, and loses nothing."""
    outcome = Outcome()
    for number in range(scale.of(3, 20)):
        place = directory / str(number)
        count = 1 + 7 * number
        history = History()
        cluster = Cluster(Kind.OURS, place, settings=SMALL | {"flushDiskType": "SYNC_FLUSH"})
        with cluster:
            broker = cluster.broker
            broker.process.stop()
            sound = broker.process.command
            trigger = broker.process.directory / "fail"
            arguments = [str(trigger), str(count), *sound[sound.index("rocketmq_broker") + 1 :]]
            failing = ["-m", "e2e.chaos.failing_broker", *arguments]
            environment = broker.process.environment | {"PYTHONPATH": str(E2E.parent)}
            process = Process("failing", [sys.executable, *failing], broker.process.directory, environment)
            process.start()
            wait_until(partial(is_answering, broker.address), "the broker with the failing disk is up", RESTART_S_MAX)
            writer = Writer(broker.address, TOPIC, history)
            writer.start()
            try:
                wait_until(partial(_has_acknowledged, history, 1), "the first send", 60, 0.001)
                trigger.touch()
                code = process.wait(60)
            finally:
                process.kill()
                writer.stop()
                writer.join()
            outcome.runs += 1
            label = f"fsync {count} fails"
            if code != EXIT_FATAL:
                outcome.errors.append(f"{label}: the broker ended with {code}: {process.tail()}")
            if not (broker.store / "abort").exists():
                outcome.errors.append(f"{label}: the end was marked clean")
            broker.process.start()
            wait_until(partial(is_answering, broker.address), "the restart", RESTART_S_MAX)
            judge(outcome, history, found_in(broker.address), label)
    return outcome
