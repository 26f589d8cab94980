"""Where a cluster lives on this machine, its lock, and files that change whole.

<root>/<namespace>-<name>/
    lock            held while the cluster runs
    plan.json       what runs
    state.json      how it is doing, written by the supervisor
    logs/           one file per process, and the supervisor's
    claims/         data of Pods, kept by `down`, removed by `down --purge`
    pods/           configuration files and scratch volumes
    secrets/        what Secrets of the namespace hold; made here, with random content
    ephemeral/      claims, pods and secrets of a cluster started with --ephemeral, removed when it stops
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "ROCKETMQ_HOME"
# `is_locked` holds the lock for a few microseconds: whoever wants it must not take that for a running cluster.
LOOK_ATTEMPTS = 4
SECRET_BYTES = 32
LOOK_PAUSE_S = 0.005


def state_root(environment: Mapping[str, str] = os.environ) -> Path:
    """The directory of all clusters: ``$ROCKETMQ_HOME``, else ``$XDG_STATE_HOME/rocketmq``, else ``~/.local/state/rocketmq``."""
    if environment.get(HOME_VARIABLE):
        return Path(environment[HOME_VARIABLE]).absolute()
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base).absolute() / "rocketmq"


@dataclass(frozen=True, slots=True)
class ClusterDirectory:
    """The paths of one cluster."""

    root: Path

    @property
    def lock(self) -> Path:
        """Locked while the cluster runs."""
        return self.root / "lock"

    @property
    def plan(self) -> Path:
        """What runs, or ran last."""
        return self.root / "plan.json"

    @property
    def state(self) -> Path:
        """How it is doing."""
        return self.root / "state.json"

    @property
    def logs(self) -> Path:
        """Output of the processes."""
        return self.root / "logs"

    @property
    def supervisor_log(self) -> Path:
        """Output of a detached supervisor."""
        return self.logs / "supervisor.log"

    @property
    def ephemeral(self) -> Path:
        """Data of a cluster that keeps none."""
        return self.root / "ephemeral"

    def log(self, process: str) -> Path:
        """Output of one process."""
        return self.logs / f"{process}.log"


def cluster_directory(namespace: str, name: str, data: Path | None = None) -> ClusterDirectory:
    """The directory of a cluster: ``data`` itself when given, else one under `state_root`."""
    return ClusterDirectory(data.absolute() if data is not None else state_root() / f"{namespace}-{name}")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that readers see the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def make_secret(path: Path) -> None:
    """A file with a random secret that only its owner can read, unless there is one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_urlsafe(SECRET_BYTES).encode() + b"\n")
        os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.close(descriptor)
        temporary.unlink()


class ClusterLock:
    """The lock of a running cluster.

    It belongs to an open file, so a detached supervisor inherits it from the command that took it, with no moment in between.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path) -> ClusterLock | None:
        """Take the lock, or return None when another process holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for attempt in range(LOOK_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt + 1 < LOOK_ATTEMPTS:
                    time.sleep(LOOK_PAUSE_S)
            else:
                return cls(descriptor)
        os.close(descriptor)
        return None

    def release(self) -> None:
        """Close this process's hold; a process that inherited it keeps it."""
        os.close(self.descriptor)


def is_locked(path: Path) -> bool:
    """Whether a cluster runs in the directory of ``path``."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
