"""Round robin, fault latencies, subscriptions, name server addresses, routes: the small decisions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_client import InvalidArgument, MessageQueue, Sql, Tags
from rocketmq_client.latency import BROKERS_MAX, FaultLatencies, not_available_ms
from rocketmq_client.name_servers import parse_addresses
from rocketmq_client.routes import decode_route, route_from
from rocketmq_client.selectors import RoundRobin
from rocketmq_client.subscriptions import is_wanted, subscription
from rocketmq_common.clock import ManualClock
from rocketmq_common.hashing import java_hash
from rocketmq_remoting.bodies import BrokerData, QueueData, TopicRouteData

QUEUES = [MessageQueue("t", name, index) for name in ("a", "b") for index in range(2)]


@pytest.mark.parametrize(
    ("latency_ms", "expected"), [(0, 0), (549, 0), (550, 2000), (1800, 5000), (10_000, 10_000), (99_000, 30_000)]
)
def test_the_slower_a_broker_the_longer_it_is_left_alone(latency_ms: float, expected: int) -> None:
    assert not_available_ms(latency_ms) == expected


def test_a_failed_broker_is_avoided_for_ten_seconds_and_forgiven_when_it_is_fast() -> None:
    clock = ManualClock()
    faults = FaultLatencies(clock)
    faults.note("a", 1, failed=True)
    clock.advance(9_999)
    assert not faults.is_available("a")
    clock.advance(1)
    assert faults.is_available("a")
    faults.note("a", 5000)
    faults.note("a", 3)
    assert faults.is_available("a")


def test_the_table_of_faults_is_bounded() -> None:
    faults = FaultLatencies(ManualClock())
    for index in range(BROKERS_MAX + 5):
        faults.note(f"b{index}", 0, failed=True)
    assert len(faults._until) == BROKERS_MAX
    assert faults.is_available("b0")


def test_turns_are_fair_and_skip_what_is_to_be_avoided() -> None:
    turns = RoundRobin()
    assert {turns.select(QUEUES) for _ in range(4)} == set(QUEUES)
    assert {turns.select(QUEUES, {"a"}).broker_name for _ in range(4)} == {"b"}
    assert {turns.select(QUEUES, {"a", "b"}) for _ in range(4)} == set(QUEUES)


def test_a_slow_broker_is_used_when_there_is_no_other() -> None:
    faults = FaultLatencies(ManualClock())
    faults.note("a", 0, failed=True)
    turns = RoundRobin(faults)
    assert {turns.select(QUEUES).broker_name for _ in range(8)} == {"b"}
    faults.note("b", 0, failed=True)
    assert turns.select(QUEUES) in QUEUES
    assert turns.select(QUEUES, {"b"}).broker_name == "a"


def test_a_tag_expression_becomes_tags_and_codes() -> None:
    data = subscription("t", "TagA || TagB||TagA")
    assert data.tags_set == ["TagA", "TagB"]
    assert sorted(data.code_set) == sorted([java_hash("TagA"), java_hash("TagB")])
    assert data.sub_string == "TagA || TagB||TagA"
    assert data.sub_version > 1_600_000_000_000
    assert is_wanted(data, "TagB")
    assert not is_wanted(data, "")


@pytest.mark.parametrize("expression", ["*", "", "  ", Tags()])
def test_everything_is_a_star(expression: str | Tags) -> None:
    data = subscription("t", expression)
    assert (data.sub_string, data.tags_set) == ("*", [])
    assert is_wanted(data, "")


def test_sql_passes_through_and_is_not_checked_here() -> None:
    data = subscription("t", Sql("a > 5"))
    assert (data.expression_type, data.sub_string, data.tags_set) == ("SQL92", "a > 5", [])
    assert is_wanted(data, "anything")
    with pytest.raises(InvalidArgument):
        subscription("t", Sql(" "))
    with pytest.raises(InvalidArgument):
        subscription("t", "||")


@given(st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), min_size=1, max_size=5))
def test_every_named_tag_is_wanted(tags: list[str]) -> None:
    data = subscription("t", " || ".join(tags))
    assert all(is_wanted(data, tag) for tag in tags)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("a:1;b:2", ("a:1", "b:2")),
        ("a:1, b:2 a:1", ("a:1", "b:2")),
        ("http://a:1", ("a:1",)),
        (["a:1", "[::1]:2"], ("a:1", "[::1]:2")),
    ],
)
def test_addresses_come_in_any_common_form(given_: str | list[str], expected: tuple[str, ...]) -> None:
    assert parse_addresses(given_) == expected


@pytest.mark.parametrize("given_", ["", "host", "host:port", "host:99999", [], ";"])
def test_what_is_no_address_is_refused(given_: str | list[str]) -> None:
    with pytest.raises(InvalidArgument):
        parse_addresses(given_)


def test_the_environment_names_the_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMESRV_ADDR", "x:1;y:2")
    assert parse_addresses(None) == ("x:1", "y:2")
    monkeypatch.delenv("NAMESRV_ADDR")
    assert parse_addresses(None) == ("127.0.0.1:9876",)


def _data(**changes: object) -> TopicRouteData:
    data = TopicRouteData(
        queue_datas=[
            QueueData(broker_name="a", read_queue_nums=2, write_queue_nums=1, perm=6),
            QueueData(broker_name="b", read_queue_nums=1, write_queue_nums=1, perm=6),
            QueueData(broker_name="c", read_queue_nums=1, write_queue_nums=1, perm=4),
        ],
        broker_datas=[
            BrokerData(cluster="x", broker_name="a", broker_addrs={0: "a:1", 1: "a:2"}),
            BrokerData(cluster="x", broker_name="b", broker_addrs={1: "b:2"}),
            BrokerData(cluster="x", broker_name="c", broker_addrs={0: "c:1"}),
        ],
    )
    return msgspec.structs.replace(data, **changes)


def test_writers_need_a_master_and_permission_and_readers_only_permission() -> None:
    route = route_from("t", _data())
    assert route.write_queues == (MessageQueue("t", "a", 0),)
    assert [(q.broker_name, q.queue_id) for q in route.read_queues] == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]


def test_an_ordered_topic_has_exactly_its_configured_queues() -> None:
    route = route_from("t", _data(order_topic_conf="a:2;b:1"))
    assert [(q.broker_name, q.queue_id) for q in route.write_queues] == [("a", 0), ("a", 1), ("b", 0)]


def test_routes_are_read_in_strict_json_and_in_javas() -> None:
    strict = msgspec.json.encode(_data())
    loose = strict.replace(b'"0":', b"0:").replace(b'"1":', b"1:")
    assert loose != strict
    assert decode_route(loose) == decode_route(strict) == _data()
