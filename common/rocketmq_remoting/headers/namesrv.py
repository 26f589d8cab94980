"""The name server's requests."""

from __future__ import annotations

from msgspec import field

from rocketmq_remoting.commands import Header


class GetRouteInfoRequestHeader(Header):
    """Code 105."""

    topic: str
    accept_standard_json_only: bool | None = None


class RegisterBrokerRequestHeader(Header):
    """Code 103. ``body_crc32`` 0 means unchecked; a missing ``enable_acting_master`` marks an old broker."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    ha_server_addr: str
    broker_id: int
    heartbeat_timeout_millis: int | None = None
    enable_acting_master: bool | None = None
    compressed: bool = False
    body_crc32: int = field(name="bodyCrc32", default=0)
    # Ours: addresses for clients elsewhere, ``listener=host:port`` joined by ``;``. Apache's name server takes no notice.
    listeners: str | None = None


class RegisterBrokerResponseHeader(Header):
    """Answer to 103; the master's addresses are for slaves."""

    ha_server_addr: str | None = None
    master_addr: str | None = None


class BrokerIdentityHeader(Header):
    """Codes 104 and 322: one broker."""

    broker_name: str
    broker_addr: str
    cluster_name: str
    broker_id: int


class QueryDataVersionResponseHeader(Header):
    """Whether the broker must register in full."""

    changed: bool


class BrokerHeartbeatRequestHeader(Header):
    """Code 904."""

    cluster_name: str
    broker_addr: str
    broker_name: str
    broker_id: int | None = None
    epoch: int | None = None
    max_offset: int | None = None
    confirm_offset: int | None = None
    heartbeat_timeout_mills: int | None = None
    election_priority: int | None = None


class BrokerMemberGroupHeader(Header):
    """Code 901."""

    cluster_name: str
    broker_name: str


class BrokerNameHeader(Header):
    """Codes 205 and 327."""

    broker_name: str


class WipeWritePermResponseHeader(Header):
    """Answer to 205."""

    wipe_topic_count: int


class AddWritePermResponseHeader(Header):
    """Answer to 327."""

    add_topic_count: int


class RegisterTopicRequestHeader(Header):
    """Code 217."""

    topic: str


class DeleteTopicInNamesrvRequestHeader(Header):
    """Code 216."""

    topic: str
    cluster_name: str | None = None


class ClusterHeader(Header):
    """Code 224."""

    cluster: str


class PutKvConfigRequestHeader(Header):
    """Code 100."""

    namespace: str
    key: str
    value: str


class KvConfigRequestHeader(Header):
    """Codes 101 and 102."""

    namespace: str
    key: str


class GetKvConfigResponseHeader(Header):
    """Answer to 101."""

    value: str


class NamespaceHeader(Header):
    """Code 219."""

    namespace: str


class NotifyMinBrokerIdChangeRequestHeader(Header):
    """Code 905, from a name server to the brokers of one name."""

    min_broker_id: int | None = None
    broker_name: str | None = None
    min_broker_addr: str | None = None
    offline_broker_addr: str | None = None
    ha_broker_addr: str | None = None
