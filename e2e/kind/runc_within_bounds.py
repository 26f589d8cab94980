"""Stands before runc: takes out of a container's capabilities what root lacks on this machine.

Docker 20.10 asks for every capability of the kernel when a container is privileged, as kind's nodes are; runc then fails where
one of them is missing. Where none is missing this changes nothing. Standard library only: an engine calls it for each container.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

# By bit number, as in linux/capability.h.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
    "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip


def missing(bounding_set: int) -> set[str]:
    """Names of the capabilities that are not in a bounding set."""
    return {f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if not bounding_set >> bit & 1}


def restricted(process: dict[str, Any], lacking: set[str]) -> dict[str, Any]:
    """An OCI process without the capabilities that are lacking."""
    sets = process.get("capabilities") or {}
    return {**process, "capabilities": {kind: [c for c in names if c not in lacking] for kind, names in sets.items()}}


def option(arguments: list[str], name: str) -> str | None:
    """The value of ``--name value`` or ``--name=value``."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == name:
            return following
        if argument.startswith(f"{name}="):
            return argument.removeprefix(f"{name}=")
    return None


def rewrite(arguments: list[str], lacking: set[str]) -> None:
    """Restrict what the arguments of a ``create``, ``run`` or ``exec`` of runc refer to."""
    bundle, process = option(arguments, "--bundle"), option(arguments, "--process")
    if {"create", "run"} & set(arguments) and bundle is not None:
        path = Path(bundle) / "config.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**document, "process": restricted(document["process"], lacking)}), encoding="utf-8")
    elif "exec" in arguments and process is not None:
        path = Path(process)
        path.write_text(json.dumps(restricted(json.loads(path.read_text(encoding="utf-8")), lacking)), encoding="utf-8")


if __name__ == "__main__":
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (bounding,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapBnd:")]
    if absent := missing(int(bounding, 16)):
        rewrite(sys.argv[1:], absent)
    runc = shutil.which("runc") or "/usr/sbin/runc"
    os.execv(runc, [runc, *sys.argv[1:]])
