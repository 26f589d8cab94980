"""What the embedded mode changes in a document: sizes fit for a laptop, and a document for who has none.

Only keys that the document does not set. Segment and index sizes are part of the files on disk, so these values must never
change: a store made with one value cannot be opened with another.
"""

from __future__ import annotations

import msgspec

from rocketmq_operator.model import Brokers, ClusterSpec, NameServers, RocketMQCluster, Storage

LIGHT_BROKER_CONFIG = {
    "mappedFileSizeCommitLog": str(64 * 1024 * 1024),
    "mappedFileSizeConsumeQueue": str(15_000 * 20),
    "maxHashSlotNum": "100000",
    "maxIndexNum": "400000",
}

DEFAULT_CLUSTER = RocketMQCluster(
    name="rocketmq",
    spec=ClusterSpec(name_servers=NameServers(replicas=1), brokers=Brokers(storage=Storage(size="10Gi"))),
)


def with_light_defaults(cluster: RocketMQCluster) -> RocketMQCluster:
    """The cluster with small segment and index files where its document leaves the choice."""
    brokers = cluster.spec.brokers
    config = {**LIGHT_BROKER_CONFIG, **brokers.config}
    spec = msgspec.structs.replace(cluster.spec, brokers=msgspec.structs.replace(brokers, config=config))
    return msgspec.structs.replace(cluster, spec=spec)
