"""One process of a cluster: started, probed, restarted with growing pauses, stopped.

`Child.run` is its whole life and the only task that touches it; `Child.state` is what it looks like from outside. A child that ends
before it was ever ready is reported through ``on_early_exit``: the supervisor decides whether the cluster starts at all without it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from rocketmq_tools.embedded import launch, log_files
from rocketmq_tools.embedded.directories import ClusterDirectory, make_secret, write_whole
from rocketmq_tools.embedded.identities import identify
from rocketmq_tools.embedded.plan import ProcessPlan
from rocketmq_tools.embedded.probing import succeeds
from rocketmq_tools.embedded.state import ProcessState, initial_process


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a child is polled and restarted. Probes keep the manifest's period once they have succeeded."""

    startup_poll_s: float = 0.02
    log_check_s: float = 5.0
    backoff_initial_s: float = 0.25
    backoff_max_s: float = 30.0
    stable_after_s: float = 60.0  # ready for so long, the pause starts from its initial length again


class Child:
    """A process and what keeps it running."""

    def __init__(
        self,
        plan: ProcessPlan,
        directory: ClusterDirectory,
        *,
        on_change: Callable[[], None],
        on_early_exit: Callable[[Child, str], None],
        timing: Timing,
    ) -> None:
        self.plan = plan
        self.state: ProcessState = initial_process(plan, directory)
        self.was_ready = asyncio.Event()
        self._log = directory.log(plan.name)
        self._on_change = on_change
        self._on_early_exit = on_early_exit
        self._timing = timing
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    def prepare(self) -> None:
        """Create directories, write configuration files, make secrets that are not there yet. Raises OSError."""
        for path in self.plan.directories:
            Path(path).mkdir(parents=True, exist_ok=True)
        for path, content in self.plan.files.items():
            write_whole(Path(path), content.encode())
        for path in self.plan.secret_files:
            make_secret(Path(path))
        self._log.parent.mkdir(parents=True, exist_ok=True)

    async def run(self) -> None:
        """Keep the process running until `stop`; returns when it is gone for good."""
        pause_s = self._timing.backoff_initial_s
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if not self.was_ready.is_set():
                self._on_early_exit(self, f"{self.plan.name} {describe_exit(code)} before it was ready")
            if time.monotonic() - started > self._timing.stable_after_s:
                pause_s = self._timing.backoff_initial_s
            self._note(f"{describe_exit(code)}; starting it again in {pause_s:g} s")
            self._change(ready=False, identity=None, last_exit_code=code, restarts=self.state.restarts + 1)
            await self._stopped_within(pause_s)
            pause_s = min(pause_s * 2, self._timing.backoff_max_s)

    async def stop(self) -> None:
        """Ask the process to stop, and end it after its grace period. `run` returns then."""
        self._stopping.set()
        await self._end()

    def kill(self) -> None:
        """End the process at once."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _run_once(self) -> int:
        program = launch.tied(self.plan.program, os.getpid())
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ROCKETMQ_") and k != "NAMESRV_ADDR"}
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            process = await asyncio.create_subprocess_exec(
                *program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env={**environment, "PYTHONUNBUFFERED": "1", **self.plan.environment},
                # Ctrl-C in a terminal goes to the supervisor alone, which stops its children in order.
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._process = process
        self._change(identity=identify(process.pid), started_at_ms=int(time.time() * 1000))
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        probes = asyncio.create_task(self._probe(), name=f"probes of {self.plan.name}")
        try:
            return await process.wait()
        finally:
            probes.cancel()
            await asyncio.gather(probes, return_exceptions=True)

    async def _probe(self) -> None:
        await asyncio.gather(self._liveness(), self._readiness(), self._bound_log())

    async def _liveness(self) -> None:
        startup, liveness = self.plan.startup, self.plan.liveness
        if startup is not None:
            deadline = time.monotonic() + startup.period_s * startup.failure_threshold
            while not await succeeds(startup, self.plan.host):
                if time.monotonic() > deadline:
                    self._note(f"did not answer on {startup.path} within its start-up time; ending it")
                    await self._end()
                    return
                await asyncio.sleep(self._timing.startup_poll_s)
        failures = 0
        while liveness is not None:
            await asyncio.sleep(liveness.period_s)
            failures = 0 if await succeeds(liveness, self.plan.host) else failures + 1
            if failures >= liveness.failure_threshold:
                self._note(f"failed its liveness probe {failures} times; ending it")
                await self._end()
                return

    async def _readiness(self) -> None:
        probe = self.plan.readiness or self.plan.startup
        failures = 0
        while True:
            ok = probe is None or await succeeds(probe, self.plan.host)
            failures = 0 if ok else failures + 1
            if ok and not self.state.ready:
                self._change(ready=True)
                self.was_ready.set()
            elif self.state.ready and probe is not None and failures >= probe.failure_threshold:
                self._note(f"is not ready: {probe.path} fails")
                self._change(ready=False)
            if probe is None:
                return
            await asyncio.sleep(probe.period_s if self.state.ready else self._timing.startup_poll_s)

    async def _bound_log(self) -> None:
        while True:
            await asyncio.sleep(self._timing.log_check_s)
            log_files.cut_if_large(self._log)

    async def _end(self) -> None:
        """SIGTERM, and SIGKILL when the grace period is over."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.plan.stop_grace_s)
        except TimeoutError:
            self._note(f"did not stop within {self.plan.stop_grace_s:g} s; killing it")
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(number)
            except ProcessLookupError:
                return

    async def _stopped_within(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _change(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)
        self._on_change()

    def _note(self, text: str) -> None:
        print(f"{self.plan.name} {text}", file=sys.stderr, flush=True)


def describe_exit(code: int) -> str:
    """``exited with code 1`` or ``was ended by SIGKILL``."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
