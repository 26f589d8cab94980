"""Ports are the ones clients expect, or an error that says who has them."""

from __future__ import annotations

import os
import socket

import pytest

from rocketmq_tools.embedded.ports import HeldPorts, Request, assign, holder_of, is_free
from rocketmq_tools.errors import CommandError

REQUESTS = [
    Request("n0", "namesrv"),
    Request("n1", "namesrv"),
    Request("b0", "broker"),
    Request("b1", "broker"),
]
HOST = "127.0.0.1"


def everything_free(_host: str, _port: int) -> bool:
    return True


def test_first_name_server_and_broker_get_the_well_known_ports() -> None:
    ports = assign(REQUESTS, host=HOST, free=everything_free)
    assert ports["n0"] == {"remoting": 9876, "http": 9877}
    assert ports["n1"]["remoting"] == 9878
    assert ports["b0"] == {"remoting": 10911, "vip": 10909, "ha": 10912, "http": 8080}
    assert ports["b1"]["remoting"] == 10931


@pytest.mark.parametrize("base", [None, 20000, 0])
def test_vip_and_ha_ports_stand_where_clients_and_slaves_look(base: int | None) -> None:
    for ports in assign(REQUESTS, host=HOST, base=base, free=everything_free).values():
        if "vip" in ports:
            assert ports["vip"] == ports["remoting"] - 2
            assert ports["ha"] == ports["remoting"] + 1


@pytest.mark.parametrize("base", [None, 1024, 20000, 0])
def test_no_port_is_given_twice(base: int | None) -> None:
    requests = [Request(f"n{i}", "namesrv") for i in range(9)] + [Request(f"b{i}", "broker") for i in range(12)]
    if base is None:
        requests = requests[:9] + requests[9:]
    assigned = [
        p for ports in assign(requests, host=HOST, base=base, free=everything_free).values() for p in ports.values()
    ]
    assert len(set(assigned)) == len(assigned)


def test_a_taken_port_is_an_error_with_port_use_and_remedy() -> None:
    with pytest.raises(CommandError) as caught:
        assign(REQUESTS, host=HOST, free=lambda _host, port: port != 10912)
    assert "port 10912 (ha of b0) is in use by" in caught.value.what
    assert "--port-base" in caught.value.what


def test_a_taken_http_port_of_a_broker_gives_way() -> None:
    ports = assign(REQUESTS, host=HOST, free=lambda _host, port: port != 8080)
    assert ports["b0"]["http"] == 10914


def test_a_base_beyond_the_last_port_is_refused() -> None:
    with pytest.raises(CommandError, match="out of range"):
        assign(REQUESTS, host=HOST, base=65530, free=everything_free)


def test_no_free_ports_is_an_error_not_an_endless_search() -> None:
    with pytest.raises(CommandError, match="no free ports"):
        assign(REQUESTS, host=HOST, base=0, free=lambda _host, _port: False)


def test_a_listener_takes_its_port_and_is_named_by_pid() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(HOST, port)
        assert f"pid {os.getpid()}" in holder_of(port)
    assert is_free(HOST, port)


def test_held_ports_are_kept_from_other_searches_and_not_from_servers() -> None:
    with HeldPorts() as held, HeldPorts() as other:
        assigned = assign(REQUESTS, host=HOST, base=0, held=held)
        for port in assigned["b0"].values():
            assert not other.take(HOST, [port])
            with socket.create_server((HOST, port)) as server:
                assert server.getsockname()[1] == port
                socket.create_connection((HOST, port), timeout=5).close()
                server.accept()[0].close()
    with HeldPorts() as later:
        # A port that served a connection lingers; the one that did not is free again.
        assert later.take(HOST, assigned["b1"].values())


def test_holding_takes_all_ports_or_none() -> None:
    with socket.create_server((HOST, 0)) as taken, HeldPorts() as held, HeldPorts() as other:
        spare = assign(REQUESTS[:1], host=HOST, base=0)["n0"]["remoting"]
        assert not held.take(HOST, [spare, taken.getsockname()[1]])
        assert other.take(HOST, [spare])
