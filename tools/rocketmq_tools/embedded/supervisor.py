"""The supervisor of one cluster: starts its children in order, keeps them running, writes the state file, stops them in order.

One per cluster, in the foreground (``up``) or detached (``up --detach``). It holds the cluster's lock for as long as it lives.
Name servers start first, because a broker that finds none waits before it asks again; brokers stop first, so that they can
unregister.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

import msgspec

from rocketmq_tools.embedded import log_files
from rocketmq_tools.embedded.children import Child, Timing
from rocketmq_tools.embedded.directories import ClusterDirectory, write_whole
from rocketmq_tools.embedded.identities import identify
from rocketmq_tools.embedded.plan import ClusterPlan
from rocketmq_tools.embedded.state import ClusterState, Failure, Identity, Phase
from rocketmq_tools.errors import ExitCode

# Brokers do not wait longer for name servers: they retry, only later.
NAME_SERVERS_FIRST_S = 5.0
LOG_TAIL_LINES = 15


class Supervisor:
    """Runs one `ClusterPlan`."""

    def __init__(
        self,
        plan: ClusterPlan,
        directory: ClusterDirectory,
        *,
        timing: Timing | None = None,
        on_phase: Callable[[ClusterState], None] | None = None,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._on_phase = on_phase
        self._started = time.monotonic()
        self._started_at_ms = int(time.time() * 1000)
        self._phase = Phase.STARTING
        self._ready_after_ms: int | None = None
        self._failure: Failure | None = None
        self._stop = asyncio.Event()
        self._stops_asked = 0
        identity = identify_self()
        self._identity = identity
        self._children = [
            Child(
                each,
                directory,
                on_change=self._write_state,
                on_early_exit=self._early_exit,
                timing=timing or Timing(),
            )
            for each in plan.processes
        ]

    async def run(self) -> int:
        """Run until asked to stop or until a child fails to start; the exit code of the supervisor's process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask_to_stop)
        tasks: list[asyncio.Task[None]] = []
        try:
            for child in self._children:
                child.prepare()
            self._write_state()
            await self._start(tasks)
            await self._stop.wait()
        except OSError as error:
            self._fail("supervisor", f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        finally:
            await self._end(tasks)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return ExitCode.OK if self._failure is None else ExitCode.FAILED

    def ask_to_stop(self) -> None:
        """Stop in order; asked a second time, kill."""
        self._stops_asked += 1
        self._stop.set()
        if self._stops_asked > 1:
            for child in self._children:
                child.kill()

    @property
    def state(self) -> ClusterState:
        """How the cluster is doing."""
        return ClusterState(
            cluster=self._plan.cluster,
            namespace=self._plan.namespace,
            phase=self._phase,
            directory=str(self._directory.root),
            digest=self._plan.digest,
            supervisor=self._identity,
            name_servers=self._plan.name_server_addresses(),
            processes=[child.state for child in self._children],
            started_at_ms=self._started_at_ms,
            ready_after_ms=self._ready_after_ms,
            failure=self._failure,
        )

    async def _start(self, tasks: list[asyncio.Task[None]]) -> None:
        servers = [c for c in self._children if c.plan.role == "namesrv"]
        others = [c for c in self._children if c.plan.role != "namesrv"]
        self._spawn(servers, tasks)
        await self._until_ready(servers, min(NAME_SERVERS_FIRST_S, self._plan.start_timeout_s))
        if self._stop.is_set():
            return
        self._spawn(others, tasks)
        left_s = self._plan.start_timeout_s - (time.monotonic() - self._started)
        if await self._until_ready(self._children, left_s):
            self._ready_after_ms = int((time.monotonic() - self._started) * 1000)
            self._enter(Phase.RUNNING)
        elif not self._stop.is_set():
            late = next(c for c in self._children if not c.was_ready.is_set())
            self._fail(late.plan.name, f"{late.plan.name} was not ready within {self._plan.start_timeout_s:g} s")

    def _spawn(self, children: list[Child], tasks: list[asyncio.Task[None]]) -> None:
        for child in children:
            task = asyncio.create_task(child.run(), name=child.plan.name)
            task.add_done_callback(self._child_task_done)
            tasks.append(task)

    async def _until_ready(self, children: list[Child], timeout_s: float) -> bool:
        """Whether all became ready before the time was over or the cluster was asked to stop."""

        async def all_ready() -> None:
            for child in children:
                await child.was_ready.wait()

        async def stop_asked() -> None:
            await self._stop.wait()

        ready, stop = asyncio.create_task(all_ready()), asyncio.create_task(stop_asked())
        try:
            await asyncio.wait({ready, stop}, timeout=max(timeout_s, 0), return_when=asyncio.FIRST_COMPLETED)
            return ready.done() and not stop.done()
        finally:
            ready.cancel()
            stop.cancel()
            await asyncio.gather(ready, stop, return_exceptions=True)

    def _early_exit(self, child: Child, reason: str) -> None:
        if self._phase is Phase.STARTING:
            self._fail(child.plan.name, reason)

    def _child_task_done(self, task: asyncio.Task[None]) -> None:
        # A child that ends with an exception is a bug or a program that cannot be executed: never a silent loss.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(task.get_name(), f"{task.get_name()} cannot be run: {error}")

    def _fail(self, process: str, reason: str) -> None:
        if self._failure is None:
            known = any(child.plan.name == process for child in self._children)
            text = log_files.tail(self._directory.log(process), LOG_TAIL_LINES) if known else ""
            self._failure = Failure(process=process, reason=reason, log_tail=text)
            print(reason, file=sys.stderr, flush=True)
        self._stop.set()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self._enter(Phase.STOPPING)
        for role_is_namesrv in (False, True):
            await asyncio.gather(*(c.stop() for c in self._children if (c.plan.role == "namesrv") is role_is_namesrv))
        await asyncio.gather(*tasks, return_exceptions=True)
        for child in self._children:
            child.state = msgspec.structs.replace(child.state, ready=False, identity=None)
        if self._plan.ephemeral_directory:
            shutil.rmtree(self._plan.ephemeral_directory, ignore_errors=True)
        self._enter(Phase.FAILED if self._failure else Phase.STOPPED)

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._write_state()
        if self._on_phase is not None:
            self._on_phase(self.state)

    def _write_state(self) -> None:
        write_whole(self._directory.state, msgspec.json.encode(self.state))


def identify_self() -> Identity:
    """The identity of this process."""
    identity = identify(os.getpid())
    assert identity is not None, "a running process has a start time"
    return identity
