"""Apache's Java client on both sides of the cluster's border, and load that remembers what was acknowledged."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from e2e import toolchain
from e2e.drivers import JAVA_CLIENT_OPTIONS, Driver, PeerError
from e2e.kind.cluster import KindCluster
from e2e.kind.engine import run
from e2e.kind.images import JAVA_CLIENT
from e2e.kubernetes.binaries import program
from e2e.processes import wait_until

POD = "java-client"
SECURITY = {
    "runAsNonRoot": True, "runAsUser": 3000, "runAsGroup": 3000, "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
SEND_TIMEOUT_MS = 3000
ROUTE_INTERVAL_MS = 1000  # 30 s by default: what a client that wants to follow a failover at once sets
PAUSE_SECONDS = 0.01
REFUSED_PAUSE_SECONDS = 0.2
WAIT_SECONDS = 120.0
FROM_THE_BEGINNING: dict[str, Any] = {"from": "FIRST_OFFSET"}  # "from" is no name in Python
REMOTING, NAMESRV_REMOTING = 10911, 9876


def start_pod(cluster: KindCluster, namespace: str) -> None:
    """A Pod that waits to be told to run the client; it satisfies the restricted standard."""
    container = {
        "name": "client", "image": JAVA_CLIENT, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "infinity"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    document = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0, "securityContext": SECURITY,
            "containers": [container],
        },
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", data=yaml.safe_dump(document))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{POD}", "-n", namespace, "--timeout=180s")


def inside(cluster: KindCluster, namespace: str, directory: Path) -> Driver:
    """The client in the Pod, driven through its standard input and output."""
    command = [
        program("kubectl"), "--kubeconfig", str(cluster.kubeconfig), "exec", "-i", "-n", namespace, POD, "--", "java",
        *toolchain.JAVA_OPEN_OPTIONS, *JAVA_CLIENT_OPTIONS, "-Duser.home=/tmp", "-Drocketmq.client.rebalance.waitInterval=2000",
        "-cp", "/opt/peer/classes:/opt/peer/jars/*", "PeerDriver",
    ]  # fmt: skip
    return Driver("java-inside", command, directory)


@contextmanager
def exposed(cluster: KindCluster, namespace: str, name: str) -> Iterator[str]:
    """The address of the name servers for clients on this machine: a port of the control plane's node.

    Brokers advertise the service address of each of their Pods, so this machine sends what is for those through the same node.
    """
    node = _node_address(cluster)
    ports = [{"name": "remoting", "port": NAMESRV_REMOTING, "targetPort": "remoting", "protocol": "TCP"}]
    selector = {"rocketmqkube.dev/cluster": name, "rocketmqkube.dev/component": "namesrv"}
    metadata = {"name": f"{name}-namesrv-outside", "namespace": namespace}
    spec = {"type": "NodePort", "selector": selector, "ports": ports}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "-f", "-", data=yaml.safe_dump(service))
    (made,) = cluster.objects("service", metadata["name"], "-n", namespace)
    of_brokers = "rocketmqkube.dev/component=broker,rocketmqkube.dev/cluster=" + name
    addresses = [s["spec"]["clusterIP"] for s in cluster.objects("services", "-n", namespace, "-l", of_brokers)]
    routes = [f"{address}/32" for address in addresses if address != "None"]
    with ExitStack() as stack:
        for route in routes:
            run(["ip", "route", "add", route, "via", node])
            stack.callback(run, ["ip", "route", "delete", route, "via", node])
        port = made["spec"]["ports"][0]["nodePort"]
        for at in ((node, port), *((route.removesuffix("/32"), REMOTING) for route in routes)):
            wait_until(lambda at=at: _connects(*at), f"{at[0]}:{at[1]} is served", 60, poll_seconds=0.2)  # type: ignore[misc]
        yield f"{node}:{port}"


def _node_address(cluster: KindCluster) -> str:
    (node,) = cluster.objects("node", f"{cluster.name}-control-plane")
    return next(str(a["address"]) for a in node["status"]["addresses"] if a["type"] == "InternalIP")


def _connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


@contextmanager
def producing(driver: Driver, namesrv: str, name: str) -> Iterator[None]:
    """A started producer."""
    options = {"timeout_ms": SEND_TIMEOUT_MS, "route_interval_ms": ROUTE_INTERVAL_MS}
    driver.call("producer.start", name=name, namesrv=namesrv, group=name, **options)
    try:
        yield
    finally:
        driver.call("producer.stop", name=name)


def send(driver: Driver, name: str, topic: str, *bodies: str) -> None:
    """Send by a started producer; raises AssertionError unless all are acknowledged, PeerError when the client gave up."""
    results = driver.call("producer.send", name=name, topic=topic, messages=[{"body": body} for body in bodies])
    assert [one["status"] for one in results] == ["SEND_OK"] * len(bodies), results


def consume(driver: Driver, namesrv: str, name: str, topic: str, wanted: set[str]) -> list[str]:
    """Bodies, in the order of arrival, that a new group gets from the topic's beginning until it has all wanted."""
    driver.call(
        "consumer.start",
        name=name,
        namesrv=namesrv,
        group=name,
        subscriptions=[{"topic": topic}],
        **FROM_THE_BEGINNING,
    )
    bodies: list[str] = []

    def complete() -> bool:
        bodies.extend(m["body"] for m in driver.call("consumer.received", name=name, since=len(bodies)))
        return wanted <= set(bodies)

    try:
        wait_until(complete, f"{name} gets {len(wanted)} messages", WAIT_SECONDS, poll_seconds=0.3)
    except TimeoutError as late:
        lost = sorted(wanted - set(bodies))
        raise AssertionError(f"{late}: {len(lost)} of {len(wanted)} are missing, such as {lost[:5]}") from late
    finally:
        driver.call("consumer.stop", name=name)
    return bodies


@dataclass
class Load:
    """Sends one message after the other in a thread of its own, from ``with`` to its end."""

    driver: Driver
    namesrv: str
    topic: str
    acknowledged: list[str] = field(default_factory=list)
    acknowledged_at: list[float] = field(default_factory=list)
    taken_by: Counter[str] = field(default_factory=Counter)  # broker name → messages
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"load on {self.topic}")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self.driver.call(
            "producer.start", name=self.topic, namesrv=self.namesrv, group=self.topic, timeout_ms=SEND_TIMEOUT_MS,
            route_interval_ms=ROUTE_INTERVAL_MS,
        )  # fmt: skip
        self._thread.start()
        self.wait_more(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.driver.call("producer.stop", name=self.topic)
        if self._failure is not None and error is None:
            raise self._failure

    def wait_more(self, count: int) -> None:
        """Wait until ``count`` more messages are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(
            lambda: len(self.acknowledged) >= wanted or self._failure is not None,
            f"{count} more acknowledged (refused lately: {self.refused[-3:]})", WAIT_SECONDS, poll_seconds=0.1,
        )  # fmt: skip

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time between two acknowledgements."""
        return max((b - a for a, b in zip(self.acknowledged_at, self.acknowledged_at[1:], strict=False)), default=0.0)

    def nothing_is_lost(self) -> None:
        """Read everything back; raises AssertionError when something that was acknowledged is missing."""
        counts = f"{len(self.acknowledged)} acknowledged, {len(self.refused)} refused"
        print(f"{self.topic}: {counts}, longest gap {self.longest_gap_seconds:.1f} s")
        consume(self.driver, self.namesrv, f"{self.topic}-readers", self.topic, set(self.acknowledged))

    def _run(self) -> None:
        number = 0
        try:
            while not self._stop.is_set():
                body = f"{self.topic}-{number}"
                number += 1
                try:
                    (result,) = self.driver.call(
                        "producer.send", name=self.topic, topic=self.topic, messages=[{"body": body}]
                    )
                except PeerError as refusal:
                    self.refused.append(str(refusal)[:500])
                    self._stop.wait(REFUSED_PAUSE_SECONDS)  # without a route the client gives up at once
                    continue
                if result["status"] == "SEND_OK":
                    self.acknowledged.append(body)
                    self.acknowledged_at.append(time.monotonic())
                    self.taken_by[result["broker_name"]] += 1
                self._stop.wait(PAUSE_SECONDS)
        except (RuntimeError, TimeoutError, OSError) as failure:
            self._failure = failure
