"""The budget for clients: from the settings, else from the memory there is."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rocketmq_broker.memory import AUTOMATIC_BYTES_MIN, BASE_BYTES, client_memory
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.tests.harness import serving
from rocketmq_common.memory import memory_limit_bytes
from rocketmq_common.settings import SettingsError

GIB = 1 << 30


def test_by_default_clients_get_a_quarter_of_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert client_memory(BrokerSettings(), 2 * GIB).limit_bytes == GIB // 2
    assert client_memory(BrokerSettings(), 64 << 20).limit_bytes == AUTOMATIC_BYTES_MIN
    assert client_memory(BrokerSettings(client_memory_max_bytes=12345), 2 * GIB).limit_bytes == 12345
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert "worst case" in caplog.text


def test_more_than_the_memory_has_is_refused_with_the_key() -> None:
    with pytest.raises(SettingsError, match="clientMemoryMaxBytes="):
        client_memory(BrokerSettings(client_memory_max_bytes=GIB), GIB)
    assert client_memory(BrokerSettings(client_memory_max_bytes=GIB - BASE_BYTES), GIB).limit_bytes == GIB - BASE_BYTES


def test_the_limit_is_the_containers_where_there_is_one(tmp_path: Path) -> None:
    limit, none, huge = tmp_path / "max", tmp_path / "none", tmp_path / "huge"
    limit.write_text("536870912\n")
    none.write_text("max\n")
    huge.write_text("9223372036854771712\n")
    machine = memory_limit_bytes(())
    assert memory_limit_bytes((tmp_path / "absent", limit)) == min(536870912, machine)
    assert memory_limit_bytes((none,)) == memory_limit_bytes((huge,)) == machine


async def test_both_ports_share_one_budget(tmp_path: Path) -> None:
    async with serving(tmp_path, clientMemoryMaxBytes=1 << 20) as peer:
        servers = (peer.broker.server, peer.broker.vip_server)
        assert [server is not None and server.budget is peer.broker.client_memory for server in servers] == [True, True]
        assert peer.broker.client_memory.limit_bytes == 1 << 20
