"""Local ports for the processes of a cluster.

Without ``--port-base`` they are the ones that clients expect: name servers from 9876, brokers from 10911 in steps of 20. A port
that is taken is an error which says by whom; only the brokers' HTTP ports, which no client knows by heart, give way.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, Self

from rocketmq_tools.errors import CommandError

NAMESRV_FIRST = 9876
NAMESRV_STEP = 2
BROKER_FIRST = 10911
BROKER_STEP = 20
BROKER_HTTP_FIRST = 8080
# Layout under --port-base: name servers first, then one block of 20 for each broker.
BASE_BROKERS_OFFSET = 20
PORT_MAX = 65535
EPHEMERAL_ATTEMPTS_MAX = 200

IsFree = Callable[[str, int], bool]
Take = Callable[[str, Collection[int]], bool]


class Request(NamedTuple):
    """A process that needs ports."""

    name: str
    role: str


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As asyncio's servers do: remains of old connections do not matter, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


class HeldPorts:
    """Ports kept from others between being chosen and being listened on; a context manager.

    A socket is bound to each, exclusively, and then allows its address to be reused: servers (which all ask for that) can bind
    and listen beside it, another search for free ports cannot take it.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    def take(self, host: str, ports: Collection[int]) -> bool:
        """Hold all of ``ports``, or none when one of them is in use."""
        taken: list[socket.socket] = []
        for port in ports:
            candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            taken.append(candidate)
            try:
                candidate.bind((host, port))
            except OSError:
                for each in taken:
                    each.close()
                return False
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sockets += taken
        return True


def assign(
    requests: list[Request],
    *,
    host: str,
    base: int | None = None,
    free: IsFree = is_free,
    held: HeldPorts | None = None,
) -> dict[str, dict[str, int]]:
    """Ports of each process by name. ``base`` None: the well-known ones; 0: any free ones, kept in ``held``; else counted from it.

    Raises PortTaken, and CommandError when there are not enough ports.
    """
    if base == 0:
        take = held.take if held is not None else lambda host, ports: all(free(host, port) for port in ports)
        return _any_free(requests, host, take)
    assigned: dict[str, dict[str, int]] = {}
    counts = {"namesrv": 0, "broker": 0}
    for request in requests:
        index = counts[request.role]
        counts[request.role] += 1
        ports = _namesrv_ports(index, base) if request.role == "namesrv" else _broker_ports(index, base)
        if base is None and request.role == "broker" and not free(host, ports["http"]):
            ports["http"] = ports["remoting"] + 3
        for use, port in ports.items():
            if not 0 < port <= PORT_MAX:
                raise CommandError(
                    f"port {port} for {request.name} ({use}) is out of range", remedy="give a smaller --port-base"
                )
            if not free(host, port):
                raise PortTaken(request.name, use, port)
        assigned[request.name] = ports
    return assigned


def _namesrv_ports(index: int, base: int | None) -> dict[str, int]:
    remoting = (NAMESRV_FIRST if base is None else base) + NAMESRV_STEP * index
    return {"remoting": remoting, "http": remoting + 1}


def _broker_ports(index: int, base: int | None) -> dict[str, int]:
    if base is None:
        remoting = BROKER_FIRST + BROKER_STEP * index
        http = BROKER_HTTP_FIRST + BROKER_STEP * index
    else:
        remoting = base + BASE_BROKERS_OFFSET + 2 + BROKER_STEP * index
        http = remoting + 3
    return {"remoting": remoting, "vip": remoting - 2, "ha": remoting + 1, "http": http}


def _any_free(requests: list[Request], host: str, take: Take) -> dict[str, dict[str, int]]:
    used: set[int] = set()
    assigned: dict[str, dict[str, int]] = {}
    for request in requests:
        for remoting in _candidates():
            ports = {"remoting": remoting, "http": remoting + 3}
            if request.role == "broker":
                ports |= {"vip": remoting - 2, "ha": remoting + 1}
            if used.isdisjoint(ports.values()) and take(host, ports.values()):
                break
        else:
            raise CommandError("no free ports were found", remedy="give --port-base N")
        used |= set(ports.values())
        assigned[request.name] = ports
    return assigned


def _candidates() -> Iterator[int]:
    # Below the range that the kernel hands out to outgoing connections, so that none takes a port between check and listen.
    numbers = random.SystemRandom()
    for _ in range(EPHEMERAL_ATTEMPTS_MAX):
        yield numbers.randrange(12000, 32000, 6)


class PortTaken(CommandError):
    """Another process listens on a port that the cluster needs; one line says which, who and what to do."""

    def __init__(self, name: str, use: str, port: int) -> None:
        self.port = port
        self.holder = holder_of(port)
        super().__init__(
            f"port {port} ({use} of {name}) is in use by {self.holder}: "
            "stop it, or give --port-base N for other ports (0: any free)"
        )


def holder_of(port: int) -> str:
    """Who listens on a port, as far as this user may know."""
    import psutil

    with contextlib.suppress(psutil.AccessDenied, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local[1] == port and connection.pid:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
                return f"pid {connection.pid}"
    return "another process"
