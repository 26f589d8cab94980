"""A TCP proxy on loopback which keeps every remoting frame that passes, with its direction."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field

CHUNK_SIZE = 1 << 16
FRAMES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame, length prefix included. ``is_to_server``: from the side that connected."""

    label: str
    connection: int
    is_to_server: bool
    data: bytes


@dataclass(slots=True)
class RecordingProxy:
    """Accepts on ``listen`` and forwards to ``target`` until closed; ``label`` marks the frames of the current phase."""

    listen: tuple[str, int]
    target: tuple[str, int]
    label: str = ""
    frames: list[RecordedFrame] = field(default_factory=list)
    _server: socket.socket | None = None
    _connections: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._server = socket.create_server(self.listen)
        self._spawn(self._accept)

    def close(self) -> None:
        """Close every socket and wait for the threads."""
        assert self._server is not None
        for one in (self._server, *self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster
            one.close()
        for thread in self._threads:
            thread.join()

    def _spawn(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        assert self._server is not None
        number = 0
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()  # the target does not listen yet: the caller sees a closed connection and tries again
                continue
            number += 1
            self._connections += [near, far]
            self._spawn(self._pump, near, far, number, True)
            self._spawn(self._pump, far, near, number, False)

    def _pump(self, source: socket.socket, sink: socket.socket, connection: int, is_to_server: bool) -> None:
        pending = bytearray()
        try:
            while data := source.recv(CHUNK_SIZE):
                sink.sendall(data)
                pending += data
                while len(pending) >= 4:
                    size = 4 + struct.unpack_from(">i", pending)[0]
                    if len(pending) < size:
                        break
                    if len(self.frames) < FRAMES_MAX:
                        self.frames.append(RecordedFrame(self.label, connection, is_to_server, bytes(pending[:size])))
                    del pending[:size]
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # either side went away: the other pump sees it too
