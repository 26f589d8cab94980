"""Child processes of a test run: started with their output in a file, waited for by a condition, always ended."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.02
STOP_TIMEOUT_SECONDS = 30.0
PORT_TRIES_MAX = 200
# Below the kernel's ephemeral range: an outgoing connection can never take a port between our look and the child's bind.
PORT_FIRST, PORT_LAST = 12_000, 32_000
OUTPUT_TAIL_LINES = 30


class ProcessFailed(Exception):
    """A child ended, or did not become ready, against expectation; the message carries the end of its output."""


def wait_until(
    condition: Callable[[], T | None], what: str, timeout_seconds: float = 30.0, poll_seconds: float = POLL_SECONDS
) -> T:
    """Return the first true result of ``condition``; ``TimeoutError`` naming ``what`` after ``timeout_seconds``."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_seconds:g} s (last: {result!r})")
        time.sleep(poll_seconds)


def free_port(neighbours: Sequence[int] = ()) -> int:
    """A port that is free on all addresses, as are those at the given distances from it."""
    for _ in range(PORT_TRIES_MAX):
        port = random.randrange(PORT_FIRST, PORT_LAST)
        if all(_is_free(port + distance) for distance in (0, *neighbours)):
            return port
    raise RuntimeError(f"no free port between {PORT_FIRST} and {PORT_LAST} in {PORT_TRIES_MAX} tries")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


class Process:
    """One child process in a session of its own; ``output`` is the file with its stdout and stderr."""

    def __init__(
        self, name: str, command: Sequence[str], directory: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.output = directory / f"{name}.out"
        self.environment = environment or {}
        # The group id that the child runs under, if not this process's (root).
        self.group: int | None = None
        self.popen: subprocess.Popen[bytes] | None = None
        self.started_monotonic = 0.0

    @property
    def pid(self) -> int:
        """The child's process id; the process must have been started."""
        assert self.popen is not None, f"{self.name} was never started"
        return self.popen.pid

    def start(self) -> None:
        """Start the child; its output is appended to ``output``."""
        assert self.popen is None or self.popen.poll() is not None, f"{self.name} runs already"
        with self.output.open("ab") as output:
            self.started_monotonic = time.monotonic()
            self.popen = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                start_new_session=True,
                group=self.group,
            )

    @property
    def is_running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def check(self) -> None:
        """Raise ``ProcessFailed`` when the child has ended."""
        if not self.is_running:
            code = None if self.popen is None else self.popen.returncode
            raise ProcessFailed(f"{self.name} ended with {code}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the child's output."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        return "\n".join(text.splitlines()[-OUTPUT_TAIL_LINES:])

    def wait(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> int:
        """Wait for the child to end by itself and return its exit code."""
        assert self.popen is not None
        return self.popen.wait(timeout_seconds)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> int | None:
        """SIGTERM, then SIGKILL after the timeout; return the exit code."""
        if self.popen is None:
            return None
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.popen.returncode
