"""Clusters of fake processes are started, watched, restarted and stopped, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rocketmq_operator.model import RocketMQCluster
from rocketmq_tools.embedded import clusters, identities, starting
from rocketmq_tools.embedded.directories import ClusterDirectory, ClusterLock, is_locked
from rocketmq_tools.embedded.ports import HeldPorts
from rocketmq_tools.embedded.state import ClusterState, Phase, ProcessState, public_view, read_state
from rocketmq_tools.embedded.tests.clusters_for_tests import cluster, fake_program, wait_until
from rocketmq_tools.errors import CommandError, ExitCode

pytestmark = pytest.mark.local


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[ClusterDirectory]:
    # Longer than the 107 bytes of a socket path: nothing may depend on a short one.
    long = ClusterDirectory(tmp_path / ("d" * 100) / "cluster")
    yield long
    clusters.stop(long, purge=True)


def options(**changes: object) -> starting.Options:
    return msgspec.structs.replace(starting.Options(port_base=0, start_timeout_s=20), **changes)


def up(of: RocketMQCluster, directory: ClusterDirectory, given: starting.Options | None = None) -> ClusterState:
    given = given or options()
    lock = starting.claim(directory, starting.digest_of(of, given), "cluster.yaml")
    with HeldPorts() as held:
        try:
            plan = starting.make_plan(of, directory, given, source="cluster.yaml", program_of=fake_program, held=held)
        except BaseException:
            lock.release()
            raise
        return starting.start_detached(plan, directory, lock)


def alive(state: ClusterState) -> list[ProcessState]:
    return [p for p in state.processes if p.identity is not None and identities.is_alive(p.identity)]


def process(directory: ClusterDirectory, name: str) -> ProcessState:
    state = read_state(directory)
    assert state is not None
    return next(p for p in state.processes if p.name == name)


def test_up_returns_when_every_process_is_ready_and_says_where_they_are(directory: ClusterDirectory) -> None:
    state = up(cluster(servers=2, groups=2), directory)
    assert state.phase is Phase.RUNNING
    assert len(alive(state)) == 4
    view = public_view(state)
    assert view["cluster"] == "demo"
    assert view["nameServers"] == [p["address"] for p in view["processes"] if p["role"] == "namesrv"]
    broker = view["processes"][2]
    assert set(broker["addresses"]) == {"remoting", "vip", "ha", "http"}
    assert (broker["brokerName"], broker["brokerId"], broker["brokerRole"]) == ("demo-b0", 0, "SYNC_MASTER")
    assert (broker["ready"], broker["restarts"]) == (True, 0)
    assert os.path.isdir(broker["dataDirectory"])


def test_down_stops_brokers_before_name_servers_and_keeps_data(directory: ClusterDirectory) -> None:
    of = cluster(servers=2, config={"fakeJournal": "1"}, both=True)
    state = up(of, directory)
    (Path(state.processes[2].data_directory) / "kept").touch()
    assert clusters.stop(directory, purge=False)
    assert alive(state) == []
    events = (directory.root / "journal").read_text().split("\n")
    assert events.index("broker stopped") < events.index("namesrv stopped")
    assert events.index("namesrv started") < events.index("broker started")
    assert read_state(directory).phase is Phase.STOPPED  # type: ignore[union-attr]
    again = up(of, directory)
    assert (Path(again.processes[2].data_directory) / "kept").exists()


def test_purge_removes_everything(directory: ClusterDirectory) -> None:
    up(cluster(), directory)
    clusters.stop(directory, purge=True)
    assert not directory.root.exists()


def test_ephemeral_keeps_no_data_and_leaves_earlier_data_alone(directory: ClusterDirectory) -> None:
    kept = Path(up(cluster(), directory).processes[1].data_directory)
    clusters.stop(directory, purge=False)
    state = up(cluster(), directory, options(ephemeral=True))
    assert Path(state.processes[1].data_directory).is_dir()
    assert Path(state.processes[1].data_directory) != kept
    clusters.stop(directory, purge=False)
    assert not directory.ephemeral.exists()
    assert kept.is_dir()


def test_a_second_up_says_that_it_runs(directory: ClusterDirectory) -> None:
    up(cluster(), directory)
    with pytest.raises(starting.AlreadyRunning, match="demo is already running") as caught:
        up(cluster(), directory)
    assert caught.value.same


def test_a_changed_document_says_how_to_apply_it(directory: ClusterDirectory) -> None:
    state = up(cluster(), directory)
    with pytest.raises(starting.AlreadyRunning, match="with another document") as caught:
        up(cluster(groups=2), directory)
    assert not caught.value.same
    assert "rocketmq up -f cluster.yaml" in caught.value.remedy
    assert len(alive(state)) == 2


def test_a_process_that_cannot_start_fails_the_cluster_with_its_last_words(directory: ClusterDirectory) -> None:
    with pytest.raises(CommandError) as caught:
        up(cluster(config={"fakeExit": "3"}), directory)
    assert caught.value.what == "demo-b0-0 exited with code 3 before it was ready"
    assert "cannot go on" in caught.value.details
    assert caught.value.exit_code == ExitCode.FAILED
    state = read_state(directory)
    assert state is not None
    assert alive(state) == []
    wait_until(lambda: not is_locked(directory.lock), "the supervisor is gone")


def test_a_process_that_never_gets_ready_fails_the_cluster_in_time(directory: ClusterDirectory) -> None:
    with pytest.raises(CommandError, match="demo-b0-0 was not ready within 1 s") as caught:
        up(cluster(config={"fakeNeverReady": "1"}), directory, options(start_timeout_s=1))
    assert caught.value.exit_code == ExitCode.TIMEOUT


def test_a_crashed_process_is_started_again(directory: ClusterDirectory) -> None:
    before = up(cluster(), directory).processes[1]
    (Path(before.data_directory) / "crash").touch()
    wait_until(lambda: process(directory, "demo-b0-0").restarts == 1, "the crash is noticed")
    wait_until(lambda: process(directory, "demo-b0-0").ready, "the broker is back")
    after = process(directory, "demo-b0-0")
    assert after.pid != before.pid
    assert after.last_exit_code == 9
    assert after.address == before.address


def test_killing_the_supervisor_ends_its_processes(directory: ClusterDirectory) -> None:
    state = up(cluster(), directory)
    os.kill(state.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: alive(state) == [], "the processes end with their supervisor")
    seen = clusters.observed(directory)
    assert seen is not None
    assert (seen.phase, [p.pid for p in seen.processes]) == (Phase.STOPPED, [None, None])


def test_what_a_killed_supervisor_left_is_ended_by_the_next_up(directory: ClusterDirectory) -> None:
    of = cluster(config={"fakeDeaf": "1"})
    state = up(of, directory)
    deaf = state.processes[1].identity
    assert deaf is not None
    os.kill(state.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not is_locked(directory.lock), "the supervisor is gone")
    assert identities.is_alive(deaf)
    identities.send(deaf, signal.SIGKILL)  # a person's impatience; the next up must cope with either
    again = up(cluster(), directory)
    assert len(alive(again)) == 2
    assert not identities.is_alive(deaf)


def test_a_recycled_process_number_is_never_signalled(directory: ClusterDirectory) -> None:
    state = up(cluster(), directory)
    clusters.stop(directory, purge=False)
    me = identities.identify(os.getpid())
    assert me is not None
    forged = msgspec.structs.replace(
        state,
        processes=[
            msgspec.structs.replace(p, identity=msgspec.structs.replace(me, start_ticks=me.start_ticks - 1))
            for p in state.processes
        ],
    )
    directory.state.write_bytes(msgspec.json.encode(forged))
    assert clusters.end_stale(directory) == 0


def test_stray_variables_of_the_caller_do_not_configure_processes(
    directory: ClusterDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROCKETMQ_LISTEN_PORT", "1")
    monkeypatch.setenv("NAMESRV_ADDR", "127.0.0.1:1")
    state = up(cluster(), directory)
    seen = dict(
        line.split("=", 1)
        for line in (Path(state.processes[1].data_directory) / "environment").read_text().splitlines()
    )
    assert "ROCKETMQ_LISTEN_PORT" not in seen
    assert "NAMESRV_ADDR" not in seen
    assert seen["ROCKETMQ_BROKER_ID"] == "0"


def test_a_directory_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="Not a directory"):
        up(cluster(), ClusterDirectory(tmp_path / "file" / "cluster"))


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    assert clusters.stop(ClusterDirectory(tmp_path / "none"), purge=True) is False


def test_the_lock_is_exclusive_and_ends_with_its_holder(tmp_path: Path) -> None:
    first = ClusterLock.acquire(tmp_path / "lock")
    assert first is not None
    assert ClusterLock.acquire(tmp_path / "lock") is None
    assert is_locked(tmp_path / "lock")
    first.release()
    assert not is_locked(tmp_path / "lock")


def test_light_defaults_apply_only_where_the_document_is_silent(directory: ClusterDirectory) -> None:
    of = cluster(config={"mappedFileSizeCommitLog": "1048576"})
    plan = starting.make_plan(of, directory, options(), source="-", program_of=fake_program)
    (text,) = plan.processes[1].files.values()
    assert "mappedFileSizeCommitLog=1048576\n" in text
    assert "mappedFileSizeConsumeQueue=300000\n" in text
