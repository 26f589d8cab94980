"""Who this broker is on the wire: the address that clients and name servers are given, known once its ports are bound."""

from __future__ import annotations

import ipaddress
import logging
import socket
import time

from rocketmq_common.message_ids import pack_host
from rocketmq_common.settings import SettingsError

logger = logging.getLogger(__name__)

# In Kubernetes a Pod may start before the DNS server has heard of its name; ending then would cost a restart with back-off.
RESOLVE_PATIENCE_SECONDS = 20.0
RESOLVE_INTERVAL_SECONDS = 0.25
# Connecting a datagram socket sends nothing and reveals the outgoing address (192.0.2.0/24 is never routed).
_PROBE_ADDRESS = ("192.0.2.1", 9)


class Identity:
    """``host`` is a literal IP: it is stored in every record and must lead clients back here. Ports are set after binding."""

    def __init__(self, host: str, ha_host: str) -> None:
        self.host = host
        self.ha_host = ha_host
        self.port = 0
        self.vip_port = 0
        self.ha_port = 0
        self.http_port = 0
        self.store_host = b""
        # The constant part of offset message ids, upper-case hexadecimal.
        self.message_id_prefix = b""
        self.bind(0, 0, 0)

    def bind(self, port: int, vip_port: int, ha_port: int) -> None:
        """The ports are known."""
        self.port = port
        self.vip_port = vip_port
        self.ha_port = ha_port
        self.store_host = pack_host(self.host, port)
        self.message_id_prefix = self.store_host.hex().upper().encode()

    @property
    def address(self) -> str:
        """``ip:port`` as registered."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ha_address(self) -> str:
        """``ip:port`` for replication."""
        return f"[{self.ha_host}]:{self.ha_port}" if ":" in self.ha_host else f"{self.ha_host}:{self.ha_port}"


def resolve_identity(broker_ip1: str, broker_ip2: str) -> Identity:
    """Make an identity of the two configured addresses; blocking (DNS).

    Raises SettingsError when a name cannot be resolved within `RESOLVE_PATIENCE_SECONDS`.
    """
    patience = RESOLVE_PATIENCE_SECONDS
    host = literal_address("brokerIP1", broker_ip1, patience) if broker_ip1 else own_address()
    return Identity(host, literal_address("brokerIP2", broker_ip2, patience) if broker_ip2 else host)


def literal_address(key: str, value: str, patience_seconds: float = 0.0) -> str:
    """``value`` if it is an IP address, else what its name resolves to now: records cannot hold names.

    Blocks for at most ``patience_seconds`` more while the name is unknown; raises SettingsError then.
    """
    text = value.strip().strip("[]")
    if is_literal(text):
        return str(ipaddress.ip_address(text))
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM)
            break
        except (OSError, UnicodeError) as error:
            if time.monotonic() >= deadline:
                raise SettingsError(
                    f"{key}={value}: cannot be resolved ({error}): write the IP address that clients reach"
                ) from error
            time.sleep(RESOLVE_INTERVAL_SECONDS)
    address = str(found[0][4][0])
    logger.info("%s=%s resolved to %s", key, value, address)
    return address


def is_literal(value: str) -> bool:
    """Whether ``value`` is an IP address and not a name; an IPv6 one may stand in brackets."""
    try:
        ipaddress.ip_address(value.strip().strip("[]"))
    except ValueError:
        return False
    return True


def own_address() -> str:
    """The address of the interface that leads outside, else loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_PROBE_ADDRESS)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
