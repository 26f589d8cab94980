"""The outer shape of every rendered object."""

from __future__ import annotations

from typing import Any

from rocketmq_operator import labels
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.model import RocketMQCluster

Manifest = dict[str, Any]


def manifest(
    cluster: RocketMQCluster,
    api_version: str,
    kind: str,
    name: str,
    *,
    component: str | None = None,
    group: str | None = None,
    **content: Any,
) -> Manifest:
    """An object of the cluster: labels, and its owner when the cluster lives in Kubernetes (so that deleting it deletes this)."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": cluster.namespace,
        "labels": labels.common(cluster, component, group),
    }
    if cluster.uid:
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": cluster.name,
                "uid": cluster.uid,
                # No blockOwnerDeletion: where it is enforced it needs a right over clusters that nothing else needs.
                "controller": True,
            }
        ]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def config_map(
    cluster: RocketMQCluster, name: str, files: dict[str, str], *, component: str, group: str | None = None
) -> Manifest:
    """A ConfigMap whose keys are file names."""
    return manifest(cluster, "v1", "ConfigMap", name, component=component, group=group, data=files)


def disruption_budget(cluster: RocketMQCluster, name: str, *, component: str, group: str | None = None) -> Manifest:
    """At most one of the selected Pods may be evicted at a time."""
    return manifest(
        cluster,
        "policy/v1",
        "PodDisruptionBudget",
        name,
        component=component,
        group=group,
        spec={
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels.selector(cluster, component, group)},
            # A Pod that is not ready protects nothing; keeping it would block node drains for ever.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )
