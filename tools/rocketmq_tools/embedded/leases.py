"""The leases of an embedded cluster: who is master now, and asking for another one.

The plan says what a process was started as; where groups elect, only the lease says what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from rocketmq_broker.failover.lease import LeaseConflict, LeaseRecord, LeaseUnavailable
from rocketmq_broker.failover.lease_file import FileLeaseStore
from rocketmq_common.files import RealFiles
from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.interpret import LEASES_DIRECTORY
from rocketmq_tools.embedded.state import ClusterState, ProcessState
from rocketmq_tools.errors import CommandError, ExitCode

# Of one request against a lease that its master renews each second.
ATTEMPTS_MAX = 20
# What the store is told of a duration that only the master's renewals decide on.
_DURATION_MS = 0


def lease_store(directory: ClusterDirectory, group: str) -> FileLeaseStore | None:
    """The lease of a broker group; ``None`` where the group does not elect, or has not begun to."""
    for root in (directory.ephemeral, directory.root):
        if (root / LEASES_DIRECTORY / f"{group}.json").exists():
            return FileLeaseStore(root / LEASES_DIRECTORY, group, RealFiles())
    return None


def read_lease(directory: ClusterDirectory, group: str) -> LeaseRecord | None:
    """What the lease of a group says; ``None`` without one. Raises CommandError when it cannot be read."""
    store = lease_store(directory, group)
    try:
        return None if store is None else store.read_now().record
    except LeaseUnavailable as error:
        raise CommandError(f"the lease of {group} cannot be read: {error}") from error


def ask_for(directory: ClusterDirectory, group: str, replica: str) -> LeaseRecord:
    """Have ``replica`` become master of ``group``; returns what the lease said before. Raises CommandError."""
    store = lease_store(directory, group)
    if store is None:
        raise CommandError(
            f"group {group} has no elections",
            remedy="give it replicasPerGroup of 2 or more and a failover.mode other than Disabled",
        )
    for _ in range(ATTEMPTS_MAX):
        try:
            observed = store.read_now()
            record = observed.record
            if record.holder_name == replica:
                raise CommandError(f"{replica} is the master of {group} already", exit_code=ExitCode.USAGE)
            if replica not in record.in_sync:
                raise CommandError(
                    f"{replica} is not in sync with the master of {group}",
                    why=f"in sync are {', '.join(record.in_sync)}",
                )
            store.write_now(msgspec.structs.replace(record, target=replica), observed.version, _DURATION_MS)
        except LeaseConflict:
            continue
        except LeaseUnavailable as error:
            raise CommandError(f"the lease of {group} cannot be written: {error}") from error
        return record
    raise CommandError(f"the lease of {group} changes too fast", remedy="try again")


def with_roles(state: ClusterState, directory: ClusterDirectory) -> ClusterState:
    """The state with the roles that leases say, where groups elect."""
    groups = {p.broker_name for p in state.processes if p.broker_name}
    records = {group: record for group in groups if (record := read_lease(directory, group)) is not None}
    return msgspec.structs.replace(state, processes=list(_roles(state.processes, records)))


def _roles(processes: list[ProcessState], records: dict[str, LeaseRecord]) -> Iterator[ProcessState]:
    for process in processes:
        record = records.get(process.broker_name or "")
        if record is None:
            yield process
            continue
        mates = [p for p in processes if p.broker_name == process.broker_name]
        if record.holder_name == process.name:
            role = next((p.broker_role for p in mates if p.broker_role != "SLAVE"), process.broker_role)
            yield msgspec.structs.replace(process, broker_id=0, broker_role=role)
        else:
            # As slaves register: replica 0 after all others, for id 0 is the master's.
            yield msgspec.structs.replace(process, broker_id=process.broker_id or len(mates), broker_role="SLAVE")


def master_of(state: ClusterState, group: str) -> ProcessState | None:
    """The process that is master of a group, of a state from `with_roles`."""
    return next((p for p in state.processes if p.broker_name == group and p.broker_role not in (None, "SLAVE")), None)
