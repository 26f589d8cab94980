"""The life of a cluster, under load and in real Pods: new configuration, new image, more and fewer of everything."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from e2e.drivers import Driver
from e2e.kind import clients, images
from e2e.kind.clients import Load
from e2e.kind.cluster import KindCluster
from e2e.kind.objects import apply_cluster, condition, lives, make_topic, pods, status, wait_ready
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.slow, pytest.mark.xdist_group("kind"), pytest.mark.timeout(900)]

NAME = "life"
GROUP = f"{NAME}-b0"
LEFT = 40  # messages that nobody consumed when their group is to go
# Two minutes are the clients' to forget a name server, one is a leaving group's to be quiet; the rest is the machine's.
CHANGE_SECONDS = 420.0
SMALL = {"requests": {"cpu": "50m", "memory": "64Mi"}}


def wanted(shared_storage: dict[str, str], *, servers: int = 2, **brokers: Any) -> dict[str, Any]:
    """The specification, with what a test changes of it."""
    base = {"storage": shared_storage, "replicasPerGroup": 2, "resources": SMALL}
    return {"brokers": {**base, **brokers}, "nameServers": {"replicas": servers, "resources": SMALL}}


@pytest.fixture(scope="module")
def cluster(kind: KindCluster, operator: str, namespace: str, shared_storage: dict[str, str]) -> KindCluster:
    apply_cluster(kind, namespace, NAME, **wanted(shared_storage))
    wait_ready(kind, namespace, NAME)
    return kind


def brokers_of(cluster: KindCluster, namespace: str) -> dict[str, tuple[str, int]]:
    """Lives of brokers."""
    return {name: life for name, life in lives(cluster, namespace).items() if "-namesrv-" not in name}


def master_of(cluster: KindCluster, namespace: str) -> str:
    """What the status says of the first group."""
    return str(status(cluster, namespace, NAME)["groupStatuses"][0]["master"])


def watch_roll(cluster: KindCluster, namespace: str, before: dict[str, tuple[str, int]]) -> list[str]:
    """Names of brokers in the order in which they were replaced; never are two of them missing at once."""
    order: list[str] = []

    def all_new() -> bool:
        found = pods(cluster, namespace)
        there = [name for name in before if name in found and "deletionTimestamp" not in found[name]["metadata"]]
        assert len(there) >= len(before) - 1, f"of {sorted(before)} only {there} are not ending"
        now = brokers_of(cluster, namespace)
        order.extend(name for name in before if name not in order and now.get(name, before[name])[0] != before[name][0])
        return len(order) == len(before) and all(is_ready(found[name]) for name in there)

    wait_until(all_new, "every broker was replaced", CHANGE_SECONDS, poll_seconds=0.5)
    return order


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def test_a_new_configuration_restarts_the_slave_and_then_the_master(
    cluster: KindCluster, namespace: str, load: Load, shared_storage: dict[str, str]
) -> None:
    before, master = brokers_of(cluster, namespace), master_of(cluster, namespace)
    with load:
        apply_cluster(cluster, namespace, NAME, **wanted(shared_storage, config={"maxMessageSize": "2000000"}))
        assert watch_roll(cluster, namespace, before)[-1] == master
        wait_ready(cluster, namespace, NAME)
        load.wait_more(50)
    load.nothing_is_lost()


def test_a_new_image_comes_to_name_servers_and_brokers(
    cluster: KindCluster, namespace: str, load: Load, shared_storage: dict[str, str]
) -> None:
    image = f"rocketmq-kube:{images.version()}-next"
    cluster.engine.docker("tag", images.project_images()[0], image)
    cluster.load(image)
    before, master = brokers_of(cluster, namespace), master_of(cluster, namespace)
    with load:
        apply_cluster(cluster, namespace, NAME, image=image, **wanted(shared_storage))
        assert watch_roll(cluster, namespace, before)[-1] == master
        wait_ready(cluster, namespace, NAME)
        load.wait_more(50)
    assert {pod["spec"]["containers"][0]["image"] for pod in pods(cluster, namespace).values()} == {image}
    apply_cluster(cluster, namespace, NAME, **wanted(shared_storage))
    load.nothing_is_lost()


def test_name_servers_come_and_go_and_no_broker_restarts(
    cluster: KindCluster, namespace: str, load: Load, shared_storage: dict[str, str]
) -> None:
    settled(cluster, namespace)
    alive = brokers_of(cluster, namespace)
    with load:
        for servers in (3, 1):
            apply_cluster(cluster, namespace, NAME, **wanted(shared_storage, servers=servers))
            wait_until(
                partial(has_name_servers, cluster, namespace, servers), f"{servers} name servers", CHANGE_SECONDS
            )
            load.wait_more(20)
    assert load.refused == []
    assert brokers_of(cluster, namespace) == alive
    load.nothing_is_lost()


def test_a_group_is_added_and_leaves_only_when_it_is_empty(
    cluster: KindCluster, namespace: str, load: Load, shared_storage: dict[str, str]
) -> None:
    one, two = (wanted(shared_storage, servers=1, groups=count) for count in (1, 2))
    apply_cluster(cluster, namespace, NAME, **two)
    wait_until(
        lambda: status(cluster, namespace, NAME).get("readyGroups") == 2,
        "the second group serves",
        CHANGE_SECONDS,
        poll_seconds=0.5,
    )
    wait_ready(cluster, namespace, NAME)
    with load:
        wait_until(lambda: load.taken_by[f"{NAME}-b1"] >= LEFT, "the new group takes messages", 120, poll_seconds=0.5)
    apply_cluster(cluster, namespace, NAME, **one)
    wait_until(
        lambda: condition(cluster, "rocketmqcluster", namespace, NAME, "ScaleDownBlocked") == "True",
        "the group that holds messages stays", CHANGE_SECONDS, poll_seconds=0.5,
    )  # fmt: skip
    assert f"{NAME}-b1-0" in pods(cluster, namespace)
    load.nothing_is_lost()  # a group of consumers reads everything, also what lies in the group that leaves
    wait_until(
        lambda: not [name for name in pods(cluster, namespace) if name.startswith(f"{NAME}-b1-")],
        "the empty group is gone", CHANGE_SECONDS, poll_seconds=0.5,
    )  # fmt: skip
    kept = {claim["metadata"]["name"] for claim in cluster.objects("pvc", "-n", namespace)}
    assert {f"data-{NAME}-b1-0", f"data-{NAME}-b1-1"} <= kept
    settled(cluster, namespace)


def test_a_claim_whose_class_cannot_grow_is_said_and_nothing_restarts(
    cluster: KindCluster, namespace: str, shared_storage: dict[str, str]
) -> None:
    settled(cluster, namespace)
    alive = brokers_of(cluster, namespace)
    apply_cluster(cluster, namespace, NAME, **wanted({**shared_storage, "size": "3Gi"}, servers=1))
    wait_until(
        lambda: condition(cluster, "rocketmqcluster", namespace, NAME, "Stalled") == "True",
        "the refusal is told", CHANGE_SECONDS, poll_seconds=0.5,
    )  # fmt: skip
    (stalled,) = [c for c in status(cluster, namespace, NAME)["conditions"] if c["type"] == "Stalled"]
    assert f"data-{GROUP}-" in stalled["message"]
    assert brokers_of(cluster, namespace) == alive


def test_a_single_broker_gets_a_slave_and_keeps_what_it_has(
    kind: KindCluster, operator: str, namespace: str, shared_storage: dict[str, str], outside: Driver
) -> None:
    name = "grow"
    apply_cluster(kind, namespace, name, **wanted(shared_storage, servers=1, replicasPerGroup=1))
    wait_ready(kind, namespace, name)
    make_topic(kind, namespace, "grown", name)
    bodies = [f"grow-{number}" for number in range(30)]
    with clients.exposed(kind, namespace, name) as address, clients.producing(outside, address, "grower"):
        clients.send(outside, "grower", "grown", *bodies)
    apply_cluster(kind, namespace, name, **wanted(shared_storage, servers=1, replicasPerGroup=2))
    wait_until(
        lambda: (status(kind, namespace, name).get("groupStatuses") or [{}])[0].get("inSyncReplicas") == 2,
        "the slave is in sync", CHANGE_SECONDS, poll_seconds=0.5,
    )  # fmt: skip
    wait_ready(kind, namespace, name)
    with clients.exposed(kind, namespace, name) as address:
        assert sorted(clients.consume(outside, address, "grow-readers", "grown", set(bodies))) == sorted(bodies)


def has_name_servers(cluster: KindCluster, namespace: str, count: int) -> bool:
    """So many exist, and brokers are told of each."""
    found = pods(cluster, namespace, f"rocketmqkube.dev/cluster={NAME},rocketmqkube.dev/component=namesrv")
    told = status(cluster, namespace, NAME).get("nameServers", {})
    return bool(len(found) == told.get("published") == count)


def settled(cluster: KindCluster, namespace: str) -> None:
    """Wait until nothing is under way."""
    wait_until(
        lambda: status(cluster, namespace, NAME).get("phase") == "Running"
        and condition(cluster, "rocketmqcluster", namespace, NAME, "Progressing") == "False",
        "nothing is under way", CHANGE_SECONDS, poll_seconds=0.5,
    )  # fmt: skip
