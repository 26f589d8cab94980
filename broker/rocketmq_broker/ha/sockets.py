"""What both ends of a replication link set on their socket."""

from __future__ import annotations

import asyncio
import socket

KEEPALIVE_COUNT = 3


def peer_address(transport: asyncio.BaseTransport) -> tuple[str, str]:
    """(host, ``host:port``) of the other side."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple) or len(peer) < 2:
        return "?", "?"
    host, port = str(peer[0]), peer[1]
    return host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def watch_dead_peers(transport: asyncio.BaseTransport, silence_ms: int) -> None:
    """Have the kernel end a link whose peer vanished without a word (fault F32): unsent bytes must not keep it alive."""
    link = transport.get_extra_info("socket")
    if link is None:
        return
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)
    if hasattr(socket, "TCP_KEEPIDLE"):
        idle_s = max(1, silence_ms // 1000 // (KEEPALIVE_COUNT + 1))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, idle_s)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
