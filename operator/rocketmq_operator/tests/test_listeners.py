"""Listeners: what is rendered for them, and how addresses come from Services to brokers and to the status."""

from __future__ import annotations

from typing import Any

from rocketmq_operator.kube.api import Object
from rocketmq_operator.tests.world import World

OUTSIDE = {"name": "outside", "type": "NodePort", "port": 9976}
BALANCED = {"name": "balanced", "type": "LoadBalancer", "port": 9977, "annotations": {"example.org/pool": "a"}}


async def listening(*listeners: dict[str, Any]) -> World:
    world = World()
    world.apply_cluster(brokers={"storage": {"size": "10Gi"}, "replicasPerGroup": 2}, listeners=list(listeners))
    await world.settle()
    return world


def service(world: World, name: str) -> Object:
    return world.api.objects["Service", "mq", name]


def broker_conf(world: World) -> dict[str, str]:
    text = world.api.objects["ConfigMap", "mq", "orders-b0"]["data"]["broker.conf"]
    return dict(line.split("=", 1) for line in text.replace("\\", "").splitlines() if "=" in line)


async def test_each_broker_and_the_name_servers_get_a_service() -> None:
    world = await listening(OUTSIDE, BALANCED)
    broker, servers = service(world, "orders-b0-1-outside"), service(world, "orders-namesrv-outside")
    assert (broker["spec"]["type"], broker["spec"]["ports"][0]["targetPort"]) == ("NodePort", "remoting")
    assert broker["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == "orders-b0-1"
    assert (servers["spec"]["ports"][0]["port"], servers["spec"]["ports"][0]["targetPort"]) == (9876, 9976)
    balanced = service(world, "orders-b0-0-balanced")
    assert (balanced["spec"]["type"], balanced["metadata"]["annotations"]["example.org/pool"]) == ("LoadBalancer", "a")
    text = world.api.objects["ConfigMap", "mq", "orders-namesrv"]["data"]["namesrv.conf"].replace("\\", "")
    assert "listeners=outside:9976;balanced:9977" in text


async def test_brokers_are_told_their_node_ports_and_nothing_moves_then() -> None:
    world = await listening(OUTSIDE)
    for index, port in ((0, 30111), (1, 30112)):
        service(world, f"orders-b0-{index}-outside")["spec"]["ports"][0]["nodePort"] = port
    await world.settle()
    assert broker_conf(world)["listenerAddresses"] == (
        "orders-b0-0.mq.svc/outside=:30111;orders-b0-1.mq.svc/outside=:30112"
    )
    world.api.writes.clear()
    await world.step()
    assert world.api.writes == []


async def test_a_load_balancer_is_told_once_it_has_an_address_and_a_template_stands_above_it() -> None:
    named = {**BALANCED, "name": "named", "port": 9978, "hostTemplate": "{group}-{replica}.example.org"}
    world = await listening(BALANCED, named)
    assert broker_conf(world).get("listenerAddresses", "") == (
        "orders-b0-0.mq.svc/named=b0-0.example.org:10911;orders-b0-1.mq.svc/named=b0-1.example.org:10911"
    )
    for name in ("orders-b0-0-balanced", "orders-namesrv-balanced"):
        service(world, name)["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}
    await world.settle()
    assert "orders-b0-0.mq.svc/balanced=192.0.2.7:10911" in broker_conf(world)["listenerAddresses"].split(";")
    told = {one["name"]: one["addresses"] for one in world.cluster()["status"]["listeners"]}
    assert told == {"balanced": "192.0.2.7:9876", "named": ""}


async def test_services_of_a_listener_go_with_it() -> None:
    world = await listening(OUTSIDE)
    world.apply_cluster(brokers={"storage": {"size": "10Gi"}, "replicasPerGroup": 2})
    await world.settle()
    assert not [name for kind, _, name in world.api.objects if kind == "Service" and name.endswith("-outside")]
    assert "listenerAddresses" not in broker_conf(world)
