"""Network policies: clients reach what is for clients, and the replication stream is for the brokers of a group alone.

Health and metrics stay open: kubelets and scrapers come from addresses that no selector names. Nothing is said about egress.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rocketmq_operator import labels, names, ports
from rocketmq_operator.manifests import Manifest, manifest
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.ports import Port


def namesrv_policy(cluster: RocketMQCluster) -> Iterator[Manifest]:
    """The name servers' policy, if any is wanted. Brokers register on the port that clients use."""
    if cluster.spec.network_policy.enabled:
        yield _policy(
            cluster,
            names.namesrv(cluster),
            labels.NAMESRV,
            None,
            [
                _rule(_clients(cluster, [labels.selector(cluster, labels.BROKER)]), ports.NAMESRV_REMOTING),
                _rule([], ports.NAMESRV_HTTP),
                *(_rule([], Port(one.name, one.port)) for one in cluster.spec.listeners),
            ],
        )


def broker_policy(cluster: RocketMQCluster, group: str) -> Iterator[Manifest]:
    """The policy of one broker group, if any is wanted. Slaves ask their master on the port that clients use."""
    if cluster.spec.network_policy.enabled:
        peers = labels.selector(cluster, labels.BROKER, group)
        yield _policy(
            cluster,
            group,
            labels.BROKER,
            group,
            [
                _rule(_clients(cluster, [peers]), ports.BROKER_REMOTING, ports.BROKER_VIP),
                _rule([{"podSelector": {"matchLabels": peers}}], ports.BROKER_HA),
                _rule([], ports.BROKER_HTTP),
            ],
        )


def _clients(cluster: RocketMQCluster, own: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Peers that may act as clients; empty means everybody. The operator administers brokers, wherever it runs."""
    clients = cluster.spec.network_policy.clients
    if not clients:
        return []
    operator = {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "rocketmq-operator"}},
    }
    return [*clients, *({"podSelector": {"matchLabels": labels_}} for labels_ in own), operator]


def _rule(peers: list[dict[str, Any]], *allowed: Port) -> dict[str, Any]:
    return {
        **({"from": peers} if peers else {}),
        "ports": [{"port": port.number, "protocol": "TCP"} for port in allowed],
    }


def _policy(
    cluster: RocketMQCluster, name: str, component: str, group: str | None, ingress: list[dict[str, Any]]
) -> Manifest:
    return manifest(
        cluster,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        component=component,
        group=group,
        spec={
            "podSelector": {"matchLabels": labels.selector(cluster, component, group)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    )
