"""Reading a cluster: its objects and Pods from the API server, its brokers from themselves, all at once and within a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from rocketmq_operator import labels, names
from rocketmq_operator.admin.access import BrokerAccess, BrokerRefused, BrokerSilent
from rocketmq_operator.kube.api import Api, Object
from rocketmq_operator.kube.resources import CLAIMS, OWNED, PODS
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.draining import address
from rocketmq_operator.reconcile.observed import BrokerFacts, DrainFacts, Observed, Pod, claim_from, pod_from
from rocketmq_operator.reconcile.plan import decide_topology
from rocketmq_operator.reconcile.rolling import master_of

logger = logging.getLogger(__name__)

BROKERS_ASKED_AT_ONCE_MAX = 16


class Observation:
    """Reads through two seams and changes nothing."""

    def __init__(self, api: Api, brokers: BrokerAccess) -> None:
        self._api = api
        self._brokers = brokers
        self._asking = asyncio.Semaphore(BROKERS_ASKED_AT_ONCE_MAX)

    async def observe(
        self, cluster: RocketMQCluster, document: Object, refused: Mapping[str, str], now_ms: int
    ) -> Observed:
        """One cluster as it is now; raises ApiError. What brokers do not tell is left out."""
        namespace, selector = cluster.namespace, f"{labels.CLUSTER}={cluster.name}"
        lists = await asyncio.gather(
            *(self._api.list(resource, namespace, selector) for resource in OWNED.values()),
            self._api.list(PODS, namespace, selector),
            self._api.list(CLAIMS, namespace, selector),
        )
        owned = [item for items in lists[:-2] for item in items if is_owned(item, cluster.uid)]
        pods = {pod.name: pod for pod in map(pod_from, lists[-2])}
        asked = [pod for pod in pods.values() if pod.component == labels.BROKER and pod.ip and not pod.is_deleting]
        facts = await asyncio.gather(*(self._facts(pod) for pod in asked))
        observed = Observed(
            objects={(item["kind"], item["metadata"]["name"]): item for item in owned},
            pods=pods,
            claims={claim.name: claim for claim in map(claim_from, lists[-1])},
            brokers={pod.name: told for pod, told in zip(asked, facts, strict=True) if told is not None},
            status=document.get("status") or {},
            annotations=document["metadata"].get("annotations") or {},
            refused=refused,
        )
        return await self._with_drains(cluster, observed, now_ms)

    async def _with_drains(self, cluster: RocketMQCluster, observed: Observed, now_ms: int) -> Observed:
        topology = decide_topology(cluster, observed, now_ms)
        staying = [names.broker_group(cluster, g) for g in topology.groups if g not in topology.leaving]
        masters = [address(m) for g in staying if (m := master_of(observed, g)) is not None and m.ip]
        drains: dict[str, DrainFacts] = {}
        for index in sorted(topology.leaving):
            group = names.broker_group(cluster, index)
            master = master_of(observed, group)
            if master is not None and master.name in observed.brokers:
                told = await self._drain_facts(master, masters)
                if told is not None:
                    drains[group] = told
        if not drains:
            return observed
        return Observed(**{name: getattr(observed, name) for name in observed.__struct_fields__} | {"drains": drains})

    async def _facts(self, pod: Pod) -> BrokerFacts | None:
        try:
            async with self._asking:
                return await self._brokers.facts(address(pod))
        except (BrokerSilent, BrokerRefused) as error:
            logger.debug("broker %s: %s", pod.name, error)
            return None

    async def _drain_facts(self, pod: Pod, masters: Sequence[str]) -> DrainFacts | None:
        try:
            return await self._brokers.drain_facts(address(pod), masters)
        except (BrokerSilent, BrokerRefused) as error:
            logger.info("what %s still holds is not known: %s", pod.name, error)
            return None


def is_owned(item: Object, uid: str) -> bool:
    """Whether the cluster with this uid is the object's controller."""
    owners: Sequence[Mapping[str, Any]] = item["metadata"].get("ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)
