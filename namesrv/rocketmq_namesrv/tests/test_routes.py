"""The route table's rules, one by one."""

from __future__ import annotations

import pytest

from rocketmq_common.topics import TopicConfig
from rocketmq_namesrv import routes
from rocketmq_namesrv.routes import Accepted, BrokerKey, RouteTable, RouteTableError
from rocketmq_namesrv.tests.registrations import registration
from rocketmq_remoting.bodies import QueueData


def key(name: str = "broker-a", broker_id: int = 0) -> BrokerKey:
    return BrokerKey("c", f"{name}-{broker_id}:10911")


def addresses(table: RouteTable, topic: str, *, acting_master: bool = False) -> dict[str, dict[int, str]]:
    found = table.route(topic, acting_master=acting_master)
    return {} if found is None else {broker.name: dict(broker.addresses) for broker in found[1]}


def perm(table: RouteTable, topic: str, name: str = "broker-a") -> int:
    return table.topics[topic][name].perm


def test_registered_topic_has_a_route_to_its_brokers():
    table = RouteTable()
    table.register(registration("broker-a"), 0)
    table.register(registration("broker-b"), 0)
    assert addresses(table, "orders") == {"broker-a": {0: "broker-a-0:10911"}, "broker-b": {0: "broker-b-0:10911"}}
    assert table.clusters == {"c": {"broker-a", "broker-b"}}


def test_unknown_topic_has_no_route():
    assert RouteTable().route("orders") is None


def test_slave_learns_its_master_and_adds_no_topics():
    table = RouteTable()
    assert table.register(registration(), 0) == Accepted()
    accepted = table.register(registration(broker_id=1, topics=("strange",)), 0)
    assert (accepted.master_addr, accepted.ha_server_addr) == ("broker-a-0:10911", "broker-a-0:10912")
    assert "strange" not in table.topics
    assert addresses(table, "orders") == {"broker-a": {0: "broker-a-0:10911", 1: "broker-a-1:10911"}}


def test_light_registration_changes_nothing_but_the_time():
    table = RouteTable()
    table.register(registration(timeout_ms=100), 0)
    revision = table.revision
    table.register(registration(timeout_ms=100), 90)
    assert table.revision == revision
    assert table.expired(150) == []


def test_same_data_version_brings_back_a_topic_deleted_here_only():
    table = RouteTable()
    table.register(registration(), 0)
    table.delete_topic("orders")
    assert table.route("orders") is None
    table.register(registration(), 1)
    assert table.route("orders") is not None


def test_new_data_version_replaces_queue_numbers():
    table = RouteTable()
    table.register(registration(), 0)
    config = TopicConfig(topic_name="orders", read_queue_nums=9, write_queue_nums=8)
    table.register(registration(topics=(config,), counter=2), 1)
    assert table.topics["orders"]["broker-a"].read_queue_nums == 9


def test_missing_topics_stay_unless_told_otherwise():
    table = RouteTable()
    table.register(registration(topics=("a", "b")), 0)
    table.register(registration(topics=("a",), counter=2), 1)
    assert "b" in table.topics
    table.register(registration(topics=("a",), counter=3), 2, delete_missing_topics=True)
    assert "b" not in table.topics


def test_single_topic_of_an_unknown_broker_is_refused():
    lone = registration()
    lone = type(lone)(
        cluster="c", broker_name="x", address="x:1", broker_id=0, ha_server_addr="x:2", data_version=lone.data_version,
        topics={"orders": TopicConfig(topic_name="orders")},
    )  # fmt: skip
    table = RouteTable()
    with pytest.raises(RouteTableError, match="register broker failed"):
        table.register(lone, 0)
    assert table.brokers == {}
    assert table.clusters == {}


def test_single_topic_of_a_known_broker_is_added_and_deletes_nothing():
    table = RouteTable()
    table.register(registration(), 0)
    full = registration(counter=2)
    one = type(full)(
        cluster="c", broker_name="broker-a", address=full.address, broker_id=0, ha_server_addr=full.ha_server_addr,
        data_version=full.data_version, topics={"new": TopicConfig(topic_name="new")},
    )  # fmt: skip
    table.register(one, 1, delete_missing_topics=True)
    assert {"new", "orders"} <= set(table.topics)


def test_newer_state_version_wins_a_conflict_over_an_id():
    table = RouteTable()
    table.register(registration(address="new:1", state_version=5), 0)
    table.register(registration(address="old:1", state_version=4), 1)
    assert addresses(table, "orders") == {"broker-a": {0: "new:1"}}
    table.register(registration(address="newest:1", state_version=6), 2)
    assert addresses(table, "orders") == {"broker-a": {0: "newest:1"}}


def test_replaced_address_does_not_take_the_routes_with_it_when_it_ends():
    table = RouteTable()
    table.register(registration(address="old:1", connection="first"), 0)
    table.register(registration(address="new:1", connection="second"), 1)
    table.connection_closed("first")
    assert table.expired(10**9) != []
    assert addresses(table, "orders") == {"broker-a": {0: "new:1"}}


def test_slave_that_became_master_stands_under_one_id():
    table = RouteTable()
    table.register(registration(broker_id=1, address="x:1"), 0)
    table.register(registration(broker_id=0, address="x:1"), 1)
    assert table.brokers["broker-a"].addresses == {0: "x:1"}
    assert addresses(table, "orders") == {"broker-a": {0: "x:1"}}


def test_silence_beyond_the_registered_time_expires():
    table = RouteTable()
    table.register(registration("broker-a", timeout_ms=100), 0)
    table.register(registration("broker-b"), 0)
    assert table.expired(100) == []
    assert [k for k, _ in table.expired(101)] == [key("broker-a")]
    assert table.heartbeat(key("broker-a"), 50)
    assert table.expired(150) == []
    assert [k.address for k, _ in table.expired(routes.DEFAULT_HEARTBEAT_TIMEOUT_MS + 1)] == [
        "broker-a-0:10911", "broker-b-0:10911",
    ]  # fmt: skip


def test_heartbeat_of_an_unknown_broker_is_told():
    assert not RouteTable().heartbeat(key(), 0)


def test_closed_connection_drops_only_what_registered_last_over_it():
    table = RouteTable()
    table.register(registration("broker-a", connection="one"), 0)
    table.register(registration("broker-b", connection="one"), 0)
    table.register(registration("broker-b", connection="two"), 1)
    table.connection_closed("one")
    assert list(table.brokers) == ["broker-b"]


def test_topics_and_clusters_go_with_the_last_broker():
    table = RouteTable()
    table.register(registration(), 0)
    table.register(registration(broker_id=1), 0)
    table.unregister(key(), "broker-a")
    assert addresses(table, "orders") == {"broker-a": {1: "broker-a-1:10911"}}
    table.unregister(key(broker_id=1), "broker-a")
    assert (table.topics, table.clusters, table.brokers, table.live) == ({}, {}, {}, {})


def test_wiped_permission_survives_light_registrations_until_added():
    table = RouteTable()
    table.register(registration(topics=("a", "b")), 0)
    assert table.change_write_permission("broker-a", writeable=False) == 4
    table.register(registration(topics=("a", "b")), 1)
    assert perm(table, "a") == 4
    assert table.change_write_permission("broker-a", writeable=True) == 4
    assert perm(table, "a") == 6
    assert table.change_write_permission("nobody", writeable=False) == 0


def test_acting_master_stands_in_for_read_only_topics():
    table = RouteTable()
    table.register(registration(acting=True), 0)
    table.register(registration(broker_id=2, acting=True), 0)
    table.register(registration(broker_id=3, acting=True), 0)
    table.unregister(key(), "broker-a")
    assert perm(table, "orders") == 4
    assert addresses(table, "orders") == {"broker-a": {2: "broker-a-2:10911", 3: "broker-a-3:10911"}}
    assert addresses(table, "orders", acting_master=True) == {
        "broker-a": {0: "broker-a-2:10911", 3: "broker-a-3:10911"}
    }
    assert table.brokers["broker-a"].addresses == {2: "broker-a-2:10911", 3: "broker-a-3:10911"}


def test_prime_slave_registers_topics_read_only_without_a_master():
    table = RouteTable()
    table.register(registration(broker_id=1, acting=True), 0)
    assert perm(table, "orders") == 4
    table.register(registration(broker_id=0, acting=True), 1)
    assert perm(table, "orders") == 6


def test_slave_of_an_old_broker_registers_no_topics():
    table = RouteTable()
    table.register(registration(broker_id=1, acting=None), 0)
    assert table.topics == {}


def test_lowest_id_changes_are_told_to_the_others():
    table = RouteTable()
    table.register(registration(), 0)
    table.register(registration(broker_id=1), 0)
    change = table.unregister(key(), "broker-a")
    assert change is not None
    assert (change.min_broker_id, change.offline_broker_addr) == (1, "broker-a-0:10911")
    assert change.notify == ("broker-a-1:10911",)
    back = table.register(registration(), 1).change
    assert back is not None
    assert (back.min_broker_id, back.min_broker_addr, back.notify) == (0, "broker-a-0:10911", ("broker-a-1:10911",))
    assert table.unregister(key(broker_id=1), "broker-a") is None


def test_topic_deleted_in_one_cluster_stays_in_the_other():
    table = RouteTable()
    table.register(registration("broker-a"), 0)
    table.register(registration("broker-b", cluster="d"), 0)
    table.delete_topic("orders", "d")
    assert list(table.topics["orders"]) == ["broker-a"]
    table.delete_topic("orders")
    assert "orders" not in table.topics


def test_topics_registered_by_hand_need_a_known_broker():
    table = RouteTable()
    table.register(registration(), 0)
    data = [QueueData(broker_name=name, read_queue_nums=1, write_queue_nums=1, perm=6) for name in ("broker-a", "x")]
    table.register_topic("manual", data)
    assert list(table.topics["manual"]) == ["broker-a"]
    table.register_topic("nowhere", data[1:])
    assert "nowhere" not in table.topics


def test_unit_topics_are_told_by_their_flags():
    table = RouteTable()
    configs = [TopicConfig(topic_name=f"t{flags}", topic_sys_flag=flags) for flags in range(4)]
    table.register(registration(topics=configs), 0)
    assert table.topics_by_unit(unit=True, unit_sub=None) == ["t1", "t3"]
    assert table.topics_by_unit(unit=None, unit_sub=True) == ["t2", "t3"]
    assert table.topics_by_unit(unit=False, unit_sub=True) == ["t2"]


def test_topics_of_a_cluster_are_those_of_its_brokers():
    table = RouteTable()
    table.register(registration("broker-a", topics=("a",)), 0)
    table.register(registration("broker-b", topics=("b",), cluster="d"), 0)
    assert "a" in table.topics_of_cluster("c")
    assert "a" not in table.topics_of_cluster("d")
    assert table.topics_of_cluster("nope") == []


@pytest.mark.parametrize("bound", ["TOPICS_MAX", "BROKERS_MAX"])
def test_tables_are_bounded(monkeypatch, bound):
    monkeypatch.setattr(routes, bound, 3 if bound == "TOPICS_MAX" else 1)
    table = RouteTable()
    table.register(registration("broker-a"), 0)
    with pytest.raises(RouteTableError, match="register broker failed"):
        table.register(registration("broker-b", topics=("more",)), 0)
    table.register(registration("broker-a", counter=2), 1)
