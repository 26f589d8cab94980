"""Watching what clusters are made of: any change wakes the cluster that it belongs to, nothing is cached.

kopf cannot select by label on the server, and watching every Pod and Service of a Kubernetes cluster costs memory in step with its
size; so children are watched here, and kopf watches only our own kinds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol

from rocketmq_operator import labels
from rocketmq_operator.kube.api import Api, ApiError, Object, Objects
from rocketmq_operator.kube.resources import (
    CONFIG_MAPS,
    DISRUPTION_BUDGETS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    STATEFUL_SETS,
    Resource,
)

logger = logging.getLogger(__name__)

WATCHED = (STATEFUL_SETS, PODS, SERVICES, CONFIG_MAPS, DISRUPTION_BUDGETS, NETWORK_POLICIES)
SELECTOR = f"app.kubernetes.io/managed-by=rocketmq-operator,{labels.CLUSTER}"
RETRY_SECONDS_MIN = 0.5
RETRY_SECONDS_MAX = 30.0

Wake = Callable[[str, str], None]


class WatchableApi(Api, Protocol):
    """An API that also tells from where to watch."""

    async def list_at(self, resource: Resource, namespace: str | None, selector: str = "") -> tuple[Objects, str]:
        """All objects, and the resourceVersion to watch from."""
        ...


class ChildWatch:
    """One watch of one kind. ``last_seen`` is the monotonic time of the last list, event or bookmark."""

    def __init__(
        self, api: WatchableApi, resource: Resource, namespace: str | None, wake: Wake, monotonic: Callable[[], float]
    ) -> None:
        self._api = api
        self.resource = resource
        self._namespace = namespace
        self._wake = wake
        self._monotonic = monotonic
        self.last_seen = monotonic()

    async def run(self) -> None:
        """Watch until cancelled; failures are repeated with growing pauses."""
        pause = RETRY_SECONDS_MIN
        while True:
            try:
                items, version = await self._api.list_at(self.resource, self._namespace, SELECTOR)
                self.last_seen = self._monotonic()
                for item in items:
                    self._tell(item)
                pause = RETRY_SECONDS_MIN
                await self._follow(version)
            except ApiError as error:
                if error.status != 410:  # 410: the version is too old, list again at once
                    logger.warning("watch of %s: %s; again in %.1f s", self.resource.plural, error, pause)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, RETRY_SECONDS_MAX)

    async def _follow(self, version: str) -> None:
        while True:
            async for event in self._api.watch(self.resource, self._namespace, SELECTOR, version):
                self.last_seen = self._monotonic()
                version = event.object.get("metadata", {}).get("resourceVersion", version)
                if event.type != "BOOKMARK":
                    self._tell(event.object)

    def _tell(self, item: Object) -> None:
        metadata = item.get("metadata", {})
        cluster = (metadata.get("labels") or {}).get(labels.CLUSTER)
        if cluster:
            self._wake(metadata.get("namespace", ""), cluster)
