"""JSON bodies of a name server's answers: always strict and compact.

Java's own server writes bare integer keys to old clients; every client reads the strict form, and the Go client takes
``brokerAddrs`` apart as text, so that not a single blank may stand in it. Absent values are left out, not written as null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rocketmq_common import javajson
from rocketmq_namesrv.routes import Broker, BrokerKey, RouteTable


def broker_data(broker: Broker) -> dict[str, Any]:
    """One broker name."""
    data: dict[str, Any] = {
        "brokerAddrs": {str(i): address for i, address in broker.addresses.items()},
        "brokerName": broker.name,
        "cluster": broker.cluster,
        "enableActingMaster": broker.enable_acting_master,
    }
    if broker.zone_name is not None:
        data["zoneName"] = broker.zone_name
    return data


def route(
    table: RouteTable, topic: str, *, acting_master: bool, order_conf: str | None, listener: str = ""
) -> bytes | None:
    """TopicRouteData for clients of a listener, or ``None`` when there is no route that they can go."""
    found = table.route(topic, acting_master=acting_master)
    if found is None:
        return None
    queue_datas, brokers = found
    seen = [one for broker in brokers if (one := table.seen_through(broker, listener)).addresses]
    if not seen:
        return None
    data: dict[str, Any] = {
        "brokerDatas": [broker_data(broker) for broker in seen],
        "filterServerTable": {} if listener else _filter_servers(table, brokers),
        "queueDatas": queue_datas,
    }
    if order_conf is not None:
        data["orderTopicConf"] = order_conf
    mappings = table.mappings.get(topic)
    if mappings:
        data["topicQueueMappingByBroker"] = mappings
    return javajson.dumps(data)


def cluster_info(table: RouteTable, listener: str = "") -> bytes:
    """ClusterInfo for clients of a listener."""
    seen = {name: table.seen_through(broker, listener) for name, broker in table.brokers.items()}
    return javajson.dumps(
        {
            "brokerAddrTable": {name: broker_data(broker) for name, broker in seen.items()},
            "clusterAddrTable": {cluster: sorted(members) for cluster, members in table.clusters.items()},
        }
    )


def member_group(table: RouteTable, cluster: str, broker_name: str) -> bytes:
    """GetBrokerMemberGroupResponseBody; an unknown broker has no addresses."""
    broker = table.brokers.get(broker_name)
    addresses = {} if broker is None else broker_data(broker)["brokerAddrs"]
    return javajson.dumps(
        {"brokerMemberGroup": {"brokerAddrs": addresses, "brokerName": broker_name, "cluster": cluster}}
    )


def topic_list(topics: Iterable[str], broker_addr: str | None = None) -> bytes:
    """TopicList."""
    data: dict[str, Any] = {"topicList": list(topics)}
    if broker_addr is not None:
        data["brokerAddr"] = broker_addr
    return javajson.dumps(data)


def system_topics(table: RouteTable) -> bytes:
    """Names of clusters and brokers are topics too; the address is of a broker to ask for the others."""
    found = dict.fromkeys(table.clusters)
    for members in table.clusters.values():
        found.update(dict.fromkeys(sorted(members)))
    first = next((a for broker in table.brokers.values() for a in broker.addresses.values()), None)
    return topic_list(found, first)


def kv_table(values: Mapping[str, str]) -> bytes:
    """KVTable."""
    return javajson.dumps({"table": values})


def _filter_servers(table: RouteTable, brokers: list[Broker]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for broker in brokers:
        for address in broker.addresses.values():
            live = table.live.get(BrokerKey(broker.cluster, address))
            if live is not None and live.filter_servers:
                found[address] = live.filter_servers
    return found
