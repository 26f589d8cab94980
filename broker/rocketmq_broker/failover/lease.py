"""The lease of a broker group: holder, epoch and in-sync set in one object that changes by compare-and-swap only.

It is the only truth on who is master. A store keeps it (a file, a Kubernetes Lease); a version names one state of it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec


class LeaseUnavailable(Exception):
    """The store did not answer: what was read before may be outdated, what was written may have been taken or not."""


class LeaseConflict(Exception):
    """The lease is no longer in the version that a write was meant for; nothing was written and nothing of it ever will be."""


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Replicas are named by their stable name. ``holder`` is ``name/uid/incarnation`` of one process, empty when released.

    ``epoch`` grows with each new master. ``offsets`` are log ends that the master knew of at its last renewal: its own, as far
    as acknowledged, and its followers'. ``suspects`` are replicas, with their log ends, that may have lost acknowledged bytes in a
    power loss. ``target`` names the replica that is to take over; ``unclean`` (``name@epoch``) is a person's permission for a
    replica outside the set to replace that epoch.
    """

    holder: str = ""
    epoch: int = 0
    renewals: int = 0
    in_sync: tuple[str, ...] = ()
    offsets: dict[str, int] = {}
    target: str = ""
    suspects: dict[str, int] = {}
    unclean: str = ""
    # Where the holder is reached: remoting and replication, ``host:port``.
    address: str = ""
    ha_address: str = ""

    @property
    def holder_name(self) -> str:
        """The holder's replica."""
        return self.holder.split("/", 1)[0]


class Observed(NamedTuple):
    """A state of the lease. ``version`` is opaque; empty when there is no lease yet."""

    record: LeaseRecord
    version: str


NO_LEASE = Observed(LeaseRecord(), "")


class LeaseStore(Protocol):
    """Reads are as fresh as the last write that was answered."""

    async def read(self) -> Observed:
        """The lease now, `NO_LEASE` when there is none. Raises LeaseUnavailable."""
        ...

    async def write(self, record: LeaseRecord, version: str, duration_ms: int) -> Observed:
        """Replace the state ``version``; made anew when that is empty. Raises LeaseConflict, LeaseUnavailable."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
