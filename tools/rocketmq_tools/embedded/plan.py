"""What the supervisor runs: plain values, written to ``plan.json`` by ``up`` and read by the supervisor."""

from __future__ import annotations

import msgspec


class Probe(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An HTTP probe of a container."""

    path: str
    port: int
    period_s: float
    timeout_s: float
    failure_threshold: int


class ProcessPlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One Pod as one process. Paths are absolute, ports are local ones, the environment is what is added to the inherited one."""

    name: str
    role: str  # "namesrv" or "broker"
    program: tuple[str, ...]  # what is executed for the manifest's command
    environment: dict[str, str]
    directories: tuple[str, ...]  # created before the first start
    files: dict[str, str]  # path → content, written before the first start
    secret_files: tuple[str, ...] = ()  # made with random content before the first start, kept from then on
    host: str
    ports: dict[str, int]  # name of the container port → local port
    data_directory: str  # what the Pod's claim, or its emptyDir, is here
    store_directory: str = ""  # storePathRootDir of a broker
    startup: Probe | None = None
    liveness: Probe | None = None
    readiness: Probe | None = None
    stop_grace_s: float = 30.0
    broker_name: str = ""
    broker_id: int = 0
    broker_role: str = ""  # SYNC_MASTER, ASYNC_MASTER or SLAVE; empty for name servers

    def address(self, port: str) -> str:
        """``host:port`` of a named port."""
        return f"{self.host}:{self.ports[port]}"


class ClusterPlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A whole cluster. ``digest`` identifies the document and the options that it was made from."""

    cluster: str
    namespace: str
    digest: str
    source: str  # where the document came from, for messages
    processes: tuple[ProcessPlan, ...]
    ephemeral_directory: str = ""  # removed when the cluster stops; empty when data is kept
    start_timeout_s: float = 60.0

    def name_server_addresses(self) -> list[str]:
        """``host:port`` of each name server."""
        return [p.address("remoting") for p in self.processes if p.role == "namesrv"]
