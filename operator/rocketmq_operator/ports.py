"""Ports inside the Pods. Every Pod has its own address, so all clusters use the same ones."""

from __future__ import annotations

from typing import NamedTuple


class Port(NamedTuple):
    """A named port of a container."""

    name: str
    number: int


NAMESRV_REMOTING = Port("remoting", 9876)
NAMESRV_HTTP = Port("http", 9877)

BROKER_REMOTING = Port("remoting", 10911)
BROKER_VIP = Port("vip", 10909)  # clients with the VIP channel on use the remoting port - 2
BROKER_HA = Port("ha", 10912)
BROKER_HTTP = Port("http", 8080)

NAMESRV_PORTS = (NAMESRV_REMOTING, NAMESRV_HTTP)
BROKER_PORTS = (BROKER_REMOTING, BROKER_VIP, BROKER_HA, BROKER_HTTP)
# What clients and peers outside the Pod's own group need behind the stable address.
BROKER_SERVICE_PORTS = (BROKER_REMOTING, BROKER_VIP, BROKER_HTTP)
