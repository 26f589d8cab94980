"""RocketMQConsumerGroup."""

from __future__ import annotations

from typing import Any

from rocketmq_operator.companions import wanted
from rocketmq_operator.companions.keeping import CompanionReconciler
from rocketmq_operator.companions.targets import Targets
from rocketmq_operator.kube.api import Object
from rocketmq_operator.kube.resources import CONSUMER_GROUPS


class GroupReconciler(CompanionReconciler):
    """Keeps consumer groups; see `rocketmq_operator.companions.keeping`."""

    resource = CONSUMER_GROUPS

    def name_of(self, document: Object) -> str:
        """See the base."""
        return wanted.group_name(document)

    async def apply(self, document: Object, address: str) -> bool:
        """See the base."""
        live = await self._brokers.group(address, wanted.group_name(document))
        config = wanted.group_config(document, live)
        if not wanted.is_as_wanted(live, config):
            await self._brokers.put_group(address, config)
        return True

    async def remove(self, document: Object, targets: Targets) -> None:
        """See the base."""
        for address in targets.masters.values():
            await self._brokers.delete_group(address, wanted.group_name(document))

    async def facts(self, document: Object, targets: Targets) -> dict[str, Any]:
        """See the base: lag and members, as far as all masters tell."""
        name = wanted.group_name(document)
        lag = members = 0
        for address in targets.masters.values():
            left, online = await self._brokers.group_progress(address, name)
            lag += left
            # Every consumer is connected to every master.
            members = max(members, online)
        return {"groupName": name, "lag": str(lag), "members": members}
