"""RocketMQTopic."""

from __future__ import annotations

from typing import Any

from rocketmq_operator.companions import wanted
from rocketmq_operator.companions.keeping import CompanionReconciler
from rocketmq_operator.companions.targets import Targets
from rocketmq_operator.kube.api import Object
from rocketmq_operator.kube.resources import TOPICS


class TopicReconciler(CompanionReconciler):
    """Keeps topics; see `rocketmq_operator.companions.keeping`."""

    resource = TOPICS

    def name_of(self, document: Object) -> str:
        """See the base."""
        return wanted.topic_name(document)

    async def apply(self, document: Object, address: str) -> bool:
        """See the base."""
        name = wanted.topic_name(document)
        live = await self._brokers.topic(address, name)
        backlog: int | None = None
        read = int(document["spec"].get("readQueues", 8))
        # Only once producers have left the last queues does their emptiness last.
        if live is not None and int(live["readQueueNums"]) > read >= int(live["writeQueueNums"]):
            backlog = await self._brokers.queue_backlog(address, name, read)
        config = wanted.topic_config(document, live, backlog)
        if not wanted.is_as_wanted(live, config):
            await self._brokers.put_topic(address, {**(live or {}), **config})
        return bool(config["readQueueNums"] == read)

    async def remove(self, document: Object, targets: Targets) -> None:
        """See the base."""
        name = wanted.topic_name(document)
        # Routes first: producers must not recreate it at a broker that allows that.
        for address in targets.name_servers:
            await self._brokers.forget_topic(address, name)
        for address in targets.masters.values():
            await self._brokers.delete_topic(address, name)

    async def facts(self, document: Object, targets: Targets) -> dict[str, Any]:
        """See the base."""
        return {"topicName": wanted.topic_name(document)}
