"""Services: the DNS names of Pods, the stable address of each Pod, and the name servers' common one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rocketmq_operator import labels, names
from rocketmq_operator.manifests import Manifest, manifest
from rocketmq_operator.model import Listener, RocketMQCluster
from rocketmq_operator.ports import Port


def headless_service(
    cluster: RocketMQCluster, stateful_set: str, ports: Iterable[Port], *, component: str, group: str | None = None
) -> Manifest:
    """DNS for each Pod of a StatefulSet, ready or not: replicas must find each other before they are."""
    return manifest(
        cluster,
        "v1",
        "Service",
        names.headless(stateful_set),
        component=component,
        group=group,
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels.selector(cluster, component, group),
            "ports": _service_ports(ports),
        },
    )


def replica_service(
    cluster: RocketMQCluster,
    stateful_set: str,
    index: int,
    ports: Iterable[Port],
    *,
    component: str,
    group: str | None = None,
) -> Manifest:
    """The stable address of one Pod: it outlives the Pod, so what brokers and clients remember stays valid.

    It leads to the Pod ready or not: a broker that is not ready for new clients still serves the ones it has.
    """
    return manifest(
        cluster,
        "v1",
        "Service",
        names.replica(stateful_set, index),
        component=component,
        group=group,
        spec={
            "type": "ClusterIP",
            "publishNotReadyAddresses": True,
            "selector": {
                **labels.selector(cluster, component, group),
                labels.POD_NAME: names.replica(stateful_set, index),
            },
            "ports": _service_ports(ports),
        },
    )


def listener_service(
    cluster: RocketMQCluster,
    listener: Listener,
    stateful_set: str,
    port: Port,
    index: int | None,
    *,
    component: str,
    group: str | None = None,
) -> Manifest:
    """The way of a listener's clients to one broker Pod (by ``index``), or to every name server that is ready."""
    base = stateful_set if index is None else names.replica(stateful_set, index)
    selector = labels.selector(cluster, component, group)
    target: str | int = listener.port
    if index is not None:
        selector, target = {**selector, labels.POD_NAME: base}, port.name
    exposed = manifest(
        cluster,
        "v1",
        "Service",
        names.exposed(base, listener.name),
        component=component,
        group=group,
        spec={
            "type": listener.type.value,
            "publishNotReadyAddresses": index is not None,
            "selector": selector,
            "ports": [{"name": port.name, "port": port.number, "protocol": "TCP", "targetPort": target}],
        },
    )
    if listener.annotations:
        exposed["metadata"]["annotations"] = dict(listener.annotations)
    return exposed


def client_service(cluster: RocketMQCluster, name: str, ports: Iterable[Port], *, component: str) -> Manifest:
    """One address for clients in front of every ready Pod of a component."""
    return manifest(
        cluster,
        "v1",
        "Service",
        name,
        component=component,
        spec={
            "type": "ClusterIP",
            "selector": labels.selector(cluster, component),
            "ports": _service_ports(ports),
        },
    )


def _service_ports(ports: Iterable[Port]) -> list[dict[str, Any]]:
    # protocol is part of the merge key of server-side apply: leaving it out makes every apply a change.
    return [{"name": p.name, "port": p.number, "protocol": "TCP", "targetPort": p.name} for p in ports]
