"""What is known of a cluster at one moment: values only, so that plans are pure.

Anything that could not be found out is None or False, never assumed good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rocketmq_operator import labels
from rocketmq_operator.kube.api import Object

# Waiting reasons of a container that do not go away by themselves.
_STUCK_REASONS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of observed values."""


class Pod(Value, frozen=True, kw_only=True):
    """One Pod of the cluster. ``problem`` says why it will not become ready by itself; empty when it may."""

    name: str
    uid: str
    component: str
    group: str
    index: int
    ip: str
    host_ip: str
    revision: str
    is_ready: bool
    is_deleting: bool
    problem: str
    image: str


class Claim(Value, frozen=True, kw_only=True):
    """One volume claim of a broker. Sizes are quantities; ``needs_restart``: the file system grows when the Pod restarts."""

    name: str
    group: str
    index: int
    resource_version: str
    requested: str
    capacity: str
    storage_class: str | None
    needs_restart: bool


class BrokerFacts(Value, frozen=True, kw_only=True):
    """What a broker says of itself. ``config`` holds only the keys that are changed at run time."""

    is_master: bool
    version: str
    config: Mapping[str, str]
    in_sync_slaves: int
    log_end_offset: int
    puts_per_second: float
    lag_bytes: int


class DrainFacts(Value, frozen=True, kw_only=True):
    """What a leaving group still holds. ``unconsumed`` by topic or ``topic@group``; tables that no staying master has yet."""

    log_end_offset: int
    puts_per_second: float
    unconsumed: Mapping[str, int]
    delayed: int
    half: int
    missing_topics: tuple[Mapping[str, Any], ...] = ()
    missing_groups: tuple[Mapping[str, Any], ...] = ()


class Observed(Value, frozen=True, kw_only=True):
    """One cluster at one moment. ``objects`` by (kind, name) are those the cluster owns; ``status`` as last written."""

    objects: Mapping[tuple[str, str], Object]
    pods: Mapping[str, Pod]
    claims: Mapping[str, Claim]
    brokers: Mapping[str, BrokerFacts] = {}
    drains: Mapping[str, DrainFacts] = {}
    status: Mapping[str, Any] = {}
    annotations: Mapping[str, str] = {}
    # What brokers said no to, by the uid of their Pod: not asked again before something changes.
    refused: Mapping[str, str] = {}

    def stateful_set(self, name: str) -> Object | None:
        """The live StatefulSet, if there is one."""
        return self.objects.get(("StatefulSet", name))

    def pods_of(self, stateful_set: str) -> list[Pod]:
        """Pods of a StatefulSet by index."""
        prefix = f"{stateful_set}-"
        found = [p for p in self.pods.values() if p.name.startswith(prefix) and p.name[len(prefix) :].isdigit()]
        return sorted(found, key=lambda pod: pod.index)

    def claims_of(self, group: str) -> list[Claim]:
        """Claims of a broker group by index."""
        return sorted((c for c in self.claims.values() if c.group == group), key=lambda claim: claim.index)


def pod_from(item: Object) -> Pod:
    """Read one Pod."""
    metadata, status = item["metadata"], item.get("status", {})
    own = metadata.get("labels") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    containers = item.get("spec", {}).get("containers") or [{}]
    index = metadata["name"].rpartition("-")[2]
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        component=own.get(labels.COMPONENT, ""),
        group=own.get(labels.BROKER_GROUP, ""),
        index=int(index) if index.isdigit() else -1,
        ip=status.get("podIP", ""),
        host_ip=status.get("hostIP", ""),
        revision=own.get("controller-revision-hash", ""),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_deleting="deletionTimestamp" in metadata,
        problem=_pod_problem(status, conditions),
        image=containers[0].get("image", ""),
    )


def _pod_problem(status: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return f"Unschedulable: {scheduled.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK_REASONS:
            ended = (container.get("lastState") or {}).get("terminated") or {}
            detail = waiting.get("message") or ended.get("message") or ""
            return f"{waiting['reason']}: {detail}".rstrip(": ")
    if status.get("phase") == "Failed":
        return f"{status.get('reason') or 'Failed'}: {status.get('message', '')}".rstrip(": ")
    return ""


def claim_from(item: Object) -> Claim:
    """Read one PersistentVolumeClaim; its name is ``data-<group>-<index>``."""
    metadata, status = item["metadata"], item.get("status", {})
    index = metadata["name"].rpartition("-")[2]
    conditions = {c["type"]: c.get("status") for c in status.get("conditions") or ()}
    return Claim(
        name=metadata["name"],
        group=(metadata.get("labels") or {}).get(labels.BROKER_GROUP, ""),
        index=int(index) if index.isdigit() else -1,
        resource_version=metadata["resourceVersion"],
        requested=item["spec"]["resources"]["requests"]["storage"],
        capacity=(status.get("capacity") or {}).get("storage", ""),
        storage_class=item["spec"].get("storageClassName"),
        needs_restart=conditions.get("FileSystemResizePending") == "True",
    )


def settled(stateful_set: Object) -> bool:
    """Whether the StatefulSet controller has seen the current specification."""
    status = stateful_set.get("status", {})
    return bool(status.get("observedGeneration", 0) >= stateful_set["metadata"].get("generation", 0))
