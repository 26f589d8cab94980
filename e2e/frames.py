"""Remoting frames over a plain blocking socket, independent of our own codec.

The tests that judge our servers must not share a mistake with them, so this module writes and reads the JSON form itself
(reference: the frame is i32 length, i32 header length with the serialization in the high byte, header, body).
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Self

HEAD = struct.Struct(">ii")
RESPONSE_FLAG = 1
ONEWAY_FLAG = 2
VERSION_5_5_0 = 513
BARE_INTEGER_KEY = re.compile(rb"([{,])(-?\d+):")
FRAME_SIZE_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded command: response or request, by bit 0 of ``flag``."""

    code: int
    opaque: int
    flag: int = 0
    remark: str | None = None
    ext: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body as strict JSON."""
        return json.loads(self.body)

    def json_lenient(self) -> Any:
        """The body as the JSON that Java writes: integer keys may stand bare (``{0:"addr"}``)."""
        return json.loads(BARE_INTEGER_KEY.sub(rb'\1"\2":', self.body))


def encode(
    code: int,
    ext: dict[str, str] | None = None,
    body: bytes = b"",
    *,
    opaque: int = 0,
    flag: int = 0,
    version: int = VERSION_5_5_0,
) -> bytes:
    """One whole frame in the JSON form."""
    header: dict[str, Any] = {"code": code, "flag": flag, "language": "JAVA", "opaque": opaque, "version": version}
    if ext is not None:
        header["extFields"] = ext
    head = json.dumps(header, separators=(",", ":")).encode()
    return HEAD.pack(4 + len(head) + len(body), len(head)) + head + body


def decode(frame: bytes) -> Answer:
    """The command in one frame without its length prefix; the JSON form only."""
    (marked,) = struct.unpack_from(">i", frame)
    size = marked & 0xFFFFFF
    if marked >> 24:
        raise ValueError(f"serialization {marked >> 24} is not JSON")
    header = json.loads(frame[4 : 4 + size])
    return Answer(
        header["code"],
        header["opaque"],
        header.get("flag", 0),
        header.get("remark"),
        header.get("extFields") or {},
        frame[4 + size :],
    )


class Link:
    """One blocking connection: requests one after the other; requests from the server meanwhile are kept in ``notices``."""

    def __init__(self, address: str, *, timeout_seconds: float = 5.0) -> None:
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.notices: list[Answer] = []
        self._opaques = itertools.count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, code: int, ext: dict[str, str] | None = None, body: bytes = b"", *, flag: int = 0) -> int:
        """Write a request and return its opaque."""
        opaque = next(self._opaques)
        self.socket.sendall(encode(code, ext, body, opaque=opaque, flag=flag))
        return opaque

    def receive(self) -> Answer:
        """The next command from the peer; ``ConnectionError`` when it closed, ``TimeoutError`` after the link's timeout."""
        (size,) = struct.unpack(">i", self._exactly(4))
        if not 0 < size <= FRAME_SIZE_MAX:
            raise ValueError(f"frame of {size} bytes")
        return decode(self._exactly(size))

    def call(self, code: int, ext: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request and return its response, whatever its code."""
        opaque = self.send(code, ext, body)
        while True:
            answer = self.receive()
            if answer.flag & RESPONSE_FLAG and answer.opaque == opaque:
                return answer
            self.notices.append(answer)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(min(size - len(data), 1 << 20))
            if not part:
                raise ConnectionError(f"the peer closed the connection after {len(data)} of {size} bytes")
            data += part
        return bytes(data)


def call(
    address: str, code: int, ext: dict[str, str] | None = None, body: bytes = b"", *, timeout_seconds: float = 5.0
) -> Answer:
    """One request on a connection of its own."""
    with Link(address, timeout_seconds=timeout_seconds) as link:
        return link.call(code, ext, body)
