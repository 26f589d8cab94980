"""Names and addresses of what is rendered for a cluster.

Everything starts with the cluster's name (at most 30 characters), so no name exceeds a DNS label's 63.
"""

from __future__ import annotations

from rocketmq_operator.model import RocketMQCluster


def namesrv(cluster: RocketMQCluster) -> str:
    """The name-server StatefulSet, its ConfigMap, and the Service that clients use."""
    return f"{cluster.name}-namesrv"


def broker_group(cluster: RocketMQCluster, group: int) -> str:
    """The StatefulSet of broker group ``group`` (from 0), its ConfigMap, and RocketMQ's brokerName."""
    return f"{cluster.name}-b{group}"


def headless(stateful_set: str) -> str:
    """The headless Service that gives a StatefulSet's Pods their own DNS names."""
    return f"{stateful_set}-headless"


def replica(stateful_set: str, index: int) -> str:
    """A Pod, and the Service with a stable address in front of it."""
    return f"{stateful_set}-{index}"


def exposed(base: str, listener: str) -> str:
    """The Service through which clients of a listener reach a broker Pod, or the name servers."""
    return f"{base}-{listener}"


def service_host(service: str, namespace: str) -> str:
    """DNS name of a Service; the search domains of a Pod complete it whatever the cluster's domain is."""
    return f"{service}.{namespace}.svc"


def leases(cluster: RocketMQCluster) -> str:
    """The Role over the Leases of the cluster's groups, and its binding."""
    return f"{cluster.name}-leases"


def service_account(cluster: RocketMQCluster) -> str:
    """The ServiceAccount of every Pod of the cluster."""
    return cluster.name
