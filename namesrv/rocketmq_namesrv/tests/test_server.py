"""A name server on a loopback port, asked as brokers, clients and tools ask."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rocketmq_common import javajson
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.settings import SettingsError
from rocketmq_common.topics import DataVersion, TopicConfig
from rocketmq_namesrv import registration_body, settings
from rocketmq_namesrv.app import ListenError, NameServer
from rocketmq_remoting.bodies import RegisterBrokerBody, TopicConfigSerializeWrapper
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Route
from rocketmq_remoting.headers.namesrv import NotifyMinBrokerIdChangeRequestHeader
from rocketmq_remoting.server import RemotingServer

TOPICS = {name: TopicConfig(topic_name=name, read_queue_nums=4, write_queue_nums=4) for name in ("orders", "TBW102")}


class Fixture:
    """A server and a client of it."""

    def __init__(self, namesrv: NameServer, clock: ManualClock) -> None:
        self.namesrv = namesrv
        self.clock = clock
        self.client = RemotingClient()

    async def ask(self, code: int, ext: dict[str, str] | None = None, body: bytes = b"") -> Command:
        return await self.client.invoke(f"127.0.0.1:{self.namesrv.port}", code, ext, body)

    async def register(
        self, name: str = "broker-a", broker_id: int = 0, *, compressed: bool = False, **ext: str
    ) -> Command:
        body = RegisterBrokerBody(
            topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
                data_version=DataVersion(counter=1), topic_config_table=TOPICS
            )
        )
        data = registration_body.encode_compressed(body) if compressed else javajson.dumps(body)
        identity = identify(name, broker_id) | {"haServerAddr": f"{name}:10912", "compressed": str(compressed).lower()}
        return await self.ask(
            RequestCode.REGISTER_BROKER, identity | {"bodyCrc32": str(registration_body.checksum(data))} | ext, data
        )

    async def route(self, topic: str = "orders") -> Command:
        return await self.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": topic})


def identify(name: str, broker_id: int = 0) -> dict[str, str]:
    return {
        "brokerName": name,
        "brokerAddr": f"{name}-{broker_id}:10911",
        "clusterName": "c",
        "brokerId": str(broker_id),
    }


def configured(tmp_path, *assignments: str) -> settings.NamesrvSettings:
    base = ["listenPort=0", "httpPort=0", "bindAddress=127.0.0.1"]
    found, _, _ = settings.load(None, [*base, *assignments], {"ROCKETMQ_HOME": str(tmp_path)})
    return found


@pytest.fixture
async def server(tmp_path) -> AsyncIterator[Fixture]:
    clock = ManualClock()
    namesrv = NameServer(configured(tmp_path), files=RealFiles(), clock=clock)
    await namesrv.start()
    fixture = Fixture(namesrv, clock)
    yield fixture
    await fixture.client.close()
    await namesrv.stop()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_route_is_compact_strict_json_in_the_shape_of_java(server):
    assert (await server.register()).code == 0
    answer = await server.route()
    assert answer.code == 0
    assert b" " not in answer.body
    assert json.loads(answer.body) == {
        "brokerDatas": [
            {
                "brokerAddrs": {"0": "broker-a-0:10911"},
                "brokerName": "broker-a",
                "cluster": "c",
                "enableActingMaster": False,
            }
        ],
        "filterServerTable": {},
        "queueDatas": [
            {"brokerName": "broker-a", "perm": 6, "readQueueNums": 4, "topicSysFlag": 0, "writeQueueNums": 4}
        ],
    }


async def test_unknown_topic_is_17(server):
    answer = await server.route("nope")
    assert answer.code == ResponseCode.TOPIC_NOT_EXIST
    assert answer.remark is not None
    assert "No topic route info in name server for the topic: nope" in answer.remark


async def test_cached_route_follows_every_change(server):
    await server.register()
    first = (await server.route()).body
    assert (await server.route()).body == first
    await server.ask(RequestCode.WIPE_WRITE_PERM_OF_BROKER, {"brokerName": "broker-a"})
    assert b'"perm":4' in (await server.route()).body
    await server.register(broker_id=1)
    assert b'"1":"broker-a-1:10911"' in (await server.route()).body
    await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=b"orderMessageEnable=true")
    key = {"namespace": "ORDER_TOPIC_CONFIG", "key": "orders", "value": "broker-a:4"}
    await server.ask(RequestCode.PUT_KV_CONFIG, key)
    assert json.loads((await server.route()).body)["orderTopicConf"] == "broker-a:4"


async def test_compressed_registration_is_taken(server):
    assert (await server.register(compressed=True)).code == 0
    assert (await server.route()).code == 0


async def test_registration_with_a_wrong_checksum_is_refused(server):
    answer = await server.register(bodyCrc32="1")
    assert (answer.code, answer.remark) == (ResponseCode.SYSTEM_ERROR, "crc32 not match")


async def test_bomb_is_refused_and_the_connection_lives(server):
    bomb = zlib.compress(bytes(100 << 20), 9)
    ext = identify("b") | {"haServerAddr": "b:1", "compressed": "true"}
    answer = await server.ask(RequestCode.REGISTER_BROKER, ext, bomb)
    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert "more than" in (answer.remark or "")
    assert (await server.register()).code == 0


async def test_slave_gets_its_master_and_the_ordered_topics(server):
    key = {"namespace": "ORDER_TOPIC_CONFIG", "key": "orders", "value": "broker-a:4"}
    await server.ask(RequestCode.PUT_KV_CONFIG, key)
    await server.register()
    answer = await server.register(broker_id=1)
    assert answer.ext_fields() == {"haServerAddr": "broker-a:10912", "masterAddr": "broker-a-0:10911"}
    assert json.loads(answer.body) == {"table": {"orders": "broker-a:4"}}


async def test_closed_connection_drops_the_broker_at_once(server):
    broker = RemotingClient()
    asker, server.client = server.client, broker
    await server.register()
    server.client = asker
    assert (await server.route()).code == 0
    await broker.close()
    await until(lambda: not server.namesrv.table.brokers)
    assert (await server.route()).code == ResponseCode.TOPIC_NOT_EXIST


async def test_silent_broker_is_dropped_and_its_connection_closed(server):
    await server.register(heartbeatTimeoutMillis="1000")
    server.clock.advance(900)
    await server.ask(RequestCode.BROKER_HEARTBEAT, identify("broker-a"))
    server.clock.advance(900)
    server.namesrv.expire()
    assert (await server.route()).code == 0
    server.clock.advance(101)
    server.namesrv.expire()
    await until(lambda: not server.namesrv.server.connections)
    assert (await server.route()).code == ResponseCode.TOPIC_NOT_EXIST


async def test_unregistration_is_effective_at_once(server):
    await server.register()
    await server.ask(RequestCode.UNREGISTER_BROKER, identify("broker-a"))
    assert (await server.route()).code == ResponseCode.TOPIC_NOT_EXIST


async def test_data_version_tells_whether_to_register_in_full(server):
    asked = b'{"counter":1,"stateVersion":0,"timestamp":0}'
    unknown = await server.ask(RequestCode.QUERY_DATA_VERSION, identify("broker-a"), asked)
    assert (unknown.ext_fields(), unknown.body) == ({"changed": "true"}, b"")
    await server.register(heartbeatTimeoutMillis="1000")
    server.clock.advance(800)
    same = await server.ask(RequestCode.QUERY_DATA_VERSION, identify("broker-a"), asked)
    assert same.ext_fields() == {"changed": "false"}
    assert json.loads(same.body) == {"counter": 1, "stateVersion": 0, "timestamp": 0}
    server.clock.advance(800)
    server.namesrv.expire()
    assert (await server.route()).code == 0
    other = await server.ask(RequestCode.QUERY_DATA_VERSION, identify("broker-a"), asked.replace(b"1", b"2", 1))
    assert other.ext_fields() == {"changed": "true"}
    broken = await server.ask(RequestCode.QUERY_DATA_VERSION, identify("broker-a"), b"{")
    assert broken.code == ResponseCode.SYSTEM_ERROR


async def test_lists_of_topics_clusters_and_members(server):
    await server.register()
    await server.register(broker_id=1)
    ask = server.ask
    assert set(json.loads((await ask(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER)).body)["topicList"]) == set(TOPICS)
    assert json.loads((await ask(RequestCode.GET_TOPICS_BY_CLUSTER, {"cluster": "c"})).body)["topicList"] == list(
        TOPICS
    )
    system = json.loads((await ask(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS)).body)
    assert system == {"topicList": ["c", "broker-a"], "brokerAddr": "broker-a-0:10911"}
    info = json.loads((await ask(RequestCode.GET_BROKER_CLUSTER_INFO)).body)
    assert info["clusterAddrTable"] == {"c": ["broker-a"]}
    assert info["brokerAddrTable"]["broker-a"]["brokerAddrs"] == {"0": "broker-a-0:10911", "1": "broker-a-1:10911"}
    members = await ask(RequestCode.GET_BROKER_MEMBER_GROUP, {"clusterName": "c", "brokerName": "broker-a"})
    assert json.loads(members.body)["brokerMemberGroup"]["brokerAddrs"]["1"] == "broker-a-1:10911"
    for code in (RequestCode.GET_UNIT_TOPIC_LIST, RequestCode.GET_HAS_UNIT_SUB_TOPIC_LIST, 313):
        assert json.loads((await ask(code)).body) == {"topicList": []}


async def test_topic_lists_can_be_switched_off_at_run_time(server):
    off = b"enableAllTopicList=false\nenableTopicList=false\n"
    assert (await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=off)).code == 0
    for code, ext in ((206, None), (224, {"cluster": "c"}), (304, None), (311, None)):
        answer = await server.ask(code, ext)
        assert (answer.code, answer.remark) == (ResponseCode.SYSTEM_ERROR, "disable")


async def test_permissions_are_wiped_and_added_by_broker_name(server):
    await server.register()
    wiped = await server.ask(RequestCode.WIPE_WRITE_PERM_OF_BROKER, {"brokerName": "broker-a"})
    assert wiped.ext_fields() == {"wipeTopicCount": "2"}
    added = await server.ask(RequestCode.ADD_WRITE_PERM_OF_BROKER, {"brokerName": "broker-a"})
    assert added.ext_fields() == {"addTopicCount": "2"}


async def test_topics_are_registered_and_deleted_by_hand(server):
    await server.register()
    route = (
        b'{"brokerDatas":[{"brokerAddrs":{0:"x:1"},"brokerName":"broker-a","cluster":"c"}],'
        b'"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":1,"writeQueueNums":1}]}'
    )
    assert (await server.ask(RequestCode.REGISTER_TOPIC_IN_NAMESRV, {"topic": "manual"}, route)).code == 0
    assert (await server.route("manual")).code == 0
    assert (await server.ask(RequestCode.DELETE_TOPIC_IN_NAMESRV, {"topic": "manual"})).code == 0
    assert (await server.route("manual")).code == ResponseCode.TOPIC_NOT_EXIST
    assert (
        await server.ask(RequestCode.REGISTER_TOPIC_IN_NAMESRV, {"topic": "m"}, b"[")
    ).code == ResponseCode.SYSTEM_ERROR


async def test_values_are_kept_over_a_restart(server, tmp_path):
    ask = server.ask
    assert (await ask(RequestCode.GET_KV_CONFIG, {"namespace": "n", "key": "k"})).code == ResponseCode.QUERY_NOT_FOUND
    assert (await ask(RequestCode.GET_KVLIST_BY_NAMESPACE, {"namespace": "n"})).code == ResponseCode.QUERY_NOT_FOUND
    await asyncio.gather(
        *(ask(RequestCode.PUT_KV_CONFIG, {"namespace": "n", "key": f"k{i}", "value": "ü"}) for i in range(5))
    )
    await ask(RequestCode.DELETE_KV_CONFIG, {"namespace": "n", "key": "k0"})
    got = await ask(RequestCode.GET_KV_CONFIG, {"namespace": "n", "key": "k1"})
    assert got.ext_fields() == {"value": "ü"}
    second = NameServer(configured(tmp_path))
    await second.start()
    assert second.kv.namespace("n") == {f"k{i}": "ü" for i in range(1, 5)}
    await second.stop()


async def test_value_that_cannot_be_written_is_not_kept_in_memory_either(server, tmp_path):
    (tmp_path / "namesrv").mkdir(exist_ok=True)
    server.namesrv.kv._path = tmp_path / "file" / "kvConfig.json"
    (tmp_path / "file").write_text("in the way")
    answer = await server.ask(RequestCode.PUT_KV_CONFIG, {"namespace": "n", "key": "k", "value": "v"})
    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert server.namesrv.kv.get("n", "k") is None


async def test_configuration_changes_by_list_only_and_is_stored(server):
    answer = await server.ask(RequestCode.GET_NAMESRV_CONFIG)
    assert b"listenPort=0\n" in answer.body
    refused = await server.ask(
        RequestCode.UPDATE_NAMESRV_CONFIG, body=b"kvConfigPath=/etc/passwd\norderMessageEnable=true"
    )
    assert refused.code == ResponseCode.NO_PERMISSION
    assert "kvConfigPath" in (refused.remark or "")
    assert not server.namesrv.configuration.settings.order_message_enable
    wrong = await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=b"waitSecondsForService=abc")
    assert (wrong.code, "waitSecondsForService" in (wrong.remark or "")) == (ResponseCode.INVALID_PARAMETER, True)
    assert (await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=b"")).code == ResponseCode.INVALID_PARAMETER
    assert (await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=b"supportActingMaster=true")).code == 0
    kept = server.namesrv.configuration.settings.config_store_path
    assert await asyncio.to_thread(Path(kept).read_text) == "supportActingMaster=true\n"


async def test_service_waits_when_told_to(tmp_path):
    clock = ManualClock()
    namesrv = NameServer(configured(tmp_path, "needWaitForService=true", "waitSecondsForService=10"), clock=clock)
    await namesrv.start()
    fixture = Fixture(namesrv, clock)
    await fixture.register()
    answer = await fixture.route()
    assert (answer.code, answer.remark) == (ResponseCode.SYSTEM_ERROR, "name server not ready")
    clock.advance(10_000)
    assert (await fixture.route()).code == 0
    await fixture.client.close()
    await namesrv.stop()


async def test_brokers_are_told_of_a_new_lowest_id(server):
    heard: list[NotifyMinBrokerIdChangeRequestHeader] = []
    code = RequestCode.NOTIFY_MIN_BROKER_ID_CHANGE
    slave = RemotingServer(
        [Route(code, NotifyMinBrokerIdChangeRequestHeader, lambda _, __, header: heard.append(header))]
    )
    await slave.start("127.0.0.1", 0)
    await server.ask(RequestCode.UPDATE_NAMESRV_CONFIG, body=b"notifyMinBrokerIdChanged=true")
    await server.register()
    await server.register(broker_id=1, brokerAddr=f"127.0.0.1:{slave.port}")
    await server.ask(RequestCode.UNREGISTER_BROKER, identify("broker-a"))
    await until(lambda: heard)
    assert (heard[0].min_broker_id, heard[0].offline_broker_addr) == (1, "broker-a-0:10911")
    await slave.stop()


async def test_missing_header_field_is_named(server):
    answer = await server.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, {})
    assert answer.code == ResponseCode.SYSTEM_ERROR
    assert "topic" in (answer.remark or "")


async def test_port_in_use_is_named_with_its_key(server, tmp_path):
    for key, port in (("listenPort", server.namesrv.port), ("httpPort", server.namesrv.web.port)):
        other = NameServer(configured(tmp_path, f"{key}={port}"))
        with pytest.raises(ListenError, match=f"{port}: address already in use: .*{key}"):
            await other.start()
        await other.stop()


async def test_pages_tell_health_readiness_and_metrics(server):
    await server.register()
    await server.route()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.namesrv.web.port}") as session:
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["brokers"]) == (200, 1)
        server.namesrv.is_started = False
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["reasons"]) == (503, ["starting or stopping"])
        async with session.get("/metrics") as answer:
            text = await answer.text()
    found = {
        (s.name, *sorted(s.labels.items())): s.value for f in text_string_to_metric_families(text) for s in f.samples
    }
    node = ("node_type", "nameserver")
    assert found["rocketmq_namesrv_brokers", ("cluster", "c"), node] == 1
    assert found["rocketmq_namesrv_topics", node] == 2
    assert found["rocketmq_build_info", node, ("version", "V5_5_0")] == 1
    assert 'request_code="get_routeinfo_by_topic"' in text


def test_no_request_code_stands_twice_and_all_of_the_family_are_there(tmp_path):
    async def codes() -> set[int]:
        return {route.code for route in NameServer(configured(tmp_path)).processor.routes()}

    expected = {
        100,
        101,
        102,
        103,
        104,
        105,
        106,
        205,
        206,
        216,
        217,
        219,
        224,
        304,
        311,
        312,
        313,
        318,
        319,
        322,
        327,
        901,
        904,
    }
    assert asyncio.run(codes()) == expected


async def test_a_client_of_a_listener_is_told_the_addresses_there_and_of_no_broker_without_one(tmp_path) -> None:
    namesrv = NameServer(configured(tmp_path, "listeners=outside:0;other:0"), files=RealFiles(), clock=ManualClock())
    await namesrv.start()
    fixture = Fixture(namesrv, ManualClock())

    async def seen(listener: str, code: int = RequestCode.GET_ROUTEINFO_BY_TOPIC) -> Command:
        port = namesrv.listeners[listener].port
        return await fixture.client.invoke(f"127.0.0.1:{port}", code, {"topic": "orders"})

    async def addresses() -> dict[str, dict[str, str]]:
        route = json.loads((await seen("outside")).body)
        return {data["brokerName"]: data["brokerAddrs"] for data in route["brokerDatas"]}

    try:
        await fixture.register("broker-a", listeners="outside=192.0.2.1:30111;broken")
        await fixture.register("broker-a", 1)
        await fixture.register("broker-b")
        assert await addresses() == {"broker-a": {"0": "192.0.2.1:30111"}}
        inside = json.loads((await fixture.route()).body)
        assert {data["brokerName"] for data in inside["brokerDatas"]} == {"broker-a", "broker-b"}
        # The same topics, another address: whoever asked before must not get the old answer.
        await fixture.register("broker-a", listeners="outside=192.0.2.2:30111")
        assert await addresses() == {"broker-a": {"0": "192.0.2.2:30111"}}
        assert (await seen("other")).code == ResponseCode.TOPIC_NOT_EXIST
        info = json.loads((await seen("outside", RequestCode.GET_BROKER_CLUSTER_INFO)).body)
        assert info["brokerAddrTable"]["broker-a"]["brokerAddrs"] == {"0": "192.0.2.2:30111"}
        # Nothing is registered or configured from elsewhere.
        assert (await seen("outside", RequestCode.REGISTER_BROKER)).code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
        assert (await seen("outside", RequestCode.PUT_KV_CONFIG)).code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
    finally:
        await fixture.client.close()
        await namesrv.stop()


@pytest.mark.parametrize("text", ["outside", "outside:x", "outside:70000", "a:1;a:2", "Up:1"])
def test_listeners_of_another_form_are_refused(tmp_path, text: str) -> None:
    with pytest.raises(SettingsError, match="write name:port"):
        configured(tmp_path, f"listeners={text}")
