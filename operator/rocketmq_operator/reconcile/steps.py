"""What the operator may do to a cluster. A plan is a list of these; each says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rocketmq_operator.kube.api import Object


class Step(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``reason`` is an UpperCamelCase word for Events and metrics, ``note`` the sentence for people."""

    reason: str
    note: str


class ApplyObject(Step, frozen=True, kw_only=True):
    """Server-side apply of one whole rendered object."""

    manifest: Object


class DeleteObject(Step, frozen=True, kw_only=True):
    """Delete exactly this object; ``orphan`` leaves what it owns running."""

    kind: str
    name: str
    uid: str
    orphan: bool = False


class RestartPod(Step, frozen=True, kw_only=True):
    """Evict exactly this Pod; its StatefulSet makes it anew."""

    name: str
    uid: str


class GrowClaim(Step, frozen=True, kw_only=True):
    """Ask for more storage, unless the claim changed meanwhile."""

    name: str
    resource_version: str
    size: str


class Annotate(Step, frozen=True, kw_only=True):
    """Remember on a StatefulSet how far an operation is; None removes. Survives the operator."""

    stateful_set: str
    resource_version: str
    annotations: Mapping[str, str | None]


class ConfigureBroker(Step, frozen=True, kw_only=True):
    """Change keys of a running broker."""

    pod: str
    address: str
    values: Mapping[str, str]


class CloseWrites(Step, frozen=True, kw_only=True):
    """Take a group's topics from producers at every name server."""

    group: str
    name_servers: tuple[str, ...]


class OpenWrites(Step, frozen=True, kw_only=True):
    """Undo `CloseWrites`."""

    group: str
    name_servers: tuple[str, ...]


class CopyTables(Step, frozen=True, kw_only=True):
    """Create topics and consumer groups of a leaving broker at one that stays."""

    target: str
    topics: tuple[Mapping[str, Any], ...]
    groups: tuple[Mapping[str, Any], ...]


class UnregisterGroup(Step, frozen=True, kw_only=True):
    """Make every name server forget a group that is empty and about to be removed. ``brokers``: (id, address)."""

    cluster: str
    group: str
    brokers: tuple[tuple[int, str], ...]
    name_servers: tuple[str, ...]


AnyStep = (
    ApplyObject
    | DeleteObject
    | RestartPod
    | GrowClaim
    | Annotate
    | ConfigureBroker
    | CloseWrites
    | OpenWrites
    | CopyTables
    | UnregisterGroup
)
