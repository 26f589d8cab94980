"""Peers driven over stdin and stdout: one JSON object a line, one answer a line (see ``java/src/PeerDriver.java``)."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from e2e import toolchain
from e2e.processes import wait_until

ANSWER_TIMEOUT_SECONDS = 60.0
ANSWERS_WAITING_MAX = 16
EXCEPTION_LINE = re.compile(r"^\s*(?:Caused by: )?[\w.$]+Exception(?::|\s*$)", re.MULTILINE)
REBALANCE_INTERVAL_MIN_MS = 100
JAVA_CLIENT_OPTIONS = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class PeerError(Exception):
    """The peer's client raised: ``code`` is the broker's response code where the exception carries one."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class AdminOutput:
    """What one mqadmin command printed."""

    output: str
    errors: str

    @property
    def rows(self) -> list[list[str]]:
        """Words of each line that is neither empty nor a heading (``#``)."""
        return [line.split() for line in self.output.splitlines() if line.strip() and not line.startswith("#")]

    @property
    def heading(self) -> str:
        """The first line that starts with ``#``, else the empty string."""
        return next((line for line in self.output.splitlines() if line.startswith("#")), "")

    @property
    def failed(self) -> bool:
        """Whether the command printed an exception; mqadmin itself always ends with 0."""
        return EXCEPTION_LINE.search(self.errors + "\n" + self.output) is not None


class Driver:
    """One running peer. Calls are made one after the other; the peer ends with this process's end of the pipe."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self._errors = directory / f"{name}.err"
        with self._errors.open("ab") as errors:
            self._popen = subprocess.Popen(
                list(command),
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"NAMESRV_ADDR": ""} | (environment or {}),
                start_new_session=True,
            )
        self._answers: queue.Queue[bytes] = queue.Queue(ANSWERS_WAITING_MAX)
        self._reader = threading.Thread(target=self._read, name=f"{name} answers", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def call(self, command: str, *, answer_timeout_seconds: float = ANSWER_TIMEOUT_SECONDS, **arguments: Any) -> Any:
        """Run one command in the peer; raise ``PeerError`` with what its client raised."""
        assert self._popen.stdin is not None
        line = json.dumps({"command": command, **arguments}) + "\n"
        self._popen.stdin.write(line.encode())
        self._popen.stdin.flush()
        try:
            answer = self._answers.get(timeout=answer_timeout_seconds)
        except queue.Empty:
            raise TimeoutError(f"{self.name} did not answer {command} within {answer_timeout_seconds:g} s") from None
        if not answer:
            raise RuntimeError(
                f"{self.name} ended during {command}: {self._errors.read_text(errors='replace')[-2000:]}"
            )
        decoded = json.loads(answer)
        if "error" in decoded:
            raise PeerError(decoded["error"], decoded.get("code"))
        return decoded["result"]

    def mqadmin(self, *arguments: str) -> AdminOutput:
        """Run an mqadmin command line in the peer (5.5 only)."""
        return AdminOutput(**self.call("mqadmin", arguments=list(arguments)))

    def receive(self, name: str, count: int, timeout_seconds: float = 30.0) -> list[dict[str, Any]]:
        """What the named push consumer was given, once that is at least ``count`` messages."""

        def enough() -> list[dict[str, Any]] | None:
            received: list[dict[str, Any]] = self.call("consumer.received", name=name)
            return received if len(received) >= count else None

        return wait_until(enough, f"{name} receives {count} messages", timeout_seconds, poll_seconds=0.1)

    def wait_assigned(
        self, name: str, topic: str, accept: Callable[[list[str]], bool], timeout_seconds: float = 45.0
    ) -> list[str]:
        """Wait until the queues assigned to a push consumer satisfy ``accept``; return them."""

        def assigned() -> list[str] | None:
            queues = sorted(self.call("consumer.assigned", name=name, topic=topic))
            return [*queues, ""] if accept(queues) else None

        return wait_until(assigned, f"{name} is assigned queues of {topic}", timeout_seconds, poll_seconds=0.1)[:-1]

    def close(self) -> None:
        """Close the pipe and wait for the peer's end; kill it when it does not end by itself."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(5.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        self._reader.join()
        self._popen.stdout.close()


def java_driver(
    peer: toolchain.JavaPeer, directory: Path, options: Sequence[str] = (), *, rebalance_interval_ms: int = 2000
) -> Driver:
    """Start the driver program on one of the Java clients, with everything that it writes under ``directory``.

    The client's own ``rebalance_interval_ms`` is 20 000: a new retry topic would then be consumed only after that.
    """
    command = [
        toolchain.tool("java"),
        *toolchain.JAVA_OPEN_OPTIONS,
        *JAVA_CLIENT_OPTIONS,
        f"-Duser.home={directory}",
        f"-Drocketmq.client.localOffsetStoreDir={directory}/offsets",
        f"-Drocketmq.home.dir={directory}",
        f"-Drocketmq.client.rebalance.waitInterval={rebalance_interval_ms}",
        # A new consumer of 5.x takes its queues only after this time, by default a second.
        f"-Drocketmq.client.rebalance.minInterval={REBALANCE_INTERVAL_MIN_MS}",
        *options,
        "-cp",
        peer.classpath,
        "PeerDriver",
        *peer.commands,
    ]
    return Driver(f"java-{peer.version}", command, directory)


def go_driver(directory: Path) -> Driver:
    """Start the Go program."""
    return Driver(
        "go", [str(toolchain.go_peer())], directory, {"HOME": str(directory), "ROCKETMQ_GO_LOG_LEVEL": "error"}
    )


def python_driver(directory: Path) -> Driver:
    """Start the Python program on the package with Apache's C++ client."""
    environment = {"HOME": str(directory), "PYTHONPATH": str(toolchain.python_peer())}
    return Driver("python", [sys.executable, str(toolchain.E2E / "python/peer.py")], directory, environment)
