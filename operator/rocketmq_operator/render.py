"""From a cluster to the objects that make it: pure, deterministic, in the order in which they are created.

No clock, no randomness, no client: the same cluster gives the same manifests, so a converged cluster needs no write. Tests compare
with reviewed files; the embedded runtime interprets the same manifests as processes.
"""

from __future__ import annotations

from rocketmq_operator import names
from rocketmq_operator.brokers import broker_group_manifests
from rocketmq_operator.leases import lease_manifests
from rocketmq_operator.manifests import Manifest, manifest
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.namesrv import namesrv_manifests
from rocketmq_operator.topology import Topology

# What is referred to comes before what refers to it; brokers retry registration, so they do not wait for name servers.
CREATION_ORDER = (
    "ConfigMap",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Lease",
    "Service",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "StatefulSet",
)


def render(cluster: RocketMQCluster, topology: Topology | None = None) -> list[Manifest]:
    """Every object of a cluster in creation order; ``topology`` says where a change is under way."""
    topology = topology or Topology.wanted(cluster)
    rendered = [_service_account(cluster), *namesrv_manifests(cluster, topology)]
    rendered.extend(lease_manifests(cluster, topology))
    for group in topology.groups:
        rendered.extend(broker_group_manifests(cluster, group, topology))
    return sorted(rendered, key=lambda m: CREATION_ORDER.index(m["kind"]))


def _service_account(cluster: RocketMQCluster) -> Manifest:
    return manifest(
        cluster,
        "v1",
        "ServiceAccount",
        names.service_account(cluster),
        automountServiceAccountToken=False,
    )
