"""Clients outside the cluster come in by listeners, with no more than the addresses that the status tells."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from e2e.drivers import Driver, PeerError
from e2e.kind import clients
from e2e.kind.cluster import KindCluster
from e2e.kind.engine import run
from e2e.kind.objects import apply_cluster, lives, make_topic, status, wait_ready
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kind"), pytest.mark.timeout(600)]

NAME = "way"
LISTENERS = [
    {"name": "node", "type": "NodePort", "port": 9976},
    {"name": "balanced", "type": "LoadBalancer", "port": 9977},
]
TOLD_SECONDS = 120.0


@pytest.fixture(scope="module")
def cluster(kind: KindCluster, operator: str, namespace: str) -> KindCluster:
    """Two groups, so that a client needs more than one address."""
    brokers = {"storage": {"size": "2Gi"}, "groups": 2, "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}
    apply_cluster(kind, namespace, NAME, brokers=brokers, listeners=LISTENERS)
    wait_ready(kind, namespace, NAME)
    return kind


def addresses(cluster: KindCluster, namespace: str, listener: str) -> str:
    """What the status says of a listener."""
    told = status(cluster, namespace, NAME).get("listeners", ())
    return next((str(one.get("addresses", "")) for one in told if one["name"] == listener), "")


def round_trip(cluster: KindCluster, namespace: str, driver: Driver, listener: str) -> None:
    """Send to both groups and read back, by a listener."""
    namesrv = wait_until(lambda: addresses(cluster, namespace, listener), f"{listener} has addresses", TOLD_SECONDS)
    topic = f"by-{listener}"
    make_topic(cluster, namespace, topic, NAME)
    bodies: list[str] = []
    takers: set[str] = set()

    def reaches_both() -> bool:
        bodies.append(f"{listener}-{len(bodies)}")
        try:
            (one,) = driver.call("producer.send", name=topic, topic=topic, messages=[{"body": bodies[-1]}])
        except PeerError:  # the name servers have no address of a broker there yet
            bodies.pop()
            return False
        assert one["status"] == "SEND_OK"
        takers.add(one["broker_name"])
        return takers == {f"{NAME}-b0", f"{NAME}-b1"}

    with clients.producing(driver, namesrv, topic):
        wait_until(reaches_both, f"a client of {listener} reaches both groups", TOLD_SECONDS, poll_seconds=0.2)
    assert sorted(clients.consume(driver, namesrv, f"{topic}-readers", topic, set(bodies))) == sorted(bodies)


def test_a_java_client_outside_comes_in_by_node_ports(cluster: KindCluster, namespace: str, outside: Driver) -> None:
    round_trip(cluster, namespace, outside, "node")


def test_a_java_client_outside_comes_in_by_load_balancers_that_appear_later(
    cluster: KindCluster, namespace: str, outside: Driver
) -> None:
    alive = lives(cluster, namespace)
    assert addresses(cluster, namespace, "balanced") == ""
    with balanced(cluster, namespace):
        round_trip(cluster, namespace, outside, "balanced")
    assert lives(cluster, namespace) == alive


@contextmanager
def balanced(cluster: KindCluster, namespace: str) -> Iterator[None]:
    """What a provider's controller does: each Service of the type gets an address, whose traffic comes to a node.

    The addresses are of the nodes' own network on this machine, where Docker gives none so high.
    """
    found = [s for s in cluster.objects("services", "-n", namespace) if s["spec"]["type"] == "LoadBalancer"]
    (node,) = cluster.objects("node", f"{cluster.name}-control-plane")
    gate = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    network = ipaddress.ip_network(f"{gate}/16", strict=False)
    with ExitStack() as stack:
        for number, service in enumerate(found, 2):
            address = str(network.broadcast_address - number)
            run(["ip", "route", "add", f"{address}/32", "via", gate])
            stack.callback(run, ["ip", "route", "delete", f"{address}/32", "via", gate])
            patch = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
            name = service["metadata"]["name"]
            cluster.kubectl(
                "patch", "service", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
            )
        yield
