"""What topics and consumer groups have in common: who owns a name, finalizers, conditions, one pass.

A finalizer is held only with ``deletionPolicy: Delete``, and given up at once when the cluster is gone, so that no namespace ever
hangs on it.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any, ClassVar

from rocketmq_common.clock import Clock
from rocketmq_operator.admin.access import BrokerAccess, BrokerRefused, BrokerSilent
from rocketmq_operator.companions.targets import Targets, find_targets
from rocketmq_operator.crd import GROUP
from rocketmq_operator.kube.api import STATUS_MANAGER, Api, Object
from rocketmq_operator.kube.events import EventRecorder
from rocketmq_operator.kube.resources import Resource
from rocketmq_operator.reconcile.conditions import condition, timed

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
NO_CLUSTER_SECONDS = 15.0
FINALIZER = f"{GROUP}/delete-at-brokers"


class CompanionReconciler:
    """One kind of companion. Subclasses know what brokers are told."""

    resource: ClassVar[Resource]

    def __init__(self, api: Api, brokers: BrokerAccess, clock: Clock, events: EventRecorder) -> None:
        self._api = api
        self._brokers = brokers
        self._clock = clock
        self._events = events

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """One pass; after how many seconds another is due. Raises ApiError."""
        document = await self._api.get(self.resource, namespace, name)
        if document is None:
            return None
        targets = await find_targets(self._api, namespace, document["spec"]["clusterRef"]["name"])
        if "deletionTimestamp" in document["metadata"]:
            return await self._end(document, targets)
        owner = await self._owner(document)
        if owner is not None:
            note = f"{self.name_of(document)} belongs to {owner}, which is older"
            await self._write(document, [], ("Conflict", note), {})
            return None
        if targets.gone or targets.is_paused:
            await self._write(document, [], ("NoCluster", targets.gone or "the cluster is paused"), {})
            return NO_CLUSTER_SECONDS
        await self._hold(document)
        return await self._keep(document, targets)

    @abstractmethod
    def name_of(self, document: Object) -> str:
        """RocketMQ's name of the companion."""

    @abstractmethod
    async def apply(self, document: Object, address: str) -> bool:
        """Bring one master nearer to what is wanted; whether it is there. Raises BrokerSilent, BrokerRefused."""

    @abstractmethod
    async def remove(self, document: Object, targets: Targets) -> None:
        """Delete it everywhere. Raises BrokerSilent, BrokerRefused."""

    @abstractmethod
    async def facts(self, document: Object, targets: Targets) -> dict[str, Any]:
        """More for the status. Raises BrokerSilent, BrokerRefused."""

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _keep(self, document: Object, targets: Targets) -> float | None:
        done, problems = [], [f"{group} has no master that is ready" for group in targets.missing]
        refused = False
        for group, address in sorted(targets.masters.items()):
            try:
                if await self.apply(document, address):
                    done.append(group)
                else:
                    problems.append(f"{group}: queues that go are not consumed yet")
            except (BrokerSilent, BrokerRefused) as error:
                refused = refused or isinstance(error, BrokerRefused)
                problems.append(f"{group}: {error}")
        if not targets.masters and not problems:
            problems.append("the cluster has no broker group yet")
        try:
            facts = await self.facts(document, targets)
        except (BrokerSilent, BrokerRefused) as error:
            logger.info("%s %s: %s", self.resource.kind, document["metadata"]["name"], error)
            facts = {}
        failure = ("Refused" if refused else "Pending", "; ".join(problems)) if problems else None
        await self._write(document, done, failure, facts)
        return RETRY_SECONDS if problems else None

    async def _end(self, document: Object, targets: Targets) -> float | None:
        if FINALIZER not in (document["metadata"].get("finalizers") or ()):
            return None
        if (
            not targets.gone
            and document["spec"].get("deletionPolicy") == "Delete"
            and await self._owner(document) is None
        ):
            try:
                if targets.missing:
                    raise BrokerSilent(f"no master: {', '.join(targets.missing)}")
                await self.remove(document, targets)
            except (BrokerSilent, BrokerRefused) as error:
                note = f"{self.name_of(document)} is not deleted at its brokers yet: {error}"
                await self._events.record(document, "DeletePending", "Delete", note, warning=True)
                return RETRY_SECONDS
        await self._set_finalizer(document, held=False)
        return None

    async def _hold(self, document: Object) -> None:
        wanted = document["spec"].get("deletionPolicy") == "Delete"
        if wanted != (FINALIZER in (document["metadata"].get("finalizers") or ())):
            await self._set_finalizer(document, held=wanted)

    async def _set_finalizer(self, document: Object, *, held: bool) -> None:
        metadata = document["metadata"]
        others = [name for name in metadata.get("finalizers") or () if name != FINALIZER]
        patch = {
            "metadata": {
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": [*others, FINALIZER] if held else others,
            }
        }
        await self._api.merge(self.resource, metadata["namespace"], metadata["name"], patch)

    async def _owner(self, document: Object) -> str | None:
        """The older resource that claims the same name in the same cluster, if there is one."""

        def age(item: Object) -> tuple[str, str]:
            return item["metadata"].get("creationTimestamp", ""), item["metadata"]["uid"]

        for other in await self._api.list(self.resource, document["metadata"]["namespace"]):
            same = (
                other["spec"]["clusterRef"]["name"] == document["spec"]["clusterRef"]["name"]
                and self.name_of(other) == self.name_of(document)
                and "deletionTimestamp" not in other["metadata"]
            )
            if same and age(other) < age(document):
                return str(other["metadata"]["name"])
        return None

    async def _write(
        self, document: Object, groups: list[str], failure: tuple[str, str] | None, facts: dict[str, Any]
    ) -> None:
        generation = int(document["metadata"].get("generation", 0))
        reason, message = failure or ("Applied", "every master has it as wanted")
        before = document.get("status") or {}
        conditions = [
            condition("Ready", failure is None, reason, message, generation),
            condition("Conflict", reason == "Conflict", reason, message if reason == "Conflict" else "", generation),
        ]
        status = {
            "observedGeneration": generation,
            **facts,
            "groups": groups,
            "conditions": timed(conditions, before.get("conditions") or (), self._clock.now_ms()),
        }
        if status == before:
            return
        metadata = {"name": document["metadata"]["name"], "namespace": document["metadata"]["namespace"]}
        body = {
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": metadata,
            "status": status,
        }
        await self._api.apply(body, manager=STATUS_MANAGER, subresource="status")
