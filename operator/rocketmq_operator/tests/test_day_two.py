"""Changes of a living cluster: rolling updates, name servers, groups, replicas, storage."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rocketmq_operator.reconcile.annotations import ABANDON, ALLOW_WRITE_PAUSE
from rocketmq_operator.reconcile.observed import pod_from
from rocketmq_operator.tests.world import World

STORAGE = {"size": "10Gi"}


def spec(
    groups: int = 2, replicas: int = 2, servers: int = 2, image: str = "", size: str = "10Gi", **fields: Any
) -> Any:
    return {
        "image": image,
        "nameServers": {"replicas": servers},
        "brokers": {"groups": groups, "replicasPerGroup": replicas, "storage": {"size": size}, **fields},
    }


async def started(**fields: Any) -> World:
    world = World()
    world.apply_cluster(**spec(**fields))
    await world.settle()
    world.api.writes.clear()
    world.api.deleted.clear()
    world.brokers.log.clear()
    return world


def evictions(world: World) -> list[str]:
    return [name for verb, _, name in world.api.writes if verb == "evict"]


def annotate(world: World, **annotations: str) -> None:
    world.api.edit("RocketMQCluster", "mq", "orders", {"metadata": {"annotations": annotations}})


async def test_slaves_roll_before_their_master_and_one_group_after_the_other() -> None:
    world = await started(replicas=3)
    world.apply_cluster(**spec(replicas=3, image="rocketmq:2"))
    await world.settle()
    order = evictions(world)
    assert order == ["orders-b0-2", "orders-b0-1", "orders-b0-0", "orders-b1-2", "orders-b1-1", "orders-b1-0"]
    images = {p["spec"]["containers"][0]["image"] for k, p in world.api.objects.items() if k[0] == "Pod"}
    assert images == {"rocketmq:2"}
    assert world.problems == []


async def test_producers_leave_a_group_before_its_master_restarts_and_come_back() -> None:
    world = await started()
    world.apply_cluster(**spec(image="rocketmq:2"))
    await world.settle()
    for group in ("orders-b0", "orders-b1"):
        told = [what for what, which in world.brokers.log if which == group]
        assert told[0] == "close"
        assert told[-1] == "open"
    assert world.brokers.closed == set()
    notes = json.dumps(list(world.api.objects.values()))
    assert "writes-closed-at" not in notes


async def test_a_single_group_is_not_closed_because_nobody_could_take_its_producers() -> None:
    world = await started(groups=1)
    world.apply_cluster(**spec(groups=1, image="rocketmq:2"))
    await world.settle()
    assert [what for what, _ in world.brokers.log if what == "close"] == []
    assert evictions(world) == ["orders-b0-1", "orders-b0-0"]


async def test_a_bad_image_stops_at_the_first_name_server_and_is_cured_by_a_good_one() -> None:
    world = await started()
    world.apply_cluster(**spec(image="bad:1", servers=2))
    for _ in range(30):
        await world.step()
    assert evictions(world) == []
    assert world.conditions()["UpgradeBlocked"] == "True"
    assert "ImagePullBackOff: no such image" in world.message("UpgradeBlocked")
    assert world.conditions()["Ready"] == "True"
    world.apply_cluster(**spec(image="rocketmq:2"))
    await world.settle()
    assert world.conditions()["UpgradeBlocked"] == "False"
    assert evictions(world)[0] == "orders-namesrv-1"
    assert len(evictions(world)) == 5


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"])
def test_an_image_that_is_not_there_is_a_pods_problem_whatever_the_pull_policy(reason: str) -> None:
    state = {"waiting": {"reason": reason, "message": "not here"}}
    pod = {"metadata": {"name": "orders-b0-0", "uid": "1"}, "status": {"containerStatuses": [{"state": state}]}}
    assert pod_from(pod).problem == f"{reason}: not here"


async def test_a_bad_broker_template_stops_at_the_first_slave_of_the_first_group() -> None:
    world = await started()
    template = {"spec": {"containers": [{"name": "broker", "image": "bad:1"}]}}
    world.apply_cluster(**spec(template=template))
    for _ in range(30):
        await world.step()
    assert evictions(world) == ["orders-b0-1"]
    assert "orders-b0-1 cannot start: ImagePullBackOff" in world.message("UpgradeBlocked")
    assert world.conditions()["Ready"] == "True"
    world.apply_cluster(**spec())
    await world.settle()
    assert evictions(world) == ["orders-b0-1", "orders-b0-1"]
    assert world.cluster()["status"]["phase"] == "Running"


async def test_no_pod_restarts_while_a_slave_is_not_in_sync() -> None:
    world = await started()
    world.brokers.silent.add("orders-b0-0")
    world.apply_cluster(**spec(image="rocketmq:2"))
    for _ in range(20):
        await world.step()
    assert evictions(world) == []
    assert "does not answer" in world.message("Progressing")
    world.brokers.silent.clear()
    await world.settle()
    assert len(evictions(world)) == 4


async def test_a_roll_that_would_stop_writes_asks_first() -> None:
    world = await started(minInSyncReplicas=2)
    world.apply_cluster(**spec(minInSyncReplicas=2, image="rocketmq:2"))
    for _ in range(20):
        await world.step()
    assert evictions(world) == []
    assert "below minInSyncReplicas=2" in world.message("UpgradeBlocked")
    annotate(world, **{ALLOW_WRITE_PAUSE: "true"})
    await world.settle()
    assert len(evictions(world)) == 4


async def test_name_servers_are_added_before_brokers_hear_of_them_and_no_broker_restarts() -> None:
    world = await started()
    world.apply_cluster(**spec(servers=3))
    await world.operator.reconcile("mq", "orders")
    assert "orders-namesrv-2" not in world.api.objects[("ConfigMap", "mq", "orders-b0")]["data"]["broker.conf"]
    await world.settle()
    pods = [p for k, p in world.api.objects.items() if k[0] == "Pod" and "running" in p]
    assert all(p["running"]["namesrvAddr"].count("namesrv-2") == 1 for p in pods)
    assert evictions(world) == []
    assert world.cluster()["status"]["nameServers"]["published"] == 3


async def test_a_name_server_leaves_only_after_brokers_and_clients_forgot_it() -> None:
    world = await started(servers=3)
    world.brokers.silent.add("orders-b1-1")
    world.apply_cluster(**spec(servers=2))
    for _ in range(60):
        await world.step()
    assert ("Pod", "mq", "orders-namesrv-2") in world.api.objects
    world.brokers.silent.clear()
    for _ in range(10):
        await world.step()
    assert ("Pod", "mq", "orders-namesrv-2") in world.api.objects
    await world.settle()
    assert ("Pod", "mq", "orders-namesrv-2") not in world.api.objects
    assert ("Service", "mq", "orders-namesrv-2") not in world.api.objects
    assert evictions(world) == []


async def test_groups_are_added() -> None:
    world = await started()
    world.apply_cluster(**spec(groups=3))
    await world.settle()
    assert world.cluster()["status"]["readyGroups"] == 3
    assert evictions(world) == []


async def test_a_group_leaves_only_when_it_is_empty_and_its_claims_stay() -> None:
    world = await started(groups=3)
    world.brokers.unconsumed["orders-b2"] = {"pay@billing": 12, "log": 3}
    world.brokers.tables["orders-b2"] = ({"pay": {"topicName": "pay"}}, {"billing": {"groupName": "billing"}})
    world.apply_cluster(**spec(groups=2))
    for _ in range(40):
        await world.step()
    assert ("StatefulSet", "mq", "orders-b2") in world.api.objects
    assert world.cluster()["status"]["phase"] == "Draining"
    assert "15 messages in orders-b2 are not consumed (pay@billing: 12, log: 3)" in world.message("ScaleDownBlocked")
    for group in ("orders-b0", "orders-b1"):
        assert "pay" in world.brokers.tables[group][0]
        assert "billing" in world.brokers.tables[group][1]
    pod = world.api.objects[("Pod", "mq", "orders-b2-0")]
    assert pod["running"]["brokerPermission"] == "4"
    world.brokers.unconsumed.clear()
    await world.settle()
    left = [k for k in world.api.objects if "orders-b2" in k[2] and k[0] not in ("Event",)]
    # The Lease goes with the claims: a group that comes back must know which of its replicas had everything.
    assert sorted(left) == [
        ("Lease", "mq", "orders-b2"),
        *(("PersistentVolumeClaim", "mq", f"data-orders-b2-{i}") for i in (0, 1)),
    ]
    assert world.brokers.unregistered == {"orders-b2"}
    assert world.cluster()["status"]["groups"] == 2


async def test_a_leaving_group_can_be_called_back() -> None:
    world = await started(groups=3)
    before = world.api.snapshot()
    world.brokers.unconsumed["orders-b2"] = {"log": 3}
    world.apply_cluster(**spec(groups=2))
    for _ in range(30):
        await world.step()
    world.apply_cluster(**spec(groups=3))
    await world.settle()
    assert world.api.snapshot() == before
    assert world.api.objects[("Pod", "mq", "orders-b2-0")]["running"]["brokerPermission"] == "6"
    assert evictions(world) == []


async def test_messages_are_abandoned_only_with_their_exact_number() -> None:
    world = await started(groups=3)
    world.brokers.unconsumed["orders-b2"] = {"log": 3}
    world.apply_cluster(**spec(groups=2))
    annotate(world, **{ABANDON: "orders-b2=2"})
    for _ in range(40):
        await world.step()
    assert ("StatefulSet", "mq", "orders-b2") in world.api.objects
    annotate(world, **{ABANDON: "orders-b2=3"})
    await world.settle()
    assert ("StatefulSet", "mq", "orders-b2") not in world.api.objects


async def test_a_group_whose_broker_does_not_answer_is_not_removed() -> None:
    world = await started(groups=3)
    world.brokers.silent |= {"orders-b2-0", "orders-b2-1"}
    world.apply_cluster(**spec(groups=2))
    for _ in range(40):
        await world.step()
    assert ("StatefulSet", "mq", "orders-b2") in world.api.objects
    assert "does not answer" in world.message("ScaleDownBlocked")


@pytest.mark.parametrize(("whenScaled", "whenDeleted"), [("Delete", "Retain"), ("Retain", "Delete")])
async def test_claims_of_a_removed_group_follow_the_policy_of_scaling(whenScaled: str, whenDeleted: str) -> None:
    storage = {"size": "10Gi", "retentionPolicy": {"whenScaled": whenScaled, "whenDeleted": whenDeleted}}
    world = World()
    world.apply_cluster(brokers={"groups": 2, "storage": storage})
    await world.settle()
    world.brokers.unconsumed["orders-b1"] = {"log": 3}
    world.apply_cluster(brokers={"groups": 1, "storage": storage})
    for _ in range(5):
        await world.step()
    policy = world.api.objects[("StatefulSet", "mq", "orders-b1")]["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert policy == {"whenDeleted": whenScaled, "whenScaled": whenScaled}
    kept = world.api.objects[("StatefulSet", "mq", "orders-b0")]["spec"]["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": whenDeleted, "whenScaled": whenScaled}


async def test_replicas_are_added_and_the_master_learns_to_wait_for_them() -> None:
    world = await started(groups=1, replicas=1)
    world.apply_cluster(**spec(groups=1, replicas=2))
    await world.settle()
    assert evictions(world) == ["orders-b0-0"]
    assert world.cluster()["status"]["groupStatuses"][0]["inSyncReplicas"] == 2


async def test_storage_grows_without_a_restart_and_the_template_follows() -> None:
    world = await started()
    pods = {k: p["metadata"]["uid"] for k, p in world.api.objects.items() if k[0] == "Pod"}
    world.apply_cluster(**spec(size="20Gi"))
    await world.settle()
    claims = [c for k, c in world.api.objects.items() if k[0] == "PersistentVolumeClaim"]
    assert {c["spec"]["resources"]["requests"]["storage"] for c in claims} == {"20Gi"}
    order = [name for verb, kind, name in world.api.writes if kind == "PersistentVolumeClaim"]
    assert order.index("data-orders-b0-1") < order.index("data-orders-b0-0")
    stateful_set = world.api.objects[("StatefulSet", "mq", "orders-b0")]
    assert stateful_set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert {k: p["metadata"]["uid"] for k, p in world.api.objects.items() if k[0] == "Pod"} == pods
    assert evictions(world) == []
