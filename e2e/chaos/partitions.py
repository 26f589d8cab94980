"""Groups of three real brokers whose links are cut, one way and both, again and again, and whose processes freeze.

Clients reach every replica all the time, the one that is cut off too: who acknowledges then what the others do not have, or takes
a place in a queue that another gives away as well, is found. Leases are Kubernetes Leases at a server of ours, a party like others.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from e2e import frames
from e2e.chaos import network
from e2e.chaos.kills import judge
from e2e.chaos.lease_server import LeaseServer
from e2e.chaos.network import Network, Party
from e2e.chaos.outcomes import Outcome, Scale
from e2e.local.history import body_of, read_queue
from e2e.local.replica_group import ReplicaGroup
from e2e.local.writer import QUEUE_COUNT, SEND_MESSAGE_V2
from e2e.processes import wait_until
from e2e.toolchain import E2E
from rocketmq_testkit.history import History

TOPIC: Final = "PartitionTopic"
REPLICAS: Final = 3
TRIALS: Final = (4, 60)
# Shorter than the defaults, for more trials; a fault lasts longer than a lease.
TIMINGS: Final = {"leaseDuration": "3000", "leaseRenewDeadline": "2000", "leaseRetryPeriod": "300", "switchoverTimeout": "2000",
                  "haSendHeartbeatInterval": "300", "haHousekeepingInterval": "3000", "slaveTimeout": "2000"}  # fmt: skip
FAULT_S: Final = (4.5, 7.0)
FLAP_S: Final = (0.1, 1.2)
WAIT_S_MAX: Final = 90.0
CALL_S_MAX: Final = 4.0
LEADS = re.compile(r"this replica leads \S+: epoch (\d+) ")


class Scene(NamedTuple):
    """What a fault is done to; ``master`` is the replica that led when it began."""

    net: Network
    group: ReplicaGroup
    parties: list[Party]
    leases: Party
    master: int
    chance: random.Random

    @property
    def others(self) -> list[Party]:
        return [party for index, party in enumerate(self.parties) if index != self.master]

    @property
    def lead(self) -> list[Party]:
        return [self.parties[self.master]]

    def last(self) -> None:
        time.sleep(self.chance.uniform(*FAULT_S))


def master_alone(scene: Scene) -> None:
    scene.net.part(scene.lead, [*scene.others, scene.leases])
    scene.last()


def master_without_leases(scene: Scene) -> None:
    scene.net.part(scene.lead, [scene.leases])
    scene.last()


def answers_of_leases_lost(scene: Scene) -> None:
    scene.net.cut([scene.leases], scene.lead)
    scene.last()


def master_unheard(scene: Scene) -> None:
    scene.net.cut(scene.lead, scene.others)
    scene.last()


def master_deaf(scene: Scene) -> None:
    scene.net.cut(scene.others, scene.lead)
    scene.last()


def no_leases(scene: Scene) -> None:
    scene.net.part([scene.leases], scene.parties)
    scene.last()


def slave_alone(scene: Scene) -> None:
    slave = scene.chance.choice(scene.others)
    scene.net.part([slave], [*scene.lead, *scene.others, scene.leases])
    scene.last()


def bridge(scene: Scene) -> None:
    scene.net.part(scene.lead, [scene.chance.choice(scene.others)])
    scene.last()


def flapping(scene: Scene) -> None:
    end = time.monotonic() + scene.chance.uniform(*FAULT_S)
    while time.monotonic() < end:
        some = scene.chance.sample([*scene.parties, scene.leases], 2)
        (scene.net.part if scene.chance.random() < 0.5 else scene.net.cut)(some[:1], some[1:])
        scene.net.part(scene.lead, scene.others)
        time.sleep(scene.chance.uniform(*FLAP_S))
        scene.net.heal()
        time.sleep(scene.chance.uniform(*FLAP_S))


def master_frozen(scene: Scene) -> None:
    _freeze(scene, scene.master)


def master_frozen_and_cut_off(scene: Scene) -> None:
    """It wakes up without a way to learn that its reign is over."""
    scene.net.part(scene.lead, [*scene.others, scene.leases])
    _freeze(scene, scene.master)
    scene.last()


def slave_frozen(scene: Scene) -> None:
    _freeze(scene, scene.chance.choice([index for index in range(REPLICAS) if index != scene.master]))


def _freeze(scene: Scene, index: int) -> None:
    pid = scene.group.replicas[index].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        scene.last()
    finally:
        os.kill(pid, signal.SIGCONT)


FAULTS: Final[tuple[Callable[[Scene], None], ...]] = (
    master_alone, flapping, master_frozen, master_deaf, answers_of_leases_lost, master_unheard, master_without_leases, bridge,
    master_frozen_and_cut_off, no_leases, slave_alone, slave_frozen,
)  # fmt: skip


class Client:
    """Sends numbered messages to one replica from a thread of its own, one after the other, whatever happens."""

    def __init__(self, address: str, history: History, lock: threading.Lock, numbers: Iterator[int]) -> None:
        self._address, self._history, self._lock, self._numbers = address, history, lock, numbers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client of {address}")
        self._link: frames.Link | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the send that is under way."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                number = next(self._numbers)
                self._history.attempted.add(number)
            try:
                if self._link is None:
                    self._link = frames.Link(self._address, timeout_seconds=CALL_S_MAX)
                answer = self._link.call(SEND_MESSAGE_V2, _fields(number), body_of(number, 200))
            except (OSError, ValueError):
                if self._link is not None:
                    self._link.close()
                self._link = None
                self._stopping.wait(0.05)
                continue
            if answer.code == 0:
                self._note(number, (int(answer.ext["queueId"]), int(answer.ext["queueOffset"])))
            else:
                self._stopping.wait(0.02)
        if self._link is not None:
            self._link.close()

    def _note(self, number: int, place: tuple[int, int]) -> None:
        with self._lock:
            self._history.acknowledge(number, *place, at=time.monotonic())


def _fields(number: int) -> dict[str, str]:
    return {
        "a": "chaos", "b": TOPIC, "c": "TBW102", "d": str(QUEUE_COUNT), "e": str(number % QUEUE_COUNT), "f": "0",
        "g": str(int(time.time() * 1000)), "h": "0", "i": "WAIT\x01true\x02", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip


class LeasedGroup(ReplicaGroup):
    """A group whose Lease is at a `LeaseServer`, each replica a party of the network."""

    def __init__(self, directory: Path, leases: LeaseServer) -> None:
        super().__init__(
            directory, REPLICAS, network=[Party(index, ()).group_id for index in range(REPLICAS)], leaseDirectory="",
            leaseNamespace="chaos", minInSyncReplicas="2", **TIMINGS,
        )  # fmt: skip
        self._server = leases
        for replica in self.replicas:
            replica.command[replica.command.index("rocketmq_broker")] = "e2e.chaos.leasing_broker"
            replica.environment |= {
                "ROCKETMQ_CHAOS_LEASES": f"http://127.0.0.1:{leases.port}",
                "PYTHONPATH": os.pathsep.join(filter(None, (str(E2E.parent), os.environ.get("PYTHONPATH", "")))),
            }

    def lease(self) -> dict[str, Any]:
        record: dict[str, Any] = msgspec.to_builtins(self._server.record(self.name))
        return record if record["epoch"] else {}

    def parties(self) -> list[Party]:
        """The replicas: their remoting, VIP and replication ports."""
        ports = [int(address.rpartition(":")[2]) for address in self.addresses]
        return [Party(index, (port, port - 2, port + 1)) for index, port in enumerate(ports)]


def run(directory: Path, scale: Scale) -> Outcome:
    """Each kind of fault in turn, each longer than a lease, under load."""
    outcome = Outcome(skipped=network.problem())
    if not outcome.skipped:
        # The namespace is that of a thread: this one's stays what it was.
        thread = threading.Thread(target=_guarded, args=(directory, scale, outcome), name="partitions")
        thread.start()
        thread.join()
    return outcome


def _guarded(directory: Path, scale: Scale, outcome: Outcome) -> None:
    try:
        net = Network()
    except OSError as error:
        outcome.skipped = str(error)
        return
    try:
        _run(directory, scale, outcome, net)
    except Exception as error:  # noqa: BLE001 - told by the outcome, as this thread's end would not be
        outcome.errors.append(f"{type(error).__name__}: {error}")


def _run(directory: Path, scale: Scale, outcome: Outcome, net: Network) -> None:
    chance, history = random.Random(scale.seed), History()
    with LeaseServer() as leases:
        group = LeasedGroup(directory, leases)
        parties, store = group.parties(), Party(REPLICAS, (leases.port,))
        # Before the first connection: those that are open already would carry no mark.
        net.join([*parties, store])
        _try(group, Scene(net, group, parties, store, 0, chance), history, scale, outcome)


def _try(group: LeasedGroup, scene: Scene, history: History, scale: Scale, outcome: Outcome) -> None:
    with group:
        group.wait_master(in_sync=REPLICAS, seconds=WAIT_S_MAX)
        slowest = 0.0
        with _clients(group, history):
            for number in range(scale.of(*TRIALS)):
                master = int(group.lease()["holder"].split("/")[0].rpartition("-")[2])
                fault = FAULTS[number % len(FAULTS)]
                try:
                    fault(scene._replace(master=master))
                finally:
                    scene.net.heal()
                healed_at, acknowledged = time.monotonic(), len(history.acknowledged)
                try:
                    group.wait_master(in_sync=REPLICAS, seconds=WAIT_S_MAX)
                    wait_until(lambda n=acknowledged: len(history.acknowledged) > n + 50, "sends succeed", WAIT_S_MAX)  # type: ignore[misc]
                except TimeoutError as error:
                    outcome.errors.append(
                        f"{fault.__name__} ({number}): not whole after healing: {error}: {group.lease()}"
                    )
                    break
                slowest = max(slowest, time.monotonic() - healed_at)
                outcome.runs += 1
        _judge(group, history, outcome)
        outcome.notes.append(
            f"{len(history.acknowledged)} of {len(history.attempted)} sends acknowledged, epoch {group.lease()['epoch']} "
            f"in the end; whole again at most {slowest:.1f} s after healing"
        )


@contextmanager
def _clients(group: ReplicaGroup, history: History) -> Iterator[None]:
    lock, numbers = threading.Lock(), itertools.count()
    clients = [Client(address, history, lock, numbers) for address in group.addresses]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop()


def _judge(group: ReplicaGroup, history: History, outcome: Outcome) -> None:
    group.wait_equal(WAIT_S_MAX)
    master = group.wait_master(seconds=WAIT_S_MAX)
    with frames.Link(group.addresses[master], timeout_seconds=20.0) as link:
        found = {queue: read_queue(link, TOPIC, queue) for queue in range(QUEUE_COUNT)}
    judge(outcome, history, found, "in the end", ordered=False)
    taken: dict[tuple[Any, int], int] = {}
    for number, place in history.acknowledged.items():
        if taken.setdefault(place, number) != number:
            outcome.lost.append(f"two masters: {taken[place]} and {number} were both acknowledged at {place}")
    group.wait_equal(WAIT_S_MAX)
    if len(set(group.logs())) != 1:
        outcome.errors.append("the logs differ in the end")
    leaders: dict[str, set[str]] = {}
    for replica in group.replicas:
        for epoch in LEADS.findall(replica.output.read_text(errors="replace")):
            leaders.setdefault(epoch, set()).add(replica.name)
    outcome.errors += [f"epoch {epoch} was led by {names}" for epoch, names in leaders.items() if len(names) > 1]
    assert leaders, "no replica said that it leads: the pattern is wrong"
