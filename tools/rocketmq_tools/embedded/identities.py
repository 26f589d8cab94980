"""Processes told apart by number and start time, so that a recycled number is never signalled."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rocketmq_tools.embedded.state import Identity

POLL_S = 0.02


def start_ticks(pid: int) -> int | None:
    """When a process started, in units that only compare; None when there is none, or only its remains."""
    if sys.platform != "linux":
        import psutil

        try:
            return int(psutil.Process(pid).create_time() * 1000)
        except psutil.NoSuchProcess:
            return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses and may hold anything; count from its end.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def identify(pid: int) -> Identity | None:
    """The identity of a running process."""
    ticks = start_ticks(pid)
    return None if ticks is None else Identity(pid=pid, start_ticks=ticks)


def is_alive(identity: Identity) -> bool:
    """Whether exactly this process still runs."""
    return start_ticks(identity.pid) == identity.start_ticks


def send(identity: Identity, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it is gone."""
    if is_alive(identity):
        try:
            os.kill(identity.pid, number)
        except ProcessLookupError:
            return


def wait_gone(identities: Iterable[Identity], timeout_s: float) -> list[Identity]:
    """Wait until the processes are gone; return those that are not."""
    deadline = time.monotonic() + timeout_s
    left = [i for i in identities if is_alive(i)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_S)
        left = [i for i in left if is_alive(i)]
    return left


def end(identities: list[Identity], grace_s: float) -> None:
    """Ask the processes to stop, and make those stop that have not after ``grace_s``."""
    for identity in identities:
        send(identity, signal.SIGTERM)
    for identity in wait_gone(identities, grace_s):
        send(identity, signal.SIGKILL)
    wait_gone(identities, grace_s)
