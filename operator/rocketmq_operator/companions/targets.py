"""Where a companion is kept: the masters that stay, and the name servers, of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rocketmq_operator import labels, ports
from rocketmq_operator.kube.api import Api
from rocketmq_operator.kube.resources import CLUSTERS, PODS
from rocketmq_operator.reconcile.observed import pod_from


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """``masters``: group → address, of those that can be asked; ``missing`` groups cannot. ``gone``: nothing will ever answer."""

    masters: Mapping[str, str]
    missing: tuple[str, ...]
    name_servers: tuple[str, ...]
    is_paused: bool = False
    gone: str = ""


async def find_targets(api: Api, namespace: str, cluster: str) -> Targets:
    """As the cluster's status and Pods say; raises ApiError."""
    document = await api.get(CLUSTERS, namespace, cluster)
    if document is None or "deletionTimestamp" in document["metadata"]:
        what = "there is no" if document is None else "it is being deleted: the"
        return Targets(masters={}, missing=(), name_servers=(), gone=f"{what} RocketMQCluster {cluster}")
    groups: list[Mapping[str, Any]] = (document.get("status") or {}).get("groupStatuses") or []
    pods = {pod.name: pod for pod in map(pod_from, await api.list(PODS, namespace, f"{labels.CLUSTER}={cluster}"))}
    masters, missing = {}, []
    for group in groups:
        if group.get("phase") == "Draining":
            continue
        pod = pods.get(group.get("master", ""))
        if pod is not None and pod.ip and pod.is_ready and not pod.is_deleting:
            masters[group["name"]] = f"{pod.ip}:{ports.BROKER_REMOTING.number}"
        else:
            missing.append(group["name"])
    wanted = int(document["spec"]["brokers"].get("groups", 1))
    missing += [f"group {index}" for index in range(len(masters) + len(missing), wanted)]
    servers = [p for p in pods.values() if p.component == labels.NAMESRV and p.ip and not p.is_deleting]
    return Targets(
        masters=masters,
        missing=tuple(missing),
        name_servers=tuple(f"{pod.ip}:{ports.NAMESRV_REMOTING.number}" for pod in servers),
        is_paused=bool(document["spec"].get("paused", False)),
    )
