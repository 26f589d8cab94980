"""How a cluster is doing: ``state.json``, and the same as the JSON of ``up`` and ``ps``."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.plan import ProcessPlan


class Phase(StrEnum):
    """The life of a cluster."""

    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    FAILED = "Failed"


class Identity(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    start_ticks: int


class ProcessState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One process of a cluster. ``identity`` is None while it does not run."""

    name: str
    role: str
    broker_name: str | None
    broker_id: int | None
    broker_role: str | None
    address: str
    addresses: dict[str, str]
    data_directory: str
    store_directory: str | None
    log_file: str
    ready: bool = False
    restarts: int = 0
    identity: Identity | None = None
    started_at_ms: int | None = None
    last_exit_code: int | None = None

    @property
    def pid(self) -> int | None:
        """Process number while it runs."""
        return self.identity.pid if self.identity else None


class Failure(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Why a cluster did not start."""

    process: str
    reason: str
    log_tail: str = ""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A cluster as its supervisor sees it."""

    cluster: str
    namespace: str
    phase: Phase
    directory: str
    digest: str
    supervisor: Identity
    name_servers: list[str]
    processes: list[ProcessState]
    started_at_ms: int
    ready_after_ms: int | None = None
    failure: Failure | None = None


def initial_process(plan: ProcessPlan, directory: ClusterDirectory) -> ProcessState:
    """The state of a process that has not started yet."""
    is_broker = plan.role == "broker"
    return ProcessState(
        name=plan.name,
        role=plan.role,
        broker_name=plan.broker_name if is_broker else None,
        broker_id=plan.broker_id if is_broker else None,
        broker_role=plan.broker_role if is_broker else None,
        address=plan.address("remoting"),
        addresses={name: plan.address(name) for name in plan.ports},
        data_directory=plan.data_directory,
        store_directory=plan.store_directory or None,
        log_file=str(directory.log(plan.name)),
    )


def read_state(directory: ClusterDirectory) -> ClusterState | None:
    """What the supervisor wrote last, or None when there never was one."""
    try:
        return msgspec.json.decode(directory.state.read_bytes(), type=ClusterState)
    except FileNotFoundError:
        return None


def public_view(state: ClusterState) -> dict[str, Any]:
    """The JSON that ``up`` and ``ps`` print; its keys are stable."""
    processes = []
    for process in state.processes:
        fields = msgspec.to_builtins(process)
        del fields["identity"], fields["startedAtMs"], fields["lastExitCode"]
        processes.append({**fields, "pid": process.pid})
    return {
        "cluster": state.cluster,
        "namespace": state.namespace,
        "phase": state.phase.value,
        "nameServers": state.name_servers,
        "directory": state.directory,
        "supervisorPid": state.supervisor.pid if state.phase not in (Phase.STOPPED, Phase.FAILED) else None,
        "readyAfterMs": state.ready_after_ms,
        "processes": processes,
    }
