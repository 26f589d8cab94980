"""RocketMQTopic and RocketMQConsumerGroup on the simulated cluster."""

from __future__ import annotations

from typing import Any

import pytest

from rocketmq_operator.companions.groups import GroupReconciler
from rocketmq_operator.companions.keeping import FINALIZER, CompanionReconciler
from rocketmq_operator.companions.topics import TopicReconciler
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.kube.api import Object
from rocketmq_operator.kube.events import EventRecorder
from rocketmq_operator.tests.world import World


@pytest.fixture
async def world() -> World:
    result = World()
    result.apply_cluster(brokers={"groups": 2, "storage": {"size": "1Gi"}})
    await result.settle()
    return result


def reconciler(world: World, kind: type[CompanionReconciler]) -> CompanionReconciler:
    events = EventRecorder(world.api, world.clock, "operator-0")
    return kind(world.api, world.brokers, world.clock, events)


def put(world: World, kind: str, name: str, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> None:
    item = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": "mq"}}
    before = world.api.objects.get((kind, "mq", name))
    spec = {"clusterRef": {"name": "orders"}, **spec}
    world.api.put({**(before or item), "spec": spec})
    world.api.objects[(kind, "mq", name)]["metadata"].setdefault("creationTimestamp", created)


def topics(world: World, name: str) -> list[Any]:
    return [world.brokers.tables.get(g, ({}, {}))[0].get(name) for g in ("orders-b0", "orders-b1")]


def stored(world: World, kind: str, name: str) -> Object:
    return world.api.objects[(kind, "mq", name)]


def ready(world: World, kind: str, name: str) -> tuple[str, str]:
    condition = next(c for c in stored(world, kind, name)["status"]["conditions"] if c["type"] == "Ready")
    return condition["status"], condition["message"]


def end(world: World, kind: str, name: str) -> None:
    """kubectl delete."""
    item = stored(world, kind, name)
    if item["metadata"].get("finalizers"):
        world.api.edit(kind, "mq", name, {"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}})
    else:
        world.api.remove(kind, "mq", name)


async def test_a_topic_is_created_on_every_master_and_then_left_alone(world: World) -> None:
    put(world, "RocketMQTopic", "pay", writeQueues=4, readQueues=4, messageType="Fifo", order=True)
    keeper = reconciler(world, TopicReconciler)
    assert await keeper.reconcile("mq", "pay") is None
    for config in topics(world, "pay"):
        assert (config["writeQueueNums"], config["readQueueNums"], config["perm"]) == (4, 4, 6)
        assert config["attributes"] == {"message.type": "FIFO"}
        assert config["order"] is True
    assert stored(world, "RocketMQTopic", "pay")["status"]["groups"] == ["orders-b0", "orders-b1"]
    world.brokers.log.clear()
    world.api.writes.clear()
    await keeper.reconcile("mq", "pay")
    assert (world.brokers.log, world.api.writes) == ([], [])


async def test_a_topic_that_someone_changed_or_deleted_is_restored(world: World) -> None:
    put(world, "RocketMQTopic", "pay")
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    world.brokers.tables["orders-b0"][0]["pay"] = {**topics(world, "pay")[0], "perm": 4}
    del world.brokers.tables["orders-b1"][0]["pay"]
    await keeper.reconcile("mq", "pay")
    assert [config["perm"] for config in topics(world, "pay")] == [6, 6]


async def test_queues_go_in_two_steps_so_that_no_message_is_left_in_them(world: World) -> None:
    put(world, "RocketMQTopic", "pay", writeQueues=8, readQueues=8)
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    world.brokers.unconsumed["orders-b0"] = {"pay": 7}
    put(world, "RocketMQTopic", "pay", writeQueues=4, readQueues=4)
    assert await keeper.reconcile("mq", "pay") is not None
    assert [c["writeQueueNums"] for c in topics(world, "pay")] == [4, 4]
    assert [c["readQueueNums"] for c in topics(world, "pay")] == [8, 8]
    await keeper.reconcile("mq", "pay")
    assert [c["readQueueNums"] for c in topics(world, "pay")] == [8, 4]
    assert ready(world, "RocketMQTopic", "pay")[0] == "False"
    world.brokers.unconsumed.clear()
    assert await keeper.reconcile("mq", "pay") is None
    assert [c["readQueueNums"] for c in topics(world, "pay")] == [4, 4]
    assert ready(world, "RocketMQTopic", "pay")[0] == "True"


async def test_a_topic_comes_to_a_group_that_is_added(world: World) -> None:
    put(world, "RocketMQTopic", "pay")
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    world.apply_cluster(brokers={"groups": 3, "storage": {"size": "1Gi"}})
    assert await keeper.reconcile("mq", "pay") is not None
    assert "group 2 has no master that is ready" in ready(world, "RocketMQTopic", "pay")[1]
    await world.settle()
    await keeper.reconcile("mq", "pay")
    assert "pay" in world.brokers.tables["orders-b2"][0]


async def test_the_older_of_two_resources_has_the_name(world: World) -> None:
    put(world, "RocketMQTopic", "old", "2026-01-01T00:00:00Z", topicName="Pay", writeQueues=4, readQueues=4)
    put(world, "RocketMQTopic", "new", "2026-01-01T00:00:01Z", topicName="Pay", writeQueues=9, readQueues=9)
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "new")
    await keeper.reconcile("mq", "old")
    assert [c["writeQueueNums"] for c in topics(world, "Pay")] == [4, 4]
    assert ready(world, "RocketMQTopic", "new") == ("False", "Pay belongs to old, which is older")


async def test_a_retained_topic_outlives_its_resource_and_no_finalizer_is_ever_set(world: World) -> None:
    put(world, "RocketMQTopic", "pay")
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    assert not stored(world, "RocketMQTopic", "pay")["metadata"].get("finalizers")
    end(world, "RocketMQTopic", "pay")
    await keeper.reconcile("mq", "pay")
    assert all(topics(world, "pay"))


async def test_a_topic_to_be_deleted_is_deleted_at_brokers_and_name_servers_before_its_resource_goes(
    world: World,
) -> None:
    put(world, "RocketMQTopic", "pay", deletionPolicy="Delete")
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    assert stored(world, "RocketMQTopic", "pay")["metadata"]["finalizers"] == [FINALIZER]
    world.brokers.silent.add("orders-b1-0")
    end(world, "RocketMQTopic", "pay")
    assert await keeper.reconcile("mq", "pay") is not None
    assert ("RocketMQTopic", "mq", "pay") in world.api.objects
    world.brokers.silent.clear()
    await keeper.reconcile("mq", "pay")
    assert ("RocketMQTopic", "mq", "pay") not in world.api.objects
    assert topics(world, "pay") == [None, None]
    assert world.brokers.log.count(("forget", "pay")) >= 2


@pytest.mark.parametrize("gone", ["deleted", "ending", "retained after all"])
async def test_a_finalizer_never_outlives_its_reason(world: World, gone: str) -> None:
    put(world, "RocketMQTopic", "pay", deletionPolicy="Delete")
    keeper = reconciler(world, TopicReconciler)
    await keeper.reconcile("mq", "pay")
    if gone == "deleted":
        world.api.remove(KIND, "mq", "orders")
    elif gone == "ending":
        world.api.edit(KIND, "mq", "orders", {"metadata": {"deletionTimestamp": "x", "finalizers": ["someone's"]}})
    else:
        put(world, "RocketMQTopic", "pay", deletionPolicy="Retain")
        await keeper.reconcile("mq", "pay")
        assert stored(world, "RocketMQTopic", "pay")["metadata"]["finalizers"] == []
    end(world, "RocketMQTopic", "pay")
    await keeper.reconcile("mq", "pay")
    assert ("RocketMQTopic", "mq", "pay") not in world.api.objects


async def test_a_topic_without_its_cluster_waits_and_says_so(world: World) -> None:
    put(world, "RocketMQTopic", "pay", clusterRef={"name": "nowhere"})
    await reconciler(world, TopicReconciler).reconcile("mq", "pay")
    assert ready(world, "RocketMQTopic", "pay") == ("False", "there is no RocketMQCluster nowhere")


async def test_a_group_is_kept_with_its_lag_in_the_status(world: World) -> None:
    put(world, "RocketMQConsumerGroup", "billing", retryMaxTimes=5, broadcastEnable=False)
    world.brokers.unconsumed = {"orders-b0": {"pay": 3}, "orders-b1": {"pay": 4}}
    keeper = reconciler(world, GroupReconciler)
    await keeper.reconcile("mq", "billing")
    for group in ("orders-b0", "orders-b1"):
        config = world.brokers.tables[group][1]["billing"]
        assert (config["retryMaxTimes"], config["consumeBroadcastEnable"]) == (5, False)
    status = stored(world, "RocketMQConsumerGroup", "billing")["status"]
    assert (status["lag"], status["groupName"]) == ("7", "billing")


async def test_what_a_group_resource_does_not_know_stays_as_it_is(world: World) -> None:
    put(world, "RocketMQConsumerGroup", "billing")
    for group in ("orders-b0", "orders-b1"):
        world.brokers.tables[group] = ({}, {"billing": {"groupName": "billing", "consumeTimeoutMinute": 99}})
    await reconciler(world, GroupReconciler).reconcile("mq", "billing")
    assert world.brokers.tables["orders-b1"][1]["billing"]["consumeTimeoutMinute"] == 99
