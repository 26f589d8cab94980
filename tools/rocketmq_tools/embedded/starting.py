"""Starting a cluster on this machine: the plan from a document, the lock, the supervisor, the wait for readiness."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

import msgspec

from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.render import render
from rocketmq_tools.embedded import launch, ports
from rocketmq_tools.embedded.clusters import end_stale
from rocketmq_tools.embedded.defaults import with_light_defaults
from rocketmq_tools.embedded.directories import ClusterDirectory, ClusterLock, write_whole
from rocketmq_tools.embedded.interpret import interpret, port_requests
from rocketmq_tools.embedded.plan import ClusterPlan
from rocketmq_tools.embedded.state import ClusterState, Phase, read_state
from rocketmq_tools.errors import CommandError, ExitCode

POLL_S = 0.01
START_SLACK_S = 10.0  # for the supervisor to stop what it started after a failed start


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a cluster is started; part of its digest where it changes what runs."""

    host: str = "127.0.0.1"
    port_base: int | None = None
    ephemeral: bool = False
    start_timeout_s: float = 60.0


def digest_of(cluster: RocketMQCluster, options: Options) -> str:
    """Changes when the document or an option that matters does."""
    content = msgspec.json.encode([cluster, options.host, options.port_base, options.ephemeral], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]


def make_plan(
    cluster: RocketMQCluster,
    directory: ClusterDirectory,
    options: Options,
    *,
    source: str,
    free: ports.IsFree = ports.is_free,
    program_of: launch.ProgramOf | None = None,
    held: ports.HeldPorts | None = None,
) -> ClusterPlan:
    """The processes of a cluster, on ports that are free now. Raises CommandError.

    With ``port_base`` 0, ``held`` keeps the ports from others; let go of it when the cluster has started.
    """
    manifests = render(with_light_defaults(cluster))
    assigned = ports.assign(port_requests(manifests), host=options.host, base=options.port_base, free=free, held=held)
    volumes = directory.ephemeral if options.ephemeral else directory.root
    processes = interpret(
        manifests,
        ports=assigned,
        host=options.host,
        volumes=volumes,
        program_of=program_of or launch.program_of,
    )
    return ClusterPlan(
        cluster=cluster.name,
        namespace=cluster.namespace,
        digest=digest_of(cluster, options),
        source=source,
        processes=processes,
        ephemeral_directory=str(volumes) if options.ephemeral else "",
        start_timeout_s=options.start_timeout_s,
    )


class AlreadyRunning(CommandError):
    """The cluster runs; ``same`` says whether with the same document and options."""

    def __init__(self, state: ClusterState | None, directory: ClusterDirectory, *, same: bool, source: str) -> None:
        name = state.cluster if state else directory.root.name
        where = f" (supervisor pid {state.supervisor.pid})" if state else ""
        if same:
            super().__init__(f"{name} is already running{where}", remedy="see `rocketmq ps` and `rocketmq logs -f`")
        else:
            super().__init__(
                f"{name} is already running{where}, with another document or other options",
                remedy=f"apply the change with `rocketmq down` and `rocketmq up -f {source}`; `down` keeps the data",
            )
        self.same = same


def claim(directory: ClusterDirectory, digest: str, source: str) -> ClusterLock:
    """Take the lock of a cluster and end what a killed supervisor left behind. Raises AlreadyRunning."""
    try:
        directory.logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"{error.filename}: {error.strerror}", remedy="choose another directory with --data DIR or ROCKETMQ_HOME"
        ) from error
    lock = ClusterLock.acquire(directory.lock)
    if lock is None:
        raise AlreadyRunning(read_state(directory), directory, same=_running_digest(directory) == digest, source=source)
    end_stale(directory)
    shutil.rmtree(directory.ephemeral, ignore_errors=True)
    return lock


def _running_digest(directory: ClusterDirectory) -> str | None:
    # The plan is written before the first state.
    try:
        return msgspec.json.decode(directory.plan.read_bytes(), type=ClusterPlan).digest
    except FileNotFoundError:
        return None


def start_detached(plan: ClusterPlan, directory: ClusterDirectory, lock: ClusterLock) -> ClusterState:
    """Start a supervisor of its own session and wait until every process is ready. Raises CommandError with the reason."""
    prepare(plan, directory)
    pid = _spawn_supervisor(directory, lock)
    lock.release()
    try:
        return wait_started(directory, plan.start_timeout_s + START_SLACK_S, lambda: _has_ended(pid))
    except KeyboardInterrupt:
        # Nobody saw it start: leave nothing behind.
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


def _spawn_supervisor(directory: ClusterDirectory, lock: ClusterLock) -> int:
    # Not subprocess: the supervisor outlives this process on purpose, which a Popen object would complain about.
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.set_inheritable(lock.descriptor, True)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "rocketmq_tools.embedded", str(directory.root), str(lock.descriptor)],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(directory.supervisor_log), log_flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def wait_started(directory: ClusterDirectory, timeout_s: float, is_dead: Callable[[], bool]) -> ClusterState:
    """Wait until the cluster runs. Raises CommandError when it failed, when its supervisor is dead, or when time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        dead = is_dead()  # asked before the state is read, so that a last word is not missed
        state = read_state(directory)
        if state is not None and state.phase is Phase.RUNNING:
            return state
        if dead:
            raise start_failure(state, directory)
        if time.monotonic() > deadline:
            raise CommandError(
                f"{directory.root.name} was not ready within {timeout_s:g} s",
                remedy="see `rocketmq ps` and `rocketmq logs`",
                exit_code=ExitCode.TIMEOUT,
            )
        time.sleep(POLL_S)


def start_failure(state: ClusterState | None, directory: ClusterDirectory) -> CommandError:
    """What a user is told about a cluster that did not start."""
    failure = state.failure if state is not None else None
    if failure is None:
        return CommandError("the supervisor ended before the cluster was ready", why=f"see {directory.supervisor_log}")
    log_file = directory.log(failure.process)
    details = f"--- the end of {log_file}\n{failure.log_tail}" if failure.log_tail else ""
    timed_out = "was not ready within" in failure.reason
    return CommandError(
        failure.reason,
        why="the rest of the cluster was stopped; data is kept",
        remedy=f"read {log_file}",
        details=details,
        exit_code=ExitCode.TIMEOUT if timed_out else ExitCode.FAILED,
    )


def run_foreground(
    plan: ClusterPlan, directory: ClusterDirectory, lock: ClusterLock, on_phase: Callable[[ClusterState], None]
) -> None:
    """Run the supervisor in this process until it is interrupted. Raises CommandError when the cluster does not start."""
    from rocketmq_tools.embedded.supervisor import Supervisor

    prepare(plan, directory)

    async def supervise() -> int:
        return await Supervisor(plan, directory, on_phase=on_phase).run()

    try:
        code = asyncio.run(supervise())
    finally:
        lock.release()
    if code != ExitCode.OK:
        raise start_failure(read_state(directory), directory)


def prepare(plan: ClusterPlan, directory: ClusterDirectory) -> None:
    """Write the plan, and remove the state of an earlier run so that nobody mistakes it for this one's."""
    directory.state.unlink(missing_ok=True)
    write_whole(directory.plan, msgspec.json.encode(plan))
