"""Pods, nodes and links that fail while a Java client sends: what was acknowledged is there, and writes come back."""

from __future__ import annotations

import pytest

from e2e.kind.clients import Load
from e2e.kind.cluster import KindCluster
from e2e.kind.objects import apply_cluster, condition, lives, node_of, pods, wait_ready
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.slow, pytest.mark.xdist_group("kind"), pytest.mark.timeout(600)]

NAME = "pair"
MASTER, SLAVE = f"{NAME}-b0-0", f"{NAME}-b0-1"
API_SERVER_DOWN_MESSAGES = 1500


@pytest.fixture(scope="module")
def cluster(kind: KindCluster, operator: str, namespace: str, shared_storage: dict[str, str]) -> KindCluster:
    """A master and its slave on volumes that follow them."""
    # Without failover the first replica is the master for ever, so a test knows whom it kills.
    brokers = {"storage": shared_storage, "replicasPerGroup": 2, "failover": {"mode": "Disabled"}}
    apply_cluster(kind, namespace, NAME, brokers=brokers)
    wait_ready(kind, namespace, NAME)
    return kind


def test_the_masters_pod_is_killed_and_comes_back_with_its_claim(
    cluster: KindCluster, namespace: str, load: Load
) -> None:
    before = lives(cluster, namespace)[MASTER]
    with load:
        cluster.kubectl("delete", "pod", MASTER, "-n", namespace, "--grace-period=0", "--force")
        wait_until(lambda: lives(cluster, namespace).get(MASTER, before) != before, "another Pod", 60, poll_seconds=0.2)
        load.wait_more(50)
    wait_ready(cluster, namespace, NAME)
    load.nothing_is_lost()


def test_a_deleted_slave_costs_no_write(cluster: KindCluster, namespace: str, load: Load) -> None:
    with load:
        cluster.kubectl("delete", "pod", SLAVE, "-n", namespace, "--wait=true")
        load.wait_more(50)
    assert load.refused == []
    wait_ready(cluster, namespace, NAME)
    load.nothing_is_lost()


def test_a_drained_node_gives_its_master_to_another(cluster: KindCluster, namespace: str, load: Load) -> None:
    node = node_of(cluster, namespace, MASTER)
    try:
        with load:
            cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
            wait_until(
                lambda: node_of(cluster, namespace, MASTER) not in ("", node),
                "the master is elsewhere",
                120,
                poll_seconds=0.5,
            )
            load.wait_more(50)
    finally:
        cluster.kubectl("uncordon", node)
    wait_ready(cluster, namespace, NAME)
    load.nothing_is_lost()


def test_a_killed_node_comes_back_with_what_it_had(cluster: KindCluster, namespace: str, load: Load) -> None:
    node = node_of(cluster, namespace, MASTER)
    assert node in cluster.workers
    with load:
        cluster.engine.docker("kill", node)
        try:
            cluster.wait_node(node, ready=False)
        finally:
            cluster.engine.docker("start", node)
        cluster.wait_node(node, ready=True)
        load.wait_more(50)
    wait_ready(cluster, namespace, NAME)
    load.nothing_is_lost()


def test_a_partition_takes_the_slave_out_of_the_set_and_its_end_brings_it_back(
    cluster: KindCluster, namespace: str, load: Load
) -> None:
    address = pods(cluster, namespace)[SLAVE]["status"]["podIP"]
    node = node_of(cluster, namespace, SLAVE)
    rules = [("FORWARD", side, address, "-j", "DROP") for side in ("-s", "-d")]
    with load:
        for rule in rules:
            cluster.on_node(node, "iptables", "-w", "-I", *rule)
        try:
            wait_until(
                lambda: condition(cluster, "rocketmqcluster", namespace, NAME, "ReplicationHealthy") == "False",
                "the slave is missed", 120, poll_seconds=0.5,
            )  # fmt: skip
            load.wait_more(50)
        finally:
            for rule in rules:
                cluster.on_node(node, "iptables", "-w", "-D", *rule)
        load.wait_more(50)
    wait_ready(cluster, namespace, NAME)
    load.nothing_is_lost()


def test_an_api_server_that_is_down_is_not_noticed_by_clients(cluster: KindCluster, namespace: str, load: Load) -> None:
    alive = lives(cluster, namespace)
    control_plane = f"{cluster.name}-control-plane"
    manifest, aside = "/etc/kubernetes/manifests/kube-apiserver.yaml", "/etc/kubernetes/kube-apiserver.yaml"
    with load:
        cluster.on_node(control_plane, "mv", manifest, aside)
        try:
            wait_until(lambda: not _is_served(cluster), "the API server is down", 120, poll_seconds=0.5)
            load.wait_more(API_SERVER_DOWN_MESSAGES)
        finally:
            cluster.on_node(control_plane, "mv", aside, manifest)
        wait_until(lambda: _is_served(cluster), "the API server is back", 180, poll_seconds=0.5)
    assert load.refused == []
    wait_ready(cluster, namespace, NAME)
    assert lives(cluster, namespace) == alive
    load.nothing_is_lost()


def _is_served(cluster: KindCluster) -> bool:
    try:
        cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", timeout_seconds=30)
    except RuntimeError:
        return False
    return True
