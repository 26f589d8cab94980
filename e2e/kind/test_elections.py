"""Groups that elect their masters by Leases, in real Pods under load: killed, ended, drained away, lost with their node, cut off.

With ``replication: Sync`` every acknowledged message is there afterwards, whoever leads; the operator is not needed for any of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.kind.clients import Load
from e2e.kind.cluster import KindCluster
from e2e.kind.conftest import OPERATOR_NAMESPACE
from e2e.kind.objects import apply_cluster, lives, metrics, node_of, wait_ready
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kind"), pytest.mark.timeout(600)]

NAME = "elect"
GROUP = f"{NAME}-b0"
REPLICAS = (f"{GROUP}-0", f"{GROUP}-1")
# The promise is 12 s: the lease's duration, a look at it, an election, a route. The rest is for a machine that runs other things.
WRITES_BACK_SECONDS_MAX = 30.0
HANDED_OVER_SECONDS_MAX = 20.0
LEADER_SECONDS = 90.0


@pytest.fixture(scope="module")
def cluster(kind: KindCluster, operator: str, namespace: str, shared_storage: dict[str, str]) -> KindCluster:
    """Two replicas that elect, never on one node; the volumes follow their Pods."""
    brokers = {"storage": shared_storage, "replicasPerGroup": 2, "spread": {"mode": "Required"}}
    # Name servers are where no test takes a node away: how clients find another is another question.
    place = {"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}, "tolerations": [{"operator": "Exists"}]}
    apply_cluster(kind, namespace, NAME, brokers=brokers, nameServers={"template": {"spec": place}})
    wait_ready(kind, namespace, NAME)
    return kind


def epoch_of(cluster: KindCluster, namespace: str) -> int:
    """The epoch that the group's Lease shows."""
    (lease,) = cluster.objects("lease", GROUP, "-n", namespace)
    return int((lease["metadata"].get("annotations") or {}).get("rocketmqkube.dev/epoch", "0"))


def leaders(cluster: KindCluster, namespace: str) -> list[str]:
    """Replicas that say they are master and may acknowledge; one that cannot be asked is not counted."""
    found = []
    for pod in REPLICAS:
        told = metrics(cluster, namespace, pod)
        if told.get("rocketmq_failover_is_master") == 1 and told.get("rocketmq_failover_may_write") == 1:
            found.append(pod)
    return found


def wait_leader(cluster: KindCluster, namespace: str, *, not_in: tuple[str, ...] = (), above: int = -1) -> str:
    """Wait for a leader of an epoch ``above`` that is none of ``not_in``; never are there two."""

    def leads() -> str:
        found = leaders(cluster, namespace)
        # Two answers to two questions: a handover may lie between them, but then the second look tells.
        if len(found) > 1:
            found = leaders(cluster, namespace)
        assert len(found) <= 1, f"two masters: {found}"
        fits = found and found[0] not in not_in and epoch_of(cluster, namespace) > above
        return found[0] if fits else ""

    return wait_until(leads, f"{GROUP} has a leader that is none of {not_in}", LEADER_SECONDS, poll_seconds=0.3)


def judge(load: Load, seconds_max: float) -> None:
    """Everything acknowledged is there, and there was no longer pause than promised."""
    load.nothing_is_lost()
    assert load.longest_gap_seconds <= seconds_max, f"writes were back after {load.longest_gap_seconds:.1f} s"


@contextmanager
def operator_asleep(cluster: KindCluster) -> Iterator[None]:
    """No operator runs."""
    (deployment,) = cluster.objects("deployments", "-n", OPERATOR_NAMESPACE)
    name, replicas = deployment["metadata"]["name"], deployment["spec"]["replicas"]

    def scale(count: int) -> None:
        cluster.kubectl("scale", "deployment", name, "-n", OPERATOR_NAMESPACE, f"--replicas={count}")

    scale(0)
    try:
        cluster.kubectl(
            "wait", "--for=delete", "pod", "-n", OPERATOR_NAMESPACE, "-l", "app.kubernetes.io/name=rocketmq-operator",
            "--timeout=120s",
        )  # fmt: skip
        yield
    finally:
        scale(replicas)
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", OPERATOR_NAMESPACE, "--timeout=180s")


def kill_process(cluster: KindCluster, namespace: str, pod: str) -> None:
    """kill -9 of the broker in a Pod, from its node."""
    mark = f"ROCKETMQ_REPLICA_UID={lives(cluster, namespace)[pod][0]}"
    look = f'for p in /proc/[0-9]*; do grep -qz "^{mark}$" "$p/environ" 2> /dev/null && kill -9 "${{p#/proc/}}"; done; true'
    cluster.on_node(node_of(cluster, namespace, pod), "sh", "-c", look)


def test_a_master_killed_while_no_operator_runs_is_replaced(cluster: KindCluster, namespace: str, load: Load) -> None:
    master, epoch = wait_leader(cluster, namespace), epoch_of(cluster, namespace)
    with operator_asleep(cluster), load:
        kill_process(cluster, namespace, master)
        wait_leader(cluster, namespace, above=epoch)
        load.wait_more(50)
    judge(load, WRITES_BACK_SECONDS_MAX)


def test_a_deleted_master_hands_over(cluster: KindCluster, namespace: str, load: Load) -> None:
    master, epoch = wait_leader(cluster, namespace), epoch_of(cluster, namespace)
    with load:
        cluster.kubectl("delete", "pod", master, "-n", namespace, "--wait=false")
        wait_leader(cluster, namespace, not_in=(master,), above=epoch)
        load.wait_more(50)
    judge(load, HANDED_OVER_SECONDS_MAX)


def test_a_master_on_a_node_that_is_drained_hands_over(cluster: KindCluster, namespace: str, load: Load) -> None:
    master, epoch = wait_leader(cluster, namespace), epoch_of(cluster, namespace)
    node = node_of(cluster, namespace, master)
    try:
        with load:
            cluster.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
            wait_leader(cluster, namespace, above=epoch)
            load.wait_more(50)
    finally:
        cluster.kubectl("uncordon", node)
    judge(load, HANDED_OVER_SECONDS_MAX)


def test_a_master_lost_with_its_node_is_replaced(cluster: KindCluster, namespace: str, load: Load) -> None:
    master, epoch = wait_leader(cluster, namespace), epoch_of(cluster, namespace)
    node = node_of(cluster, namespace, master)
    assert node in cluster.workers
    with load:
        cluster.engine.docker("kill", node)
        try:
            wait_leader(cluster, namespace, not_in=(master,), above=epoch)
            load.wait_more(50)
        finally:
            cluster.engine.docker("start", node)
            cluster.wait_node(node, ready=True)
        load.wait_more(50)
    judge(load, WRITES_BACK_SECONDS_MAX)


def test_a_master_that_is_cut_off_gives_way_and_follows_when_it_is_back(
    cluster: KindCluster, namespace: str, load: Load
) -> None:
    master, epoch = wait_leader(cluster, namespace), epoch_of(cluster, namespace)
    with load:
        with cut_off(cluster, namespace, master):
            wait_leader(cluster, namespace, not_in=(master,), above=epoch)
            load.wait_more(50)
        load.wait_more(50)
        wait_leader(cluster, namespace, not_in=(master,), above=epoch)
    judge(load, WRITES_BACK_SECONDS_MAX)
    wait_ready(cluster, namespace, NAME)


@contextmanager
def cut_off(cluster: KindCluster, namespace: str, pod: str) -> Iterator[None]:
    """Nothing reaches a Pod, nothing leaves it; only its own node's kubelet still does."""
    (found,) = cluster.objects("pod", pod, "-n", namespace)
    node, address = node_of(cluster, namespace, pod), found["status"]["podIP"]
    rules = [("FORWARD", side, address, "-j", "DROP") for side in ("-s", "-d")]
    for rule in rules:
        cluster.on_node(node, "iptables", "-w", "-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            cluster.on_node(node, "iptables", "-w", "-D", *rule)
