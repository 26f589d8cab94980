"""Clusters on this machine once they were started: found, looked at, stopped. Starting is `rocketmq_tools.embedded.starting`."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import msgspec

from rocketmq_tools.embedded import identities
from rocketmq_tools.embedded.directories import (
    ClusterDirectory,
    ClusterLock,
    cluster_directory,
    is_locked,
    state_root,
    write_whole,
)
from rocketmq_tools.embedded.state import ClusterState, Phase, read_state
from rocketmq_tools.errors import CommandError, ExitCode

POLL_S = 0.01
STALE_GRACE_S = 10.0
# Stopping takes two rounds (brokers, then name servers) of at most the longest grace period each.
STOP_TIMEOUT_S = 90.0


def end_stale(directory: ClusterDirectory) -> int:
    """End processes whose supervisor is gone; how many there were. The caller holds the lock, so no supervisor can be alive."""
    state = read_state(directory)
    if state is None:
        return 0
    left = [p.identity for p in state.processes if p.identity is not None and identities.is_alive(p.identity)]
    identities.end(left, STALE_GRACE_S)
    if state.phase not in (Phase.STOPPED, Phase.FAILED):
        processes = [msgspec.structs.replace(p, identity=None, ready=False) for p in state.processes]
        stopped = msgspec.structs.replace(state, phase=Phase.STOPPED, processes=processes)
        write_whole(directory.state, msgspec.json.encode(stopped))
    return len(left)


def stop(directory: ClusterDirectory, *, purge: bool) -> bool:
    """Stop a cluster and end what is left of it; with ``purge`` remove its data. Whether anything ran. Raises CommandError."""
    if not directory.root.is_dir():
        return False
    state = read_state(directory)
    ran = is_locked(directory.lock)
    if ran:
        if state is None:
            raise CommandError(f"{directory.root.name} is just starting", remedy="try again in a second")
        identities.send(state.supervisor, signal.SIGTERM)
    lock = _wait_lock(directory, state)
    try:
        ran = end_stale(directory) > 0 or ran
        if purge:
            shutil.rmtree(directory.root)
    finally:
        lock.release()
    return ran


def _wait_lock(directory: ClusterDirectory, state: ClusterState | None) -> ClusterLock:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    killed = False
    while (lock := ClusterLock.acquire(directory.lock)) is None:
        if time.monotonic() > deadline:
            if killed or state is None:
                raise CommandError(f"{directory.root.name} does not stop", exit_code=ExitCode.TIMEOUT)
            # Its children are tied to it and end with it.
            identities.send(state.supervisor, signal.SIGKILL)
            killed, deadline = True, time.monotonic() + STALE_GRACE_S
        time.sleep(POLL_S)
    return lock


def find(*, data: Path | None = None, name: str | None = None, namespace: str | None = None) -> ClusterDirectory:
    """The directory of the cluster that a command is about: the one named, else the only one that runs, else the only one there is.

    Raises CommandError when there is none or when the choice is not clear.
    """
    if data is not None:
        return ClusterDirectory(data.absolute())
    if name is not None and namespace is not None:
        return cluster_directory(namespace, name)
    root = state_root()
    known = sorted(path.parent for path in root.glob("*/plan.json")) if root.is_dir() else []
    if name is not None:
        known = [path for path in known if path.name == name or path.name.partition("-")[2] == name]
    running = [path for path in known if is_locked(path / "lock")]
    for candidates in (running, known):
        if len(candidates) == 1:
            return ClusterDirectory(candidates[0])
        if candidates:
            names = ", ".join(path.name.partition("-")[2] for path in candidates)
            raise CommandError(
                f"several clusters are on this machine: {names}",
                remedy="choose one with --cluster NAME or -f FILE",
                exit_code=ExitCode.USAGE,
            )
    raise CommandError(
        f"there is no cluster {name} on this machine" if name else "no cluster is on this machine",
        why=f"looked in {root}",
        remedy="start one with `rocketmq up`",
        exit_code=ExitCode.NOT_FOUND,
    )


def observed(directory: ClusterDirectory) -> ClusterState | None:
    """The state of a cluster, corrected when its supervisor was killed and could not write its end."""
    state = read_state(directory)
    if state is None or state.phase in (Phase.STOPPED, Phase.FAILED) or identities.is_alive(state.supervisor):
        return state
    processes = [
        p
        if p.identity is not None and identities.is_alive(p.identity)
        else msgspec.structs.replace(p, identity=None, ready=False)
        for p in state.processes
    ]
    return msgspec.structs.replace(state, phase=Phase.STOPPED, processes=processes)


def running_name_servers() -> list[str]:
    """Name-server addresses of the one cluster that runs on this machine; empty when none or several do."""
    root = state_root()
    running = [path.parent for path in root.glob("*/lock") if is_locked(path)] if root.is_dir() else []
    state = read_state(ClusterDirectory(running[0])) if len(running) == 1 else None
    return state.name_servers if state is not None else []
