"""How many of what exist right now, where that differs from the spec while a change is under way.

Name servers are published to brokers only when they are ready, and removed only after brokers and clients forgot them; a broker
group that should go stays until it is drained. Rendering takes this as a value, so it stays pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rocketmq_operator.model import RocketMQCluster


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """``published_namesrvs`` of ``namesrv_replicas`` are known to brokers; of ``groups`` those in ``leaving`` take no writes."""

    namesrv_replicas: int
    published_namesrvs: int
    groups: tuple[int, ...]
    leaving: frozenset[int] = frozenset()
    # Where the Services of listeners lead to, ``[host]:port`` by the Service's name; without a host it is the node's.
    exposed: Mapping[str, str] = {}

    @staticmethod
    def wanted(cluster: RocketMQCluster) -> Topology:
        """What the spec says."""
        servers = cluster.spec.name_servers.replicas
        return Topology(
            namesrv_replicas=servers, published_namesrvs=servers, groups=tuple(range(cluster.spec.brokers.groups))
        )
