"""The supervisor in this process: probes, back-off, deaf processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from rocketmq_tools.embedded import starting
from rocketmq_tools.embedded.children import Timing, describe_exit
from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.plan import ClusterPlan
from rocketmq_tools.embedded.ports import HeldPorts
from rocketmq_tools.embedded.state import Phase, ProcessState
from rocketmq_tools.embedded.supervisor import Supervisor
from rocketmq_tools.embedded.tests.clusters_for_tests import WAIT_S, cluster, fake_program

pytestmark = pytest.mark.local

FAST = Timing(backoff_initial_s=0.01, backoff_max_s=0.05, log_check_s=0.01)


def plan_for(directory: ClusterDirectory, held: HeldPorts, **config: str) -> ClusterPlan:
    plan = starting.make_plan(
        cluster(config=config), directory, starting.Options(port_base=0), source="-", program_of=fake_program, held=held
    )
    # Probes as rendered take seconds to notice anything.
    fast = []
    for process in plan.processes:
        assert process.liveness is not None
        assert process.readiness is not None
        fast.append(
            msgspec.structs.replace(
                process,
                liveness=msgspec.structs.replace(process.liveness, period_s=0.05, failure_threshold=2),
                readiness=msgspec.structs.replace(process.readiness, period_s=0.02, failure_threshold=1),
                stop_grace_s=0.3,
            )
        )
    return msgspec.structs.replace(plan, processes=tuple(fast))


@asynccontextmanager
async def running(tmp_path: Path, **config: str) -> AsyncIterator[Supervisor]:
    directory = ClusterDirectory(tmp_path / "cluster")
    directory.logs.mkdir(parents=True)
    with HeldPorts() as held:
        supervisor = Supervisor(plan_for(directory, held, **config), directory, timing=FAST)
        task = asyncio.create_task(supervisor.run())
        try:
            await until(lambda: supervisor.state.phase is Phase.RUNNING)
            yield supervisor
        finally:
            supervisor.ask_to_stop()
            await asyncio.wait_for(task, WAIT_S)
    assert supervisor.state.phase is Phase.STOPPED


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def broker(supervisor: Supervisor) -> ProcessState:
    return supervisor.state.processes[1]


async def test_a_process_that_fails_its_liveness_probe_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as supervisor:
        before = broker(supervisor)
        hang = Path(before.data_directory) / "hang"
        hang.touch()
        await until(lambda: broker(supervisor).restarts >= 1)
        hang.unlink()
        await until(lambda: broker(supervisor).ready)
        assert broker(supervisor).pid != before.pid


async def test_readiness_comes_and_goes_without_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as supervisor:
        hang = Path(broker(supervisor).data_directory) / "hang"
        hang.touch()
        await until(lambda: not broker(supervisor).ready)
        hang.unlink()
        await until(lambda: broker(supervisor).ready)


async def test_a_deaf_process_is_killed_after_its_grace_period(tmp_path: Path) -> None:
    async with running(tmp_path, fakeDeaf="1") as supervisor:
        assert broker(supervisor).pid
    assert broker(supervisor).pid is None


async def test_restarts_pause_longer_each_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with running(tmp_path) as supervisor:
        for count in range(1, 4):
            (Path(broker(supervisor).data_directory) / "crash").touch()
            await until(lambda wanted=count: broker(supervisor).restarts == wanted and broker(supervisor).ready)  # type: ignore[misc]
    noted = capfd.readouterr().err
    assert [f"again in {pause} s" in noted for pause in ("0.01", "0.02", "0.04")] == [True, True, True]


async def test_asking_twice_kills_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, fakeDeaf="1") as supervisor:
        supervisor.ask_to_stop()
        supervisor.ask_to_stop()
        await until(lambda: supervisor.state.phase is Phase.STOPPED)


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exited with code 0"), (-9, "was ended by SIGKILL"), (-63, "was ended by signal 63")]
)
def test_an_exit_is_told_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text
