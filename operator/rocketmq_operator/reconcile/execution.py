"""Carrying out steps: the only place of reconciling that writes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from rocketmq_operator.admin.access import BrokerAccess, BrokerRefused, BrokerSilent
from rocketmq_operator.kube.api import Api, ApiError, Conflict, Object, TooManyRequests
from rocketmq_operator.kube.resources import BY_KIND, CLAIMS, STATEFUL_SETS
from rocketmq_operator.reconcile.convergence import digest
from rocketmq_operator.reconcile.observation import is_owned
from rocketmq_operator.reconcile.steps import (
    Annotate,
    AnyStep,
    ApplyObject,
    CloseWrites,
    ConfigureBroker,
    CopyTables,
    DeleteObject,
    GrowClaim,
    OpenWrites,
    RestartPod,
    UnregisterGroup,
)

logger = logging.getLogger(__name__)

KNOWN_OBJECTS_MAX = 100_000
REFUSALS_MAX = 10_000


class Outcome(msgspec.Struct, kw_only=True):
    """``done`` steps; ``refusals`` need a change of the spec or of the cluster; ``delays`` only another try."""

    done: list[AnyStep] = []
    refusals: list[str] = []
    delays: list[str] = []


class Executor:
    """Carries out steps for all clusters. Remembers what the API server made of applied objects, and what brokers refused."""

    def __init__(self, api: Api, brokers: BrokerAccess) -> None:
        self._api = api
        self._brokers = brokers
        self._known: OrderedDict[str, str] = OrderedDict()
        self.refused: OrderedDict[str, str] = OrderedDict()

    def is_known(self, live: Object) -> bool:
        """Whether ``live`` is as the API server returned it from our last apply: then a difference is only its spelling."""
        return self._known.get(live["metadata"]["uid"]) == digest(live)

    async def run(self, steps: Sequence[AnyStep], namespace: str, owner: str, pods: dict[str, str]) -> Outcome:
        """Carry out ``steps`` in order; ``owner`` is the cluster's uid, ``pods`` name → uid.

        Objects are independent of each other: one that is refused does not keep the others. After any other failure the rest waits
        for the next pass, which plans anew.
        """
        outcome = Outcome()
        for step in steps:
            try:
                await self._run(step, namespace, owner, pods)
            except (Conflict, TooManyRequests, BrokerSilent) as error:
                outcome.delays.append(f"{step.note}: {error}")
            except BrokerRefused as error:
                outcome.refusals.append(f"{step.note}: {error}")
                if isinstance(step, ConfigureBroker):
                    _remember(self.refused, pods.get(step.pod, ""), str(error), REFUSALS_MAX)
                    continue
            except ApiError as error:
                (outcome.refusals if error.is_refusal else outcome.delays).append(f"{step.note}: {error}")
            else:
                outcome.done.append(step)
                continue
            if not isinstance(step, ApplyObject | GrowClaim | ConfigureBroker):
                break
        return outcome

    async def _run(self, step: AnyStep, namespace: str, owner: str, pods: dict[str, str]) -> None:
        match step:
            case ApplyObject():
                await self._apply(step, namespace, owner)
            case DeleteObject():
                await self._api.delete(BY_KIND[step.kind], namespace, step.name, uid=step.uid, orphan=step.orphan)
            case RestartPod():
                await self._api.evict(namespace, step.name, uid=step.uid)
            case GrowClaim():
                await self._api.merge(
                    CLAIMS,
                    namespace,
                    step.name,
                    {
                        "metadata": {"resourceVersion": step.resource_version},
                        "spec": {"resources": {"requests": {"storage": step.size}}},
                    },
                )
            case Annotate():
                metadata = {"resourceVersion": step.resource_version, "annotations": dict(step.annotations)}
                await self._api.merge(STATEFUL_SETS, namespace, step.stateful_set, {"metadata": metadata})
            case ConfigureBroker():
                await self._brokers.configure(step.address, step.values)
            case CloseWrites() | OpenWrites():
                await self._brokers.set_writes(step.group, step.name_servers, is_open=isinstance(step, OpenWrites))
            case CopyTables():
                for topic in step.topics:
                    await self._brokers.put_topic(step.target, topic)
                for group in step.groups:
                    await self._brokers.put_group(step.target, group)
            case UnregisterGroup():
                await self._brokers.unregister(step.cluster, step.group, step.brokers, step.name_servers)

    async def _apply(self, step: ApplyObject, namespace: str, owner: str) -> None:
        manifest = step.manifest
        resource, name = BY_KIND[manifest["kind"]], manifest["metadata"]["name"]
        if step.reason == "Created":
            # An object of this name that is not ours is somebody's: forced apply would take it over without a word.
            existing = await self._api.get(resource, namespace, name)
            if existing is not None and not is_owned(existing, owner):
                if "deletionTimestamp" in existing["metadata"] or _is_left_over(existing):
                    raise Conflict(409, "Conflict", f"{resource.kind} {name} of a deleted cluster is not gone yet")
                raise ApiError(422, "NameTaken", f"{resource.kind} {name} exists and does not belong to this cluster")
        applied = await self._api.apply(manifest)
        _remember(self._known, applied["metadata"]["uid"], digest(applied), KNOWN_OBJECTS_MAX)


def _is_left_over(existing: Object) -> bool:
    owners = existing["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("kind") == "RocketMQCluster" for owner in owners)


def _remember(memory: OrderedDict[str, str], key: str, value: str, count_max: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > count_max:
        memory.popitem(last=False)
