"""One pass over one cluster: observe, validate, plan, carry out, tell. Level-triggered: it needs no memory of earlier passes."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import msgspec

from rocketmq_common.clock import Clock
from rocketmq_operator.admin.access import BrokerAccess
from rocketmq_operator.crd import API_VERSION, KIND, cluster_schema
from rocketmq_operator.documents import InvalidDocuments, validate_object
from rocketmq_operator.kube.api import STATUS_MANAGER, Api, Object
from rocketmq_operator.kube.events import EventRecorder
from rocketmq_operator.kube.resources import CLUSTERS
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.execution import Executor, Outcome
from rocketmq_operator.reconcile.observation import Observation
from rocketmq_operator.reconcile.plan import Plan, plan
from rocketmq_operator.reconcile.status import Status, cluster_status, refused_status
from rocketmq_operator.reconcile.steps import AnyStep, CloseWrites
from rocketmq_operator.structural import pruned

logger = logging.getLogger(__name__)

SOON_SECONDS = 1.0
WAITING_SECONDS = 5.0


class Reconciler:
    """All clusters, one call each; calls for different clusters may overlap, those for one must not."""

    def __init__(self, api: Api, brokers: BrokerAccess, clock: Clock, events: EventRecorder) -> None:
        self._api = api
        self._clock = clock
        self._events = events
        self._observation = Observation(api, brokers)
        self._executor = Executor(api, brokers)
        self._generations: dict[tuple[str, str], int] = {}
        self.step_counts: Counter[tuple[str, str]] = Counter()
        self.status_writes = 0

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Make one pass; after how many seconds another is due, None when only an event makes it due. Raises ApiError."""
        document = await self._api.get(CLUSTERS, namespace, name)
        if document is None or "deletionTimestamp" in document["metadata"]:
            # Whatever it owned is collected by its owner references; claims stay, having none.
            self._generations.pop((namespace, name), None)
            return None
        generation = int(document["metadata"].get("generation", 0))
        try:
            # A field that only the API server knows is of a newer release, whose operator is about to take over.
            known = pruned({k: v for k, v in document.items() if k != "status"}, cluster_schema())
            cluster = validate_object(known).cluster
        except (InvalidDocuments, msgspec.ValidationError) as error:
            await self._refuse(document, generation, str(error))
            return None
        if self._generations.get((namespace, name)) != generation:
            # A changed spec may make refused values acceptable.
            self._executor.refused.clear()
            self._generations[(namespace, name)] = generation
        return await self._pass(cluster, document, generation)

    async def _pass(self, cluster: RocketMQCluster, document: Object, generation: int) -> float | None:
        now_ms = self._clock.now_ms()
        observed = await self._observation.observe(cluster, document, self._executor.refused, now_ms)
        the_plan = plan(cluster, observed, now_ms, self._executor.is_known)
        outcome = Outcome()
        if not cluster.spec.paused:
            uids = {pod.name: pod.uid for pod in observed.pods.values()}
            outcome = await self._executor.run(the_plan.steps, cluster.namespace, cluster.uid, uids)
            await self._tell(document, outcome)
        status = cluster_status(
            cluster,
            observed,
            the_plan,
            generation=generation,
            refusals=outcome.refusals,
            delays=outcome.delays,
            now_ms=now_ms,
        )
        await self._write_status(document, status)
        if cluster.spec.paused:
            return None
        return _next_pass(the_plan, outcome)

    async def _refuse(self, document: Object, generation: int, message: str) -> None:
        status = refused_status(
            document.get("status") or {},
            generation=generation,
            reason="InvalidSpec",
            message=message,
            now_ms=self._clock.now_ms(),
        )
        await self._write_status(document, status)
        await self._events.record(_regarding(document), "InvalidSpec", "Validate", message, warning=True)

    async def _tell(self, document: Object, outcome: Outcome) -> None:
        regarding = _regarding(document)
        for step in outcome.done:
            action = type(step).__name__
            self.step_counts[action, step.reason] += 1
            logger.info("%s/%s: %s", document["metadata"]["namespace"], document["metadata"]["name"], step.note)
            if not _is_repetition(step):
                await self._events.record(regarding, step.reason, action, step.note)
        for refusal in outcome.refusals:
            logger.error("%s/%s: %s", document["metadata"]["namespace"], document["metadata"]["name"], refusal)
            await self._events.record(regarding, "Refused", "Reconcile", refusal, warning=True)

    async def _write_status(self, document: Object, status: Status) -> None:
        if _same(document.get("status") or {}, status):
            return
        metadata = {"name": document["metadata"]["name"], "namespace": document["metadata"]["namespace"]}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "status": status}
        await self._api.apply(body, manager=STATUS_MANAGER, subresource="status")
        self.status_writes += 1


def _next_pass(the_plan: Plan, outcome: Outcome) -> float | None:
    if outcome.delays or outcome.refusals:
        return WAITING_SECONDS
    if the_plan.steps:
        return SOON_SECONDS
    waits = the_plan.waiting or the_plan.roll.pending or the_plan.drains
    return WAITING_SECONDS if waits else None


def _is_repetition(step: AnyStep) -> bool:
    # Said at every pass while producers leave; the annotation before it was told.
    return isinstance(step, CloseWrites)


def _regarding(document: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": document["metadata"]}


def _same(live: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Equal up to the order of conditions and groups, which the API server keeps by key."""

    def sorted_lists(status: dict[str, Any]) -> dict[str, Any]:
        keys = {"conditions": "type", "groupStatuses": "name", "listeners": "name", "pendingRestart": "pod"}
        return {
            name: sorted(value, key=lambda item: str(item.get(keys[name]))) if name in keys else value
            for name, value in status.items()
        }

    return sorted_lists(live) == sorted_lists(wanted)
