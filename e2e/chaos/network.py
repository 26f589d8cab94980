"""A network whose links can be cut while processes use them: a namespace of its own, loopback only, and rules of iptables.

Parties are told apart by the group id that their processes run under and by the ports that they listen on. A connection is marked
with who opened it and to whom; its packets of one direction, or of both, are then dropped on arrival, as on a wire that is cut:
nobody is told. The namespace belongs to the thread that opened it and to the threads and processes that this one starts.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

CLONE_NEWNET: Final = 0x40000000
PARTIES_MAX: Final = 16
GROUP_ID_FIRST: Final = 54_000


@dataclass(frozen=True, slots=True)
class Party:
    """One side of links: ``group_id`` of its processes, and the ports that others reach it at."""

    number: int
    ports: tuple[int, ...]

    @property
    def group_id(self) -> int:
        return GROUP_ID_FIRST + self.number


def problem() -> str:
    """Why this machine cannot do it; empty when it can."""
    if os.geteuid() != 0:
        return "namespaces and iptables need root"
    if missing := [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]:
        return f"{' and '.join(missing)} not installed (Debian: iproute2, iptables)"
    return ""


class Network:
    """See the module. Made in the thread whose it is; what starts later from this thread is inside."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"unshare: {os.strerror(number)}")
        _run("ip", "link", "set", "lo", "up")

    def join(self, parties: Sequence[Party]) -> None:
        """Mark the connections between ``parties`` from now on."""
        assert len(parties) <= PARTIES_MAX
        for opener in parties:
            for other in parties:
                for port in other.ports if other != opener else ():
                    _run(
                        "iptables", "-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "--dport", str(port),
                        "-m", "owner", "--gid-owner", str(opener.group_id), "-m", "conntrack", "--ctstate", "NEW",
                        "-j", "CONNMARK", "--set-mark", _mark(opener, other),
                    )  # fmt: skip

    def cut(self, sources: Iterable[Party], targets: Iterable[Party]) -> None:
        """What ``sources`` send to ``targets`` is lost until `heal`; the other direction is not touched."""
        for source in sources:
            for target in targets:
                if source != target:
                    _drop(_mark(source, target), "ORIGINAL")
                    _drop(_mark(target, source), "REPLY")

    def part(self, some: Sequence[Party], others: Sequence[Party]) -> None:
        """Cut both directions."""
        self.cut(some, others)
        self.cut(others, some)

    def heal(self) -> None:
        """Every packet arrives again."""
        _run("iptables", "-F", "INPUT")


def _mark(opener: Party, other: Party) -> str:
    return str(1 + opener.number * PARTIES_MAX + other.number)


def _drop(mark: str, direction: str) -> None:
    _run(
        "iptables", "-A", "INPUT", "-m", "connmark", "--mark", mark, "-m", "conntrack", "--ctdir", direction, "-j", "DROP"
    )  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
