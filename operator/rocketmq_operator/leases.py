"""What broker groups elect their masters with: a Lease each, and the right of the cluster's Pods to exactly these Leases.

Only the Lease's metadata is rendered: what it says is the brokers' matter, and server-side apply leaves it alone. Brokers may not
make Leases: one that was deleted comes back empty, and the master that still leads writes into it what it knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketmq_operator import labels, names
from rocketmq_operator.manifests import Manifest, manifest
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.topology import Topology

RBAC_GROUP = "rbac.authorization.k8s.io"


def lease_manifests(cluster: RocketMQCluster, topology: Topology) -> Iterator[Manifest]:
    """Nothing for a cluster whose groups do not elect."""
    if not cluster.spec.brokers.elects:
        return
    groups = [names.broker_group(cluster, group) for group in topology.groups]
    name = names.leases(cluster)
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": groups,
        "verbs": ["get", "update"],
    }
    yield manifest(cluster, f"{RBAC_GROUP}/v1", "Role", name, component=labels.BROKER, rules=[rule])
    yield manifest(
        cluster,
        f"{RBAC_GROUP}/v1",
        "RoleBinding",
        name,
        component=labels.BROKER,
        roleRef={"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": names.service_account(cluster), "namespace": cluster.namespace}],
    )
    for group in groups:
        yield manifest(cluster, "coordination.k8s.io/v1", "Lease", group, component=labels.BROKER, group=group)
