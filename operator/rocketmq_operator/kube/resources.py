"""Kinds that the operator reads or writes, with their place in the API and the verbs that it uses on them.

The verbs are the operator's whole claim on a cluster: the chart's roles are compared with this table by a test.
"""

from __future__ import annotations

from typing import NamedTuple

from rocketmq_operator.crd import GROUP, VERSION


class Resource(NamedTuple):
    """One kind: ``group`` is empty for the core API; ``verbs`` are those that the operator needs."""

    group: str
    version: str
    kind: str
    plural: str
    verbs: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As an object's ``apiVersion`` spells it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """URL path of a collection or an object; ``namespace`` None means all, or a kind without namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(("namespaces", namespace) if namespace else ()), self.plural]
        return "/".join([*parts, *((name,) if name else ()), *((subresource,) if subresource else ())])


_OWNED = ("get", "list", "watch", "create", "patch", "delete")

CONFIG_MAPS = Resource("", "v1", "ConfigMap", "configmaps", _OWNED)
SERVICES = Resource("", "v1", "Service", "services", _OWNED)
SERVICE_ACCOUNTS = Resource("", "v1", "ServiceAccount", "serviceaccounts", ("get", "list", "create", "patch", "delete"))
STATEFUL_SETS = Resource("apps", "v1", "StatefulSet", "statefulsets", _OWNED)
DISRUPTION_BUDGETS = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", _OWNED)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", _OWNED)

PODS = Resource("", "v1", "Pod", "pods", ("list", "watch"))
POD_EVICTIONS = Resource("", "v1", "Eviction", "pods/eviction", ("create",))
CLAIMS = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", ("list", "patch"))
# Brokers write them each second, so they are not watched; update is the operator's own leadership, and given to brokers.
LEASES = Resource(
    "coordination.k8s.io", "v1", "Lease", "leases", ("get", "list", "create", "update", "patch", "delete")
)
_RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(_RBAC, "v1", "Role", "roles", ("get", "list", "create", "patch", "delete"))
ROLE_BINDINGS = Resource(_RBAC, "v1", "RoleBinding", "rolebindings", ("get", "list", "create", "patch", "delete"))
EVENTS = Resource("events.k8s.io", "v1", "Event", "events", ("create",))

CLUSTERS = Resource(GROUP, VERSION, "RocketMQCluster", "rocketmqclusters", ("get", "list", "watch"))
TOPICS = Resource(GROUP, VERSION, "RocketMQTopic", "rocketmqtopics", ("get", "list", "watch", "patch"))
CONSUMER_GROUPS = Resource(
    GROUP, VERSION, "RocketMQConsumerGroup", "rocketmqconsumergroups", ("get", "list", "watch", "patch")
)

# Parts of objects that are written on their own.
SUBRESOURCES = (
    Resource(GROUP, VERSION, "RocketMQCluster", "rocketmqclusters/status", ("patch",)),
    Resource(GROUP, VERSION, "RocketMQTopic", "rocketmqtopics/status", ("patch",)),
    Resource(GROUP, VERSION, "RocketMQConsumerGroup", "rocketmqconsumergroups/status", ("patch",)),
    POD_EVICTIONS,
)

# What is rendered for a cluster, by kind.
OWNED = {
    resource.kind: resource
    for resource in (
        CONFIG_MAPS,
        SERVICE_ACCOUNTS,
        ROLES,
        ROLE_BINDINGS,
        LEASES,
        SERVICES,
        NETWORK_POLICIES,
        DISRUPTION_BUDGETS,
        STATEFUL_SETS,
    )
}
BY_KIND = {
    **OWNED,
    **{resource.kind: resource for resource in (PODS, CLAIMS, EVENTS, CLUSTERS, TOPICS, CONSUMER_GROUPS)},
}
