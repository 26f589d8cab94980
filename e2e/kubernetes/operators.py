"""The operator as a process of its own, as its image runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

STOP_TIMEOUT_SECONDS = 30


class OperatorProcess:
    """A context manager; its log is ``log``."""

    def __init__(
        self, kubeconfig: Path, log: Path, *, identity: str = "operator-0", arguments: tuple[str, ...] = ()
    ) -> None:
        self._command = [
            sys.executable, "-m", "rocketmq_operator", "--kubeconfig", str(kubeconfig), "--identity", identity,
            "--namespace", "default", "--http-host", "127.0.0.1", "--http-port", "0", *arguments,
        ]  # fmt: skip
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OperatorProcess:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def rss_bytes(self) -> int:
        """Resident memory now."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(self._process.returncode)
