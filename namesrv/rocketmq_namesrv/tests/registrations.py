"""What tests register."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from rocketmq_common.topics import DataVersion, TopicConfig
from rocketmq_namesrv.routes import Registration

SYSTEM = ("TBW102", "SELF_TEST_TOPIC")


def registration(
    name: str = "broker-a",
    broker_id: int = 0,
    *,
    topics: Sequence[str | TopicConfig] = ("orders",),
    counter: int = 1,
    state_version: int = 0,
    address: str | None = None,
    cluster: str = "c",
    connection: Hashable = None,
    timeout_ms: int | None = None,
    acting: bool | None = False,
    perm: int = 6,
) -> Registration:
    """A full registration: the topics given and two of the system, so that it is no single-topic increment."""
    configs = [
        t if isinstance(t, TopicConfig) else TopicConfig(topic_name=t, read_queue_nums=4, write_queue_nums=4, perm=perm)
        for t in (*topics, *SYSTEM)
    ]
    return Registration(
        cluster=cluster,
        broker_name=name,
        address=address or f"{name}-{broker_id}:10911",
        broker_id=broker_id,
        ha_server_addr=f"{name}-{broker_id}:10912",
        data_version=DataVersion(counter=counter, state_version=state_version),
        topics={config.topic_name: config for config in configs},
        connection=connection,
        heartbeat_timeout_ms=timeout_ms,
        enable_acting_master=acting,
    )
