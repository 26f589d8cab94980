"""Reconciling a cluster against a simulated Kubernetes: creation, quiet, drift, pause, neighbours, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from rocketmq_operator import labels
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.tests.world import World

STORAGE = {"size": "10Gi"}


def brokers(**fields: Any) -> dict[str, Any]:
    return {"storage": STORAGE, **fields}


@pytest.fixture
async def world() -> World:
    result = World()
    result.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2))
    await result.settle()
    return result


def notes(world: World) -> list[str]:
    return [i["note"] for i in world.api.objects.values() if i["kind"] == "Event"]


async def test_a_cluster_becomes_ready_and_says_so(world: World) -> None:
    status = world.cluster()["status"]
    assert (status["phase"], status["readyGroups"], status["groups"]) == ("Running", 2, 2)
    assert status["nameServers"]["ready"] == 2
    assert status["nameServers"]["addresses"] == "orders-namesrv-0.mq.svc:9876;orders-namesrv-1.mq.svc:9876"
    conditions = world.conditions()
    assert {k for k, v in conditions.items() if v == "True"} == {
        "Ready", "Available", "NameServersReady", "ReplicationHealthy", "ConfigApplied", "StorageReady",
    }  # fmt: skip
    assert [g["master"] for g in status["groupStatuses"]] == ["orders-b0-0", "orders-b1-0"]
    assert world.problems == []


async def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    world.api.writes.clear()
    for _ in range(3):
        await world.step()
    assert world.api.writes == []


async def test_an_operator_that_starts_anew_writes_nothing(world: World) -> None:
    world.api.writes.clear()
    world.start_operator()
    await world.step()
    assert world.api.writes == []


async def test_a_field_of_a_newer_release_is_left_to_the_operator_that_knows_it(world: World) -> None:
    """The definitions of an upgrade arrive before its operator, and with them defaults that this one does not know."""
    spec = world.cluster()["spec"]
    spec["ofTheFuture"], spec["brokers"]["storage"]["mood"] = [], "calm"
    world.api.writes.clear()
    await world.step()
    assert world.cluster()["status"]["phase"] == "Running"
    assert world.api.writes == []


async def test_applying_the_same_document_again_changes_nothing(world: World) -> None:
    before = world.api.snapshot()
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2))
    world.api.writes.clear()
    await world.step()
    assert (world.api.writes, world.api.snapshot()) == ([], before)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Service", "orders-b0-1"),
        ("ConfigMap", "orders-b1"),
        ("PodDisruptionBudget", "orders-namesrv"),
        ("StatefulSet", "orders-b1"),
    ],
)
async def test_a_deleted_object_comes_back_and_an_event_says_why(world: World, kind: str, name: str) -> None:
    before = world.api.snapshot()
    world.api.remove(kind, "mq", name, orphan=True)
    await world.step()
    assert f"{kind} {name} is created" in notes(world)
    await world.settle()
    assert world.api.snapshot() == before


@pytest.mark.parametrize(
    ("kind", "name", "patch", "field"),
    [
        ("StatefulSet", "orders-b0", {"spec": {"replicas": 5}}, "spec.replicas is 5, not 2"),
        ("StatefulSet", "orders-namesrv", {"spec": {"replicas": 1}}, "spec.replicas is 1, not 2"),
        ("Service", "orders-namesrv", {"spec": {"type": "NodePort"}}, 'spec.type is "NodePort", not "ClusterIP"'),
        ("ConfigMap", "orders-b0", {"data": {"broker.conf": "x=y"}}, "data.broker.conf is"),
        ("Service", "orders-b0-0", {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}, "app.kubernetes.io/name"),
    ],
)
async def test_a_foreign_edit_is_undone_at_the_next_pass(
    world: World, kind: str, name: str, patch: dict[str, Any], field: str
) -> None:
    before = world.api.snapshot()
    world.api.edit(kind, "mq", name, patch)
    await world.operator.reconcile("mq", "orders")
    assert any(f"{kind} {name} was changed: " in note and field in note for note in notes(world)), notes(world)
    await world.settle()
    assert world.api.snapshot() == before


async def test_fields_of_others_are_left_alone(world: World) -> None:
    world.api.edit("Service", "mq", "orders-b0-0", {"metadata": {"annotations": {"dns.example.com/name": "b0"}}})
    world.api.writes.clear()
    await world.step()
    assert world.api.writes == []


async def test_a_paused_cluster_is_observed_but_not_changed(world: World) -> None:
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2), paused=True)
    world.api.remove("Service", "mq", "orders-b0-1")
    await world.step()
    assert ("Service", "mq", "orders-b0-1") not in world.api.objects
    assert world.cluster()["status"]["phase"] == "Paused"
    assert world.conditions()["Paused"] == "True"
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2))
    await world.settle()
    assert ("Service", "mq", "orders-b0-1") in world.api.objects


async def test_clusters_do_not_touch_each_other(world: World) -> None:
    before = world.api.snapshot()
    world.apply_cluster("billing", brokers=brokers())
    await world.settle("billing")
    await world.settle("orders", "billing")
    mine = {k: v for k, v in world.api.snapshot().items() if "billing" not in k}
    assert mine == before
    world.api.remove(KIND, "mq", "billing")
    world.tick()
    assert {k for k in world.api.snapshot() if "billing" in k and "VolumeClaim" not in k} == set()
    await world.settle("orders")
    assert {k: v for k, v in world.api.snapshot().items() if "billing" not in k} == before


async def test_names_that_begin_alike_are_two_clusters() -> None:
    world = World()
    world.apply_cluster("a", brokers=brokers())
    world.apply_cluster("a-b0", brokers=brokers())
    await world.settle("a", "a-b0")
    assert world.cluster("a")["status"]["phase"] == "Running"
    assert world.cluster("a-b0")["status"]["phase"] == "Running"


async def test_a_foreign_object_of_the_same_name_is_not_taken_over() -> None:
    world = World()
    foreign = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "orders-b0", "namespace": "mq"},
        "data": {"a": "b"},
    }
    world.api.put(foreign)
    world.apply_cluster(brokers=brokers())
    await world.step()
    assert world.api.objects[("ConfigMap", "mq", "orders-b0")]["data"] == {"a": "b"}
    assert world.conditions()["Stalled"] == "True"
    assert "ConfigMap orders-b0 exists and does not belong to this cluster" in world.message("Stalled")
    world.api.remove("ConfigMap", "mq", "orders-b0")
    await world.settle()
    assert world.cluster()["status"]["phase"] == "Running"


async def test_what_an_older_cluster_of_the_name_left_is_waited_for(world: World) -> None:
    left = world.api.objects[("ConfigMap", "mq", "orders-b0")]
    world.api.remove(KIND, "mq", "orders", orphan=True)
    for item in world.api.objects.values():
        if item["kind"] != "Pod":
            item["metadata"]["ownerReferences"] = [{"kind": KIND, "uid": "older", "controller": True}]
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2))
    await world.step()
    assert world.api.objects[("ConfigMap", "mq", "orders-b0")] is left
    assert "of a deleted cluster is not gone yet" in world.message("Progressing")


async def test_an_object_that_no_version_renders_any_more_is_removed(world: World) -> None:
    uid = world.cluster()["metadata"]["uid"]
    owner = [{"apiVersion": API_VERSION, "kind": KIND, "name": "orders", "uid": uid, "controller": True}]
    metadata = {"name": "orders-old", "namespace": "mq", "labels": {labels.CLUSTER: "orders"}, "ownerReferences": owner}
    world.api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await world.step()
    assert ("ConfigMap", "mq", "orders-old") not in world.api.objects


async def test_a_specification_that_the_operator_cannot_read_is_told_in_the_status(world: World) -> None:
    world.api.edit(KIND, "mq", "orders", {"spec": {"brokers": {"minInSyncReplicas": 3}}})
    world.api.writes.clear()
    await world.operator.reconcile("mq", "orders")
    assert "minInSyncReplicas must not exceed replicasPerGroup" in world.message("Stalled")
    assert world.cluster()["status"]["phase"] == "Failed"
    assert {kind for _, kind, _ in world.api.writes} <= {KIND, "Event"}


async def test_a_deleted_cluster_keeps_its_claims(world: World) -> None:
    world.api.remove(KIND, "mq", "orders")
    await world.operator.reconcile("mq", "orders")
    assert {kind for kind, _, _ in world.api.objects} <= {"PersistentVolumeClaim", "Event"}
    assert sum(kind == "PersistentVolumeClaim" for kind, _, _ in world.api.objects) == 4


async def test_hot_keys_are_told_to_running_brokers(world: World) -> None:
    revisions = {k: i["status"]["updateRevision"] for k, i in world.api.objects.items() if k[0] == "StatefulSet"}
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2, config={"fileReservedTime": "24"}))
    await world.settle()
    pods = [i for k, i in world.api.objects.items() if k[0] == "Pod" and "running" in i]
    assert {pod["running"]["fileReservedTime"] for pod in pods} == {"24"}
    assert revisions == {
        k: i["status"]["updateRevision"] for k, i in world.api.objects.items() if k[0] == "StatefulSet"
    }


async def test_a_refused_key_is_told_once_and_shown(world: World) -> None:
    world.brokers.refused_keys.add("fileReservedTime")
    world.apply_cluster(brokers=brokers(groups=2, replicasPerGroup=2, config={"fileReservedTime": "24"}))
    await world.settle()
    assert world.conditions()["ConfigApplied"] == "False"
    assert "can not be changed" in world.message("ConfigApplied")
    assert ("configure", "orders-b0-0") not in world.brokers.log
