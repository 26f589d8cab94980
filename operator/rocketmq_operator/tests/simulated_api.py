"""An API server in memory: resource versions, generations, server-side apply by manager, preconditions, evictions with budgets.

It can end its user after any call (`Killed`), which is how tests stop an operator at every step.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from typing import Any

from rocketmq_operator.kube.api import (
    FIELD_MANAGER,
    ApiError,
    Conflict,
    NotFound,
    Object,
    Objects,
    TooManyRequests,
    WatchEvent,
)
from rocketmq_operator.kube.resources import Resource
from rocketmq_operator.overlay import MERGE_KEYS


class Killed(BaseException):
    """The operator process ends here."""


class SimulatedApi:
    """See `rocketmq_operator.kube.api.Api`. ``writes`` lists (verb, kind, name) of calls that changed something."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.deleted: list[tuple[str, str]] = []
        self.call_count = 0
        self.kill_at: int | None = None
        self._applied: dict[tuple[str, str], Object] = {}
        self._version = 0
        self._uids = 0

    # -- the seam ----------------------------------------------------------------------------------------------------

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Objects:
        return [
            copy.deepcopy(item)
            for (kind, its, _), item in sorted(self.objects.items())
            if kind == resource.kind and namespace in (None, its) and _matches(item, selector)
        ]

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        return copy.deepcopy(self.objects.get((resource.kind, namespace or "", name)))

    async def apply(self, manifest: Object, *, manager: str = FIELD_MANAGER, subresource: str = "") -> Object:
        manifest = copy.deepcopy(manifest)
        metadata = manifest["metadata"]
        key = (manifest["kind"], metadata["namespace"], metadata["name"])
        before = self.objects.get(key)
        if subresource and before is None:
            raise NotFound(404, "NotFound", f"{key} not found")
        live = copy.deepcopy(before) if before else self._new(manifest)
        memory = (live["metadata"]["uid"], manager)
        old = self._applied.get(memory, {})
        parts = ("status",) if subresource else tuple(k for k in manifest if k not in ("status", "apiVersion", "kind"))
        for part in parts:
            live[part] = _applied(live.get(part, {}), old.get(part, {}), manifest.get(part, {}), part)
        self._applied[memory] = manifest
        if manifest["kind"] == "StatefulSet" and before is not None:
            for field in ("volumeClaimTemplates", "serviceName", "selector"):
                if before["spec"].get(field) != live["spec"].get(field):
                    raise ApiError(422, "Invalid", f"spec.{field}: Forbidden: updates are forbidden")
        self._store(key, before, live, "apply")
        self.counted()
        return copy.deepcopy(self.objects[key])

    async def create(self, resource: Resource, body: Object) -> Object:
        key = (resource.kind, body["metadata"]["namespace"], body["metadata"]["name"])
        if key in self.objects:
            raise Conflict(409, "AlreadyExists", f"{key} exists")
        self._store(
            key, None, {**self._new(body), **copy.deepcopy(body), "metadata": self._new(body)["metadata"]}, "create"
        )
        self.counted()
        return copy.deepcopy(self.objects[key])

    async def replace(self, resource: Resource, body: Object) -> Object:
        key = (resource.kind, body["metadata"]["namespace"], body["metadata"]["name"])
        before = self._current(key, body["metadata"].get("resourceVersion"))
        self._store(key, before, copy.deepcopy(body), "update")
        self.counted()
        return copy.deepcopy(self.objects[key])

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        key = (resource.kind, namespace, name)
        before = self._current(key, patch.get("metadata", {}).get("resourceVersion"))
        live = _merged(copy.deepcopy(before), patch)
        self._store(key, before, live, "patch")
        self.counted()
        return copy.deepcopy(self.objects.get(key, live))

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str, orphan: bool = False) -> None:
        live = self.objects.get((resource.kind, namespace, name))
        if live is not None:
            if live["metadata"]["uid"] != uid:
                raise Conflict(409, "Conflict", "the UID in the precondition does not match")
            self.remove(resource.kind, namespace, name, orphan=orphan)
            self.writes.append(("delete", resource.kind, name))
        self.counted()

    async def evict(self, namespace: str, pod: str, *, uid: str) -> None:
        live = self.objects.get(("Pod", namespace, pod))
        if live is not None:
            if live["metadata"]["uid"] != uid:
                raise Conflict(409, "Conflict", "the UID in the precondition does not match")
            for (kind, its, _), budget in self.objects.items():
                if kind == "PodDisruptionBudget" and its == namespace and is_ready(live):
                    selector = budget["spec"]["selector"]["matchLabels"]
                    pods = self.select("Pod", namespace, selector)
                    if live in pods and any(not is_ready(p) for p in pods):
                        raise TooManyRequests(429, "TooManyRequests", "disruption budget")
            self.remove("Pod", namespace, pod)
            self.writes.append(("evict", "Pod", pod))
        self.counted()

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[WatchEvent]:
        for item in await self.list(resource, namespace, selector):
            yield WatchEvent("ADDED", item)

    # -- for tests and controllers -----------------------------------------------------------------------------------

    def counted(self) -> None:
        """One changing call of the operator, made and answered; kill it now if that was the one.

        Reading changes nothing and the operator remembers nothing, so dying after a read is dying after the write before it.
        """
        self.call_count += 1
        if self.kill_at is not None and self.call_count >= self.kill_at:
            self.kill_at = None
            raise Killed

    def put(self, item: Object) -> None:
        """Create or overwrite as somebody else."""
        key = (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
        before = self.objects.get(key)
        self._store(
            key,
            before,
            item if before else {**item, "metadata": {**item["metadata"], **self._new(item)["metadata"]}},
            "",
        )

    def edit(self, kind: str, namespace: str, name: str, patch: Object) -> None:
        """A merge patch by somebody else."""
        key = (kind, namespace, name)
        self._store(key, self.objects[key], _merged(copy.deepcopy(self.objects[key]), patch), "")

    def remove(self, kind: str, namespace: str, name: str, *, orphan: bool = False) -> None:
        """Delete, and what it owns unless orphaned."""
        gone = self.objects.pop((kind, namespace, name))
        self.deleted.append((kind, name))
        for (k, n, m), item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == gone["metadata"]["uid"] for owner in owners):
                if orphan:
                    item["metadata"]["ownerReferences"] = []
                elif (k, n, m) in self.objects:
                    self.remove(k, n, m)

    def select(self, kind: str, namespace: str, wanted: dict[str, str]) -> Objects:
        """Objects with all these labels."""
        return [
            item
            for (k, n, _), item in sorted(self.objects.items())
            if k == kind and n == namespace and wanted.items() <= (item["metadata"].get("labels") or {}).items()
        ]

    def snapshot(self) -> dict[str, Any]:
        """Everything that lasts, without versions, uids and times: equal states have equal snapshots."""
        result = {}
        for (kind, namespace, name), item in sorted(self.objects.items()):
            if kind in ("Event", "Lease"):
                continue
            content = {k: v for k, v in item.items() if k not in ("metadata", "status")}
            own = {k: item["metadata"].get(k) for k in ("labels", "annotations")}
            status = item.get("status", {}).get("phase") if kind == "RocketMQCluster" else None
            result[f"{kind} {namespace}/{name}"] = copy.deepcopy({**content, **own, "phase": status})
        return result

    # -- inside ------------------------------------------------------------------------------------------------------

    def _new(self, item: Object) -> Object:
        self._uids += 1
        metadata = item["metadata"]
        return {
            "apiVersion": item["apiVersion"],
            "kind": item["kind"],
            "metadata": {
                **copy.deepcopy(
                    {
                        k: v
                        for k, v in metadata.items()
                        if k in ("labels", "annotations", "ownerReferences", "finalizers")
                    }
                ),
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata.get("uid") or f"uid-{self._uids}",
                "generation": 1,
            },
        }

    def _current(self, key: tuple[str, str, str], version: str | None) -> Object:
        before = self.objects.get(key)
        if before is None:
            raise NotFound(404, "NotFound", f"{key} not found")
        if version is not None and version != before["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "the object has been modified")
        return before

    def _store(self, key: tuple[str, str, str], before: Object | None, live: Object, verb: str) -> None:
        metadata = live["metadata"]
        if before is not None:
            metadata["uid"] = before["metadata"]["uid"]
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
            metadata["generation"] = before["metadata"]["generation"] + (before.get("spec") != live.get("spec"))
            if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
                del self.objects[key]
                self.deleted.append((key[0], key[2]))
                return
            if before == live:
                return
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self.objects[key] = live
        if verb:
            self.writes.append((verb, key[0], key[2]))


def is_ready(pod: Object) -> bool:
    """Whether a Pod is ready."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _matches(item: Object, selector: str) -> bool:
    own = item["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        key, separator, value = term.partition("=")
        if key not in own or (separator and own[key] != value):
            return False
    return True


def _merged(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _applied(live: Any, old: Any, new: Any, name: str) -> Any:
    """What server-side apply makes of a field: ours replaced, ours that we dropped removed, others' kept."""
    if isinstance(new, dict):
        result = dict(live) if isinstance(live, dict) else {}
        old = old if isinstance(old, dict) else {}
        for key in old.keys() - new.keys():
            result.pop(key, None)
        for key, value in new.items():
            result[key] = _applied(result.get(key), old.get(key), value, key)
        return result
    key = (
        "port"
        if name == "ports" and new and "port" in new[0]
        else MERGE_KEYS.get(name)
        if isinstance(new, list)
        else None
    )
    if key and isinstance(live, list):
        before = {item.get(key): item for item in old or ()}
        ours = {
            item[key]: _applied({i[key]: i for i in live}.get(item[key]), before.get(item[key]), item, "")
            for item in new
        }
        foreign = [item for item in live if item.get(key) not in ours and item.get(key) not in before]
        return [*ours.values(), *foreign]
    return copy.deepcopy(new)
