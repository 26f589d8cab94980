"""Configuration: where values come from, roles, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_broker import identity as identity_module
from rocketmq_broker.identity import literal_address, resolve_identity
from rocketmq_broker.settings import BrokerRole, BrokerSettings, load_settings
from rocketmq_common.settings import SettingsError, wire_names
from rocketmq_store.settings import FlushDiskType, StoreSettings


def conf(root: Path, text: str) -> Path:
    path = root / "broker.conf"
    path.write_text(text)
    return path


def test_an_existing_broker_conf_of_apache_works(tmp_path: Path) -> None:
    path = conf(
        tmp_path,
        "# comment\nbrokerClusterName = DefaultCluster\nbrokerName=broker-a\nbrokerId=0\ndeleteWhen=04\nfileReservedTime=48\n"
        "brokerRole=ASYNC_MASTER\nflushDiskType=ASYNC_FLUSH\nsendMessageThreadPoolNums=16\nnamesrvAddr=a:9876;b:9876\n"
        "storeType=default\ntransientStorePoolEnable=false\nlistenPort=10921\n",
    )
    loaded = load_settings(path, {"HOME": str(tmp_path)})
    assert (loaded.broker.broker_name, loaded.broker.listen_port, loaded.store.file_reserved_hours) == (
        "broker-a",
        10921,
        48,
    )
    assert loaded.broker.namesrv_addr == "a:9876;b:9876"
    assert loaded.store.root == str(tmp_path / "store")
    assert loaded.unknown == []


def test_flags_win_over_assignments_over_environment_over_the_file(tmp_path: Path) -> None:
    path = conf(tmp_path, "brokerName=file\nbrokerClusterName=file\nregionId=file\nnamesrvAddr=file:1\n")
    loaded = load_settings(
        path,
        {
            "ROCKETMQ_BROKER_CLUSTER_NAME": "env",
            "ROCKETMQ_REGION_ID": "env",
            "NAMESRV_ADDR": "env:1",
            "ROCKETMQ_BROKER_IP1": "10.0.0.9",
        },
        ["regionId=set", "namesrvAddr=set:1"],
        {"namesrvAddr": "flag:1"},
    )
    broker = loaded.broker
    assert (broker.broker_name, broker.broker_cluster_name, broker.region_id) == ("file", "env", "set")
    assert (broker.namesrv_addr, broker.broker_ip1) == ("flag:1", "10.0.0.9")


def test_apaches_environment_variable_names_the_name_servers_when_nothing_else_does(tmp_path: Path) -> None:
    assert load_settings(None, {"NAMESRV_ADDR": "n:9876"}).broker.namesrv_addr == "n:9876"


def test_keys_that_nobody_knows_are_reported(tmp_path: Path) -> None:
    assert load_settings(conf(tmp_path, "brokerNmae=x\nuseEpollNativeSelector=true\n"), {}).unknown == ["brokerNmae"]


def test_the_id_of_a_master_is_0_whatever_the_file_says(tmp_path: Path) -> None:
    loaded = load_settings(conf(tmp_path, "brokerId=3\nbrokerRole=SYNC_MASTER\n"), {})
    assert (loaded.broker.broker_id, loaded.broker.broker_role) == (0, BrokerRole.SYNC_MASTER)
    assert "brokerId 3" in loaded.notes[0]


def test_a_pods_ordinal_above_0_makes_a_slave_of_the_shared_file(tmp_path: Path) -> None:
    path = conf(tmp_path, "brokerRole=ASYNC_MASTER\nflushDiskType=SYNC_FLUSH\n")
    slave = load_settings(path, {"ROCKETMQ_BROKER_ID": "2"})
    assert (slave.broker.broker_id, slave.broker.broker_role) == (2, BrokerRole.SLAVE)
    assert slave.store.flush_disk_type is FlushDiskType.SYNC_FLUSH
    master = load_settings(path, {"ROCKETMQ_BROKER_ID": "0"})
    assert (master.broker.broker_id, master.broker.broker_role) == (0, BrokerRole.ASYNC_MASTER)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listenPort=abc\n", r"broker\.conf: listenPort='abc': write a whole number"),
        ("listenPort=70000\n", r"listenPort=70000: write a port from 0 to 65535"),
        ("brokerRole=KING\n", r"brokerRole='KING': write one of ASYNC_MASTER, SYNC_MASTER, SLAVE"),
        ("brokerRole=SLAVE\n", r"brokerId=0: a slave .* needs a brokerId above 0"),
        ("brokerId=-1\n", r"brokerId=-1: write 0 for a master"),
        ("flushDiskType=SOMETIMES\n", r"flushDiskType='SOMETIMES'"),
        ("autoCreateTopicEnable=perhaps\n", r"autoCreateTopicEnable='perhaps': write true or false"),
        ("messageDelayLevel=1s soon\n", r"messageDelayLevel: 'soon' is no delay"),
        ("storeType=defaultRocksDB\n", r"storeType=defaultRocksDB: not supported .* write default"),
        ("enableDLegerCommitLog=true\n", r"enableDLegerCommitLog=true: not supported"),
        ("aclEnable=true\n", r"aclEnable=true: not supported"),
        ("storePathCommitLog=/elsewhere\n", r"storePathCommitLog=/elsewhere: the commit log stands in"),
        ("brokerName=a b\n", r"brokerName='a b': write a name"),
        ("maxMessageSize=0\n", r"maxMessageSize=0: write a number from 1"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line_with_key_value_and_remedy(
    tmp_path: Path, text: str, expected: str
) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings(conf(tmp_path, text), {})
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.conf: cannot be read"):
        load_settings(tmp_path / "nowhere.conf", {})


def test_no_key_belongs_to_broker_and_store() -> None:
    assert not set(wire_names(BrokerSettings)) & set(wire_names(StoreSettings))


def test_an_advertised_name_is_resolved_once_because_records_hold_addresses() -> None:
    assert literal_address("brokerIP1", "127.0.0.9") == "127.0.0.9"
    assert literal_address("brokerIP1", "[::1]") == "::1"
    assert literal_address("brokerIP1", "localhost") in ("127.0.0.1", "::1")
    with pytest.raises(SettingsError, match=r"brokerIP1=no-such\.invalid: cannot be resolved"):
        literal_address("brokerIP1", "no-such.invalid")


def test_a_name_that_is_not_known_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pod's own name reaches the DNS server after the Pod has started."""
    answers = iter([OSError("unknown"), OSError("unknown"), [(None, None, None, "", ("10.0.0.7", 0))]])

    def getaddrinfo(*_: object, **__: object) -> object:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    monkeypatch.setattr(identity_module, "RESOLVE_INTERVAL_SECONDS", 0.0)
    assert resolve_identity("10.0.0.6", "pod.headless.mq.svc").ha_host == "10.0.0.7"


def test_identity_follows_the_bound_ports() -> None:
    identity = resolve_identity("127.0.0.9", "")
    identity.bind(10911, 10909, 10912)
    assert (identity.address, identity.ha_address) == ("127.0.0.9:10911", "127.0.0.9:10912")
    assert identity.message_id_prefix == b"7F00000900002A9F"
