"""A broker group of both kinds: a master, slaves of another kind that follow it, and how far each has come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e import frames
from e2e.clusters import GET_BROKER_CLUSTER_INFO, TEST_BROKER_SETTINGS, Broker, Cluster, Kind
from e2e.processes import wait_until

GET_BROKER_RUNTIME_INFO = 28
GET_BROKER_HA_STATUS = 907
BROKER = "broker-a"
CATCH_UP_SECONDS = 60.0
SLAVE_SETTINGS = {"brokerRole": "SLAVE", "slaveReadEnable": "true"}


class Group:
    """A master of one kind, and slaves of another around the same name server (the master's kind)."""

    def __init__(self, directory: Path, master_kind: Kind, slave_kind: Kind) -> None:
        self.masters = Cluster(master_kind, directory / "master", settings=TEST_BROKER_SETTINGS, broker_names=())
        self.slaves = Cluster(slave_kind, directory / "slave", settings=TEST_BROKER_SETTINGS, broker_names=())
        self.slaves.directory.mkdir(parents=True)

    def start_master(self, **settings: Any) -> Broker:
        self.masters.start()
        self.slaves.namesrv_ports = self.masters.namesrv_ports
        broker = self.masters.add_broker(BROKER, **settings)
        self.masters.wait_registered()
        return broker

    def start_slave(self, **settings: Any) -> Broker:
        merged: dict[str, Any] = {**SLAVE_SETTINGS, **settings}
        broker = self.slaves.add_broker(BROKER, broker_id=1, **merged)

        def registered() -> bool:
            broker.process.check()
            return "1" in self.registered_ids()

        wait_until(registered, "the slave is registered", 60)
        return broker

    def registered_ids(self) -> set[str]:
        answer = frames.call(f"127.0.0.1:{self.masters.namesrv_ports[0]}", GET_BROKER_CLUSTER_INFO)
        table = (answer.json_lenient() or {}).get("brokerAddrTable") or {}
        return set(table.get(BROKER, {}).get("brokerAddrs", {}))

    def stop(self) -> None:
        self.slaves.stop()
        self.masters.stop()


def runtime(broker: Broker) -> dict[str, str]:
    """Runtime info; Apache's broker answers with an error until it has taken its first statistics."""

    def told() -> dict[str, str] | None:
        answer = frames.call(broker.address, GET_BROKER_RUNTIME_INFO)
        table: dict[str, str] | None = answer.json()["table"] if answer.code == 0 else None
        return table

    return wait_until(told, f"{broker.name} tells its runtime info", 30, poll_seconds=0.2)


def log_end(broker: Broker) -> int:
    return int(runtime(broker)["commitLogMaxOffset"])


def ha_status(broker: Broker) -> dict[str, Any]:
    status: dict[str, Any] = frames.call(broker.address, GET_BROKER_HA_STATUS).json()
    return status


def caught_up(master: Broker, slave: Broker) -> int:
    """Wait until the slave's log ends where the master's does; the offset."""
    end = log_end(master)
    wait_until(lambda: log_end(slave) == end, f"the slave reaches {end}", CATCH_UP_SECONDS, poll_seconds=0.1)
    return end


def is_answering(broker: Broker) -> bool:
    broker.process.check()
    try:
        return bool(runtime(broker))
    except (OSError, ConnectionError):
        return False
