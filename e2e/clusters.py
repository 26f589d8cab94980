"""Clusters of real processes behind one interface: ours, or Apache's as the control.

A test that passes against Apache's and fails against ours found a defect; one that fails against both is a wrong test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

from e2e import frames, toolchain
from e2e.processes import Process, free_port, wait_until

GET_BROKER_CLUSTER_INFO = 106
READY_TIMEOUT_SECONDS = 90.0
# Waits of seconds, not of minutes: level 1 is the shortest and the retry levels start at 3.
DELAY_LEVELS = "200ms 500ms 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s"
APACHE_DELAY_LEVELS = "1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s"
APACHE_TEST_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxDirectMemorySize=512m",
)
TEST_BROKER_SETTINGS = {
    "mappedFileSizeCommitLog": str(16 * 1024 * 1024),
    "mappedFileSizeConsumeQueue": str(20 * 20_000),
    "autoCreateTopicEnable": "true",
    "messageDelayLevel": APACHE_DELAY_LEVELS,
    "diskMaxUsedSpaceRatio": "95",
    # On a loaded machine a thread may not run for longer than the 200 ms after which Apache's broker turns sends away.
    "waitTimeMillsInSendQueue": "15000",
    "osPageCacheBusyTimeOutMills": "15000",
}


class Kind(StrEnum):
    """Whose processes a cluster is made of."""

    OURS = "ours"
    APACHE = "apache"


@dataclass(slots=True)
class Broker:
    """One broker process and where it can be reached."""

    name: str
    broker_id: int
    port: int
    store: Path
    process: Process
    configuration: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(slots=True)
class Cluster:
    """Name servers and brokers of one kind; ``with`` starts and ends them."""

    kind: Kind
    directory: Path
    cluster_name: str = "PeerCluster"
    namesrv_count: int = 1
    broker_names: tuple[str, ...] = ("broker-a",)
    settings: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = APACHE_TEST_OPTIONS
    apache: Callable[[], toolchain.JavaPeer] = toolchain.apache  # which release, for Kind.APACHE
    broker_prefix: tuple[str, ...] = ()
    namesrv_prefix: tuple[str, ...] = ()
    namesrvs: list[Process] = field(default_factory=list)
    namesrv_ports: list[int] = field(default_factory=list)
    brokers: dict[str, Broker] = field(default_factory=dict)

    @property
    def namesrv_address(self) -> str:
        """The list of all name servers as clients take it: ``;`` between addresses."""
        return ";".join(f"127.0.0.1:{port}" for port in self.namesrv_ports)

    @property
    def broker(self) -> Broker:
        """The first broker."""
        return next(iter(self.brokers.values()))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until each name server knows each broker."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for index in range(self.namesrv_count):
            self.start_namesrv(index)
        for name in self.broker_names:
            self.add_broker(name)
        self.wait_registered()

    def stop(self) -> None:
        """End brokers, then name servers; kill Apache's, whose orderly stop takes 15 s that nothing here needs."""
        for process in [*(broker.process for broker in self.brokers.values()), *self.namesrvs]:
            if self.kind is Kind.APACHE:
                process.kill()
            else:
                process.stop()

    def start_namesrv(self, index: int, port: int | None = None) -> Process:
        """Start one more name server, on a free port unless given."""
        is_known = port in self.namesrv_ports
        port = port or free_port((1,))
        name = f"namesrv-{index}"
        home = self._home(name)
        configuration = home / "namesrv.conf"
        lines = {"listenPort": str(port)}
        if self.kind is Kind.OURS:
            lines |= {"httpPort": "0"}
        write_configuration(configuration, lines)
        process = Process(name, self.namesrv_command(home, configuration), home, environment(home))
        process.start()
        self.namesrvs.append(process)
        if not is_known:
            self.namesrv_ports.append(port)
        return process

    def add_broker(
        self, name: str, store: Path | None = None, broker_id: int = 0, port: int | None = None, **settings: str
    ) -> Broker:
        """Configure and start a broker, with a free port and its own store unless given; ``settings`` go over the cluster's."""
        port = port or free_port((-2, 1))
        home = self._home(f"{name}-{broker_id}")
        store = store or home / "store"
        configuration = home / "broker.conf"
        lines = {
            "brokerClusterName": self.cluster_name,
            "brokerName": name,
            "brokerId": str(broker_id),
            "brokerIP1": "127.0.0.1",
            "listenPort": str(port),
            "haListenPort": str(port + 1),
            "namesrvAddr": self.namesrv_address,
            "storePathRootDir": str(store),
        }
        if self.kind is Kind.OURS:
            lines |= {"httpPort": "0"}
        write_configuration(configuration, lines | dict(self.settings) | settings)
        process = Process(f"{name}-{broker_id}", self.broker_command(home, configuration), home, environment(home))
        broker = Broker(name, broker_id, port, store, process, configuration)
        self.brokers[name] = broker
        process.start()
        return broker

    def wait_registered(self, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> None:
        """Wait until every running name server lists every running broker."""
        wanted = {name for name, broker in self.brokers.items() if broker.process.is_running}
        for process, port in zip(self.namesrvs, self.namesrv_ports, strict=True):
            if not process.is_running:
                continue

            def registered(process: Process = process, port: int = port) -> bool:
                process.check()
                for broker in self.brokers.values():
                    if broker.name in wanted:
                        broker.process.check()
                return wanted <= registered_brokers(f"127.0.0.1:{port}")

            wait_until(registered, f"{process.name} knows {sorted(wanted)}", timeout_seconds)

    def _home(self, name: str) -> Path:
        home = self.directory / name
        home.mkdir()
        if self.kind is Kind.APACHE:
            # 4.x ends when it does not find these.
            (home / "conf").mkdir()
            for role in ("broker", "namesrv"):
                (home / "conf" / f"logback_{role}.xml").write_text("<configuration/>\n")
        return home

    def namesrv_command(self, home: Path, configuration: Path) -> list[str]:
        if self.kind is Kind.OURS:
            return [*self.namesrv_prefix, sys.executable, "-m", "rocketmq_namesrv", "-c", str(configuration)]
        return [
            *self.namesrv_prefix,
            *java_command(home, ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"), self.apache()),
            "org.apache.rocketmq.namesrv.NamesrvStartup",
            "-c",
            str(configuration),
        ]

    def broker_command(self, home: Path, configuration: Path) -> list[str]:
        if self.kind is Kind.OURS:
            return [
                *self.broker_prefix,
                sys.executable,
                "-m",
                "rocketmq_broker",
                "-c",
                str(configuration),
                "-n",
                self.namesrv_address,
            ]
        return [
            *self.broker_prefix,
            *java_command(home, self.java_options, self.apache()),
            "org.apache.rocketmq.broker.BrokerStartup",
            "-c",
            str(configuration),
        ]


def java_command(home: Path, options: tuple[str, ...], peer: toolchain.JavaPeer) -> list[str]:
    """``java`` with Apache's class path, keeping everything that it writes under ``home``."""
    return [
        toolchain.tool("java"),
        *toolchain.JAVA_OPEN_OPTIONS,
        *options,
        f"-Duser.home={home}",
        f"-Drocketmq.home.dir={home}",
        "-cp",
        peer.classpath,
    ]


def environment(home: Path) -> dict[str, str]:
    """Environment of a child: nothing of the caller's RocketMQ settings may reach it."""
    return {
        "ROCKETMQ_HOME": str(home),
        "NAMESRV_ADDR": "",
        "PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", ""),
    }


def write_configuration(path: Path, lines: Mapping[str, str]) -> None:
    """A Java properties file; values here never need escapes."""
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))


def registered_brokers(namesrv_address: str) -> set[str]:
    """Names of the brokers that have a master at this name server; empty while it does not answer."""
    try:
        answer = frames.call(namesrv_address, GET_BROKER_CLUSTER_INFO)
    except (OSError, ConnectionError):
        return set()
    if answer.code != 0 or not answer.body:
        return set()
    table = (answer.json_lenient() or {}).get("brokerAddrTable") or {}
    return {name for name, data in table.items() if "0" in data.get("brokerAddrs", {})}
