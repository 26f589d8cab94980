"""Which brokers live, which topics they carry: the tables of a name server, without sockets or clocks.

Every call that depends on time gets it as ``now_ms`` (monotonic). A broker is known by cluster and address; it is dropped when it
says so, when its connection closes, or when it was silent longer than the time it registered with. Apache's RouteInfoManager
sets the rules; where they matter to clients they are named at the method.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from rocketmq_common import names, permissions
from rocketmq_common.topics import FLAG_UNIT, FLAG_UNIT_SUB, DataVersion, TopicConfig
from rocketmq_remoting.bodies import QueueData

MASTER_ID: Final = 0
DEFAULT_HEARTBEAT_TIMEOUT_MS: Final = 120_000
BROKERS_MAX: Final = 10_000
TOPICS_MAX: Final = 1_000_000


class RouteTableError(ValueError):
    """A registration that cannot be taken; the message is for the broker's log."""


class BrokerKey(NamedTuple):
    """Identity of one broker process."""

    cluster: str
    address: str


class Broker(msgspec.Struct, kw_only=True):
    """A broker name with its addresses by id."""

    cluster: str
    name: str
    addresses: dict[int, str]
    enable_acting_master: bool = False
    zone_name: str | None = None

    def has_master(self) -> bool:
        """Whether a broker with id 0 is registered."""
        return MASTER_ID in self.addresses


class LiveBroker(msgspec.Struct, kw_only=True):
    """One broker process that registered; times are monotonic ms."""

    broker_name: str
    broker_id: int
    last_update_ms: int
    heartbeat_timeout_ms: int
    data_version: DataVersion
    connection: Hashable
    ha_server_addr: str
    filter_servers: list[str]
    listeners: Mapping[str, str] = {}


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker says of itself. ``enable_acting_master`` is ``None`` for brokers before 5.0."""

    cluster: str
    broker_name: str
    address: str
    broker_id: int
    ha_server_addr: str
    data_version: DataVersion
    topics: Mapping[str, TopicConfig]
    connection: Hashable = None
    heartbeat_timeout_ms: int | None = None
    enable_acting_master: bool | None = None
    zone_name: str | None = None
    filter_servers: list[str] = []
    mappings: Mapping[str, Any] = {}
    # Addresses by listener, for clients that do not reach ``address``.
    listeners: Mapping[str, str] = {}

    @property
    def key(self) -> BrokerKey:
        """The broker's identity."""
        return BrokerKey(self.cluster, self.address)


class MinBrokerChange(NamedTuple):
    """The lowest id of a broker name changed; ``notify`` are the addresses that want to know."""

    broker_name: str
    min_broker_id: int
    min_broker_addr: str
    offline_broker_addr: str | None
    ha_broker_addr: str | None
    notify: tuple[str, ...]


class Accepted(NamedTuple):
    """Answer to a registration: a slave learns its master; ``change`` may have to be announced."""

    ha_server_addr: str | None = None
    master_addr: str | None = None
    change: MinBrokerChange | None = None


class RouteTable:
    """See the module. ``revision`` grows with every change that an answer could show."""

    def __init__(self) -> None:
        self.brokers: dict[str, Broker] = {}
        self.clusters: dict[str, set[str]] = {}
        self.topics: dict[str, dict[str, QueueData]] = {}
        self.mappings: dict[str, dict[str, Any]] = {}
        self.live: dict[BrokerKey, LiveBroker] = {}
        self.revision = 0

    # -- registration ------------------------------------------------------------------------------------------------

    def register(self, registration: Registration, now_ms: int, *, delete_missing_topics: bool = False) -> Accepted:
        """Take a registration, full or light (nothing but the time changes then). Raises RouteTableError.

        Only the master's topic table counts, or that of the lowest slave while no master is there and the slave may act for it.
        """
        key = registration.key
        broker = self.brokers.get(registration.broker_name)
        self._check_room(registration, key)
        addresses = broker.addresses if broker is not None else {}
        if self._is_outdated(registration, addresses):
            self.live.pop(key, None)
            return Accepted()
        if registration.broker_id not in addresses and len(registration.topics) == 1:
            raise RouteTableError(
                f"register broker failed: {registration.broker_name} {registration.address} sent a single topic before all"
            )
        before = self._shape(registration.broker_name)
        if broker is None:
            broker = Broker(cluster=registration.cluster, name=registration.broker_name, addresses={})
            self.brokers[registration.broker_name] = broker
        self.clusters.setdefault(registration.cluster, set()).add(registration.broker_name)
        min_before = min(broker.addresses, default=MASTER_ID)
        is_old = registration.enable_acting_master is None
        broker.enable_acting_master = bool(registration.enable_acting_master)
        broker.zone_name = registration.zone_name
        # One address stands under one id only: a slave that became master leaves its old place.
        for broker_id in [
            i for i, a in broker.addresses.items() if a == registration.address and i != registration.broker_id
        ]:
            del broker.addresses[broker_id]
        previous_addr = broker.addresses.get(registration.broker_id)
        broker.addresses[registration.broker_id] = registration.address
        if previous_addr is not None and previous_addr != registration.address:
            # The pod came back under another address: the old one must not expire the new one's routes later.
            self.live.pop(BrokerKey(registration.cluster, previous_addr), None)

        is_master = registration.broker_id == MASTER_ID
        is_prime_slave = not is_old and not is_master and registration.broker_id == min(broker.addresses)
        known = self.live.get(key)
        is_changed = previous_addr is None or known is None or known.data_version != registration.data_version
        topics_changed = False
        if is_master or is_prime_slave:
            topics_changed = self._take_topics(
                registration,
                is_changed=is_changed,
                read_only=is_prime_slave and broker.enable_acting_master,
                delete_missing=delete_missing_topics,
            )
        self.live[key] = LiveBroker(
            broker_name=registration.broker_name,
            broker_id=registration.broker_id,
            last_update_ms=now_ms,
            heartbeat_timeout_ms=registration.heartbeat_timeout_ms or DEFAULT_HEARTBEAT_TIMEOUT_MS,
            data_version=registration.data_version,
            connection=registration.connection,
            ha_server_addr=registration.ha_server_addr,
            filter_servers=registration.filter_servers,
            listeners=registration.listeners,
        )
        is_moved = known is not None and known.listeners != registration.listeners
        if topics_changed or is_moved or before != self._shape(registration.broker_name):
            self.revision += 1
        change = None
        if registration.broker_id < min_before:
            others = tuple(a for i, a in broker.addresses.items() if i != registration.broker_id) or (
                registration.address,
            )
            change = MinBrokerChange(
                registration.broker_name,
                registration.broker_id,
                registration.address,
                None,
                registration.ha_server_addr,
                others,
            )
        return self._accepted(broker, registration, change)

    def heartbeat(self, key: BrokerKey, now_ms: int) -> bool:
        """Note that a broker lives; whether it is known."""
        live = self.live.get(key)
        if live is None:
            return False
        live.last_update_ms = now_ms
        return True

    def data_version(self, key: BrokerKey) -> DataVersion | None:
        """The version of the topic table that a broker registered last."""
        live = self.live.get(key)
        return None if live is None else live.data_version

    def unregister(self, key: BrokerKey, broker_name: str) -> MinBrokerChange | None:
        """Forget a broker; its topics go with the last address of its name."""
        live = self.live.pop(key, None)
        self.revision += 1
        broker = self.brokers.get(broker_name)
        if broker is None:
            return None
        gone = [broker_id for broker_id, address in broker.addresses.items() if address == key.address]
        if not gone:
            return None
        min_before = min(broker.addresses)
        for broker_id in gone:
            del broker.addresses[broker_id]
        if not broker.addresses:
            self._forget_name(broker_name)
            return None
        if broker.enable_acting_master and not broker.has_master():
            # What is left may be read through the acting master, not written.
            for queues in self.topics.values():
                queue_data = queues.get(broker_name)
                if queue_data is not None:
                    queue_data.perm &= ~permissions.WRITE
        if min_before not in gone:
            return None
        min_after = min(broker.addresses)
        return MinBrokerChange(
            broker_name,
            min_after,
            broker.addresses[min_after],
            key.address,
            None if live is None else live.ha_server_addr,
            tuple(broker.addresses.values()),
        )

    def connection_closed(self, connection: Hashable) -> list[MinBrokerChange]:
        """Forget every broker whose latest registration came over ``connection``."""
        gone = [(key, live.broker_name) for key, live in self.live.items() if live.connection is connection]
        return [change for key, name in gone if (change := self.unregister(key, name)) is not None]

    def expired(self, now_ms: int) -> list[tuple[BrokerKey, LiveBroker]]:
        """Brokers that were silent longer than the time they registered with."""
        return [(k, live) for k, live in self.live.items() if live.last_update_ms + live.heartbeat_timeout_ms < now_ms]

    # -- topics ------------------------------------------------------------------------------------------------------

    def register_topic(self, topic: str, queue_datas: Iterable[QueueData]) -> None:
        """Add a topic by hand, to brokers that are known; others are left out."""
        known = {data.broker_name: data for data in queue_datas if data.broker_name in self.brokers}
        if not known:
            return
        if topic not in self.topics and len(self.topics) >= TOPICS_MAX:
            raise RouteTableError(f"{TOPICS_MAX} topics are registered already")
        self.topics.setdefault(topic, {}).update(known)
        self.revision += 1

    def delete_topic(self, topic: str, cluster: str | None = None) -> None:
        """Forget a topic, of one cluster or everywhere; a broker that still has it brings it back with its next change."""
        if cluster is None:
            self._drop_topic(topic)
        else:
            for broker_name in self.clusters.get(cluster, ()):
                self._drop_queues(topic, broker_name)
        self.revision += 1

    def change_write_permission(self, broker_name: str, *, writeable: bool) -> int:
        """Close all topics of a broker name for producers, or open them; how many it has."""
        count = 0
        for queues in self.topics.values():
            queue_data = queues.get(broker_name)
            if queue_data is not None:
                queue_data.perm = permissions.READ_WRITE if writeable else queue_data.perm & ~permissions.WRITE
                count += 1
        self.revision += 1
        return count

    def topics_of_cluster(self, cluster: str) -> list[str]:
        """Topics that some broker of the cluster carries."""
        members = self.clusters.get(cluster, set())
        return [topic for topic, queues in self.topics.items() if not members.isdisjoint(queues)]

    def topics_by_unit(self, *, unit: bool | None, unit_sub: bool | None) -> list[str]:
        """Topics by their unit flags; ``None`` means the flag does not matter."""
        found = []
        for topic, queues in self.topics.items():
            flags = next(iter(queues.values())).topic_sys_flag
            if unit in (None, bool(flags & FLAG_UNIT)) and unit_sub in (None, bool(flags & FLAG_UNIT_SUB)):
                found.append(topic)
        return found

    def route(self, topic: str, *, acting_master: bool = False) -> tuple[list[QueueData], list[Broker]] | None:
        """Queues of a topic and the live brokers that hold them; ``None`` when the topic is unknown or none of them lives.

        With ``acting_master`` the lowest slave of a name that lost its master stands in under id 0 for topics that are read-only.
        """
        queues = self.topics.get(topic)
        if not queues:
            return None
        brokers = [self.brokers[name] for name in queues if name in self.brokers]
        if not brokers:
            return None
        if acting_master and not topic.startswith(names.SYNC_BROKER_MEMBER_PREFIX):
            brokers = [_with_acting_master(broker, queues[broker.name].perm) for broker in brokers]
        return list(queues.values()), brokers

    def seen_through(self, broker: Broker, listener: str) -> Broker:
        """A broker as clients of a listener reach it: without the replicas that have no address there."""
        if not listener:
            return broker
        addresses = {}
        for broker_id, address in broker.addresses.items():
            live = self.live.get(BrokerKey(broker.cluster, address))
            if live is not None and listener in live.listeners:
                addresses[broker_id] = live.listeners[listener]
        return msgspec.structs.replace(broker, addresses=addresses)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _check_room(self, registration: Registration, key: BrokerKey) -> None:
        if key not in self.live and len(self.live) >= BROKERS_MAX:
            raise RouteTableError(f"register broker failed: {BROKERS_MAX} brokers are registered already")
        if len(self.topics) + len(registration.topics) > TOPICS_MAX:
            added = sum(topic not in self.topics for topic in registration.topics)
            if len(self.topics) + added > TOPICS_MAX:
                raise RouteTableError(f"register broker failed: more than {TOPICS_MAX} topics")

    def _is_outdated(self, registration: Registration, addresses: Mapping[int, str]) -> bool:
        """Another process already holds this id with a newer state version: a master that was replaced still talks."""
        current = addresses.get(registration.broker_id)
        if current is None or current == registration.address:
            return False
        live = self.live.get(BrokerKey(registration.cluster, current))
        return live is not None and live.data_version.state_version > registration.data_version.state_version

    def _take_topics(
        self, registration: Registration, *, is_changed: bool, read_only: bool, delete_missing: bool
    ) -> bool:
        name = registration.broker_name
        changed = False
        # A registration of one topic is an increment (enableSingleTopicRegister), not the whole table.
        if delete_missing and is_changed and not registration.mappings and len(registration.topics) != 1:
            for topic in [t for t, queues in self.topics.items() if name in queues and t not in registration.topics]:
                self._drop_queues(topic, name)
                changed = True
        for topic, config in registration.topics.items():
            queues = self.topics.get(topic)
            if not is_changed and queues is not None and name in queues:
                continue
            perm = config.perm & ~permissions.WRITE if read_only else config.perm
            data = QueueData(
                broker_name=name,
                read_queue_nums=config.read_queue_nums,
                write_queue_nums=config.write_queue_nums,
                perm=perm,
                topic_sys_flag=config.topic_sys_flag,
            )
            if queues is None:
                self.topics[topic] = {name: data}
                changed = True
            elif queues.get(name) != data:
                queues[name] = data
                changed = True
        if is_changed and registration.mappings:
            for topic, mapping in registration.mappings.items():
                self.mappings.setdefault(topic, {})[str(mapping.get("bname", name))] = mapping
            changed = True
        return changed

    def _accepted(self, broker: Broker, registration: Registration, change: MinBrokerChange | None) -> Accepted:
        if registration.broker_id == MASTER_ID:
            return Accepted(change=change)
        master_addr = broker.addresses.get(MASTER_ID)
        master = None if master_addr is None else self.live.get(BrokerKey(registration.cluster, master_addr))
        if master is None:
            return Accepted(change=change)
        return Accepted(master.ha_server_addr, master_addr, change)

    def _shape(self, broker_name: str) -> tuple[Any, ...] | None:
        broker = self.brokers.get(broker_name)
        if broker is None:
            return None
        return (*broker.addresses.items(), broker.enable_acting_master, broker.zone_name)

    def _forget_name(self, broker_name: str) -> None:
        del self.brokers[broker_name]
        for cluster in [c for c, members in self.clusters.items() if broker_name in members]:
            self.clusters[cluster].discard(broker_name)
            if not self.clusters[cluster]:
                del self.clusters[cluster]
        for topic in [t for t, queues in self.topics.items() if broker_name in queues]:
            self._drop_queues(topic, broker_name)

    def _drop_queues(self, topic: str, broker_name: str) -> None:
        queues = self.topics.get(topic)
        if queues is not None and queues.pop(broker_name, None) is not None and not queues:
            self._drop_topic(topic)

    def _drop_topic(self, topic: str) -> None:
        self.topics.pop(topic, None)
        self.mappings.pop(topic, None)


def _with_acting_master(broker: Broker, perm: int) -> Broker:
    if broker.has_master() or not broker.enable_acting_master or permissions.is_writeable(perm):
        return broker
    lowest = min(broker.addresses)
    addresses = {MASTER_ID: broker.addresses[lowest], **{i: a for i, a in broker.addresses.items() if i != lowest}}
    return msgspec.structs.replace(broker, addresses=addresses)
