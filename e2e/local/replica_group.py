"""A broker group of real processes that elects its master, and what a test does to it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from e2e import frames
from e2e.clusters import environment
from e2e.processes import Process, free_port, wait_until
from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.leases import ask_for

GROUP = "group-b0"
CLUSTER = "failover"
GET_BROKER_HA_STATUS = 907
SMALL_STORE = {
    "mappedFileSizeCommitLog": str(1 << 20),
    "mappedFileSizeConsumeQueue": str(20 * 1000),
    "maxHashSlotNum": "5000",
    "maxIndexNum": "20000",
}


class ReplicaGroup:
    """``count`` replicas, without a name server unless ``namesrvAddr`` names one: the lease tells who leads.
    ``with`` starts and ends them.

    ``network`` names a group id for each replica's process, by which a test tells their packets apart.
    """

    def __init__(
        self, directory: Path, count: int = 3, *, name: str = GROUP, network: Sequence[int | None] = (), **settings: str
    ) -> None:
        self.name = name
        self.leases = directory / "leases"
        self.replicas: list[Process] = []
        self.addresses: list[str] = []
        self.stores: list[Path] = []
        for index in range(count):
            port = free_port((-2, 1))
            home = directory / f"{name}-{index}"
            home.mkdir(parents=True)
            values = {
                "brokerClusterName": CLUSTER, "brokerName": name, "brokerId": str(index), "brokerRole": "SYNC_MASTER",
                "brokerIP1": "127.0.0.1", "bindAddress": "127.0.0.1", "listenPort": str(port), "haListenPort": str(port + 1),
                "httpPort": "0", "storePathRootDir": str(home / "store"), "totalReplicas": str(count), "inSyncReplicas": str(count),
                "failoverMode": "Automatic", "leaseDirectory": str(self.leases), "replicaName": self.name_of(index),
                **SMALL_STORE, **settings,
            }  # fmt: skip
            words = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
            command = [sys.executable, "-m", "rocketmq_broker", *words]
            replica = Process(self.name_of(index), command, home, environment(home))
            replica.group = network[index] if network else None
            self.replicas.append(replica)
            self.addresses.append(f"127.0.0.1:{port}")
            self.stores.append(home / "store")

    def __enter__(self) -> Self:
        for replica in self.replicas:
            replica.start()
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            # Nothing is left of them that an orderly end would have to save.
            replica.kill()

    def lease(self) -> dict[str, Any]:
        """The lease's record; empty before the first."""
        try:
            record: dict[str, Any] = json.loads((self.leases / f"{self.name}.json").read_bytes())["record"]
        except FileNotFoundError:
            return {}
        return record

    def wait_master(self, *, above: int = 0, in_sync: int = 1, seconds: float = 60.0) -> int:
        """The replica that leads an epoch above ``above`` with at least so many in sync, once it takes messages."""

        def led() -> int | None:
            for replica in self.replicas:
                if replica.popen is not None and replica.popen.poll() not in (None, 0, -9):
                    replica.check()
            record = self.lease()
            if record.get("epoch", 0) <= above or len(record.get("inSync", ())) < in_sync or not record["holder"]:
                return None
            index = int(record["holder"].split("/")[0].rpartition("-")[2])
            return index + 1 if self.takes_messages(index) else None

        return wait_until(led, f"a master of an epoch above {above} with {in_sync} in sync", seconds) - 1

    def takes_messages(self, index: int) -> bool:
        """Whether a replica stores a message and its mode's promise is kept."""
        header = {
            "a": "probe", "b": "ProbeTopic", "c": "TBW102", "d": "1", "e": "0", "f": "0", "g": str(int(time.time() * 1000)),
            "h": "0", "i": "WAIT\x01true\x02", "j": "0", "k": "false", "m": "false",
        }  # fmt: skip
        try:
            return frames.call(self.addresses[index], 310, header, b"probe", timeout_seconds=5.0).code == 0
        except (OSError, ConnectionError):
            return False

    def log_end(self, index: int) -> int:
        """How far a replica's log reaches; -1 while it does not answer."""
        try:
            told = frames.call(self.addresses[index], GET_BROKER_HA_STATUS).json()
        except (OSError, ConnectionError):
            return -1
        return int(told["masterCommitLogMaxOffset"] if told["master"] else told["haClientRuntimeInfo"]["maxOffset"])

    def wait_equal(self, seconds: float = 60.0) -> None:
        """Wait until every replica's log ends at the same byte."""
        wait_until(
            lambda: len({self.log_end(index) for index in range(len(self.replicas))} | {-1}) == 2
            and self.log_end(0) >= 0,
            "all logs end at the same byte", seconds, 0.1,
        )  # fmt: skip

    def logs(self) -> list[bytes]:
        """The bytes of each replica's log, without the room behind its end; the processes should be idle or ended."""
        return [
            b"".join(path.read_bytes() for path in sorted((store / "commitlog").iterdir())).rstrip(b"\0")
            for store in self.stores
        ]

    def ask_for(self, index: int) -> None:
        """A planned switchover, as the command line asks for it."""
        ask_for(ClusterDirectory(self.leases.parent), self.name, self.name_of(index))

    def name_of(self, index: int) -> str:
        """Name of a replica, as it stands in the lease."""
        return f"{self.name}-{index}"
