"""Brokers that elect their master: what clients and tools see of it. Kills are tested with real processes (e2e/local)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from rocketmq_broker.failover import forwarding
from rocketmq_broker.failover.lease_file import FileLeaseStore
from rocketmq_broker.failover.tests.lives import Replica, group, until
from rocketmq_broker.ha.epoch_handshake import Greeting, encode
from rocketmq_broker.tests.harness import Peer, messages_of
from rocketmq_common.files import RealFiles
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingConnectError

pytestmark = pytest.mark.timeout(180)


def leases(root: Path) -> FileLeaseStore:
    return FileLeaseStore(root / "leases", "broker-a", RealFiles())


def ask_for(root: Path, target: str) -> None:
    observed = leases(root).read_now()
    leases(root).write_now(msgspec.structs.replace(observed.record, target=target), observed.version, 0)


async def code_of(replica: Replica) -> int | None:
    """What a send is answered; ``None`` while the broker is between two lives."""
    if replica.broker is None:
        return None
    async with replica.peer() as peer:
        return (await peer.send()).code


async def sends_until(replica: Replica, code: int) -> None:
    async with asyncio.timeout(60):
        while await code_of(replica) != code:
            await asyncio.sleep(0.1)


async def send_as_java(peer: Peer) -> None:
    """A send with the tries of a Java client, which go to the same address one right after the other."""
    problem = ""
    for _ in range(3):
        try:
            answer = await peer.send()
        except RemotingConnectError as error:
            problem = str(error)
            continue
        if answer.code == ResponseCode.SUCCESS:
            return
        problem = f"{answer.code}: {answer.remark}"
    raise AssertionError(problem)


async def test_a_slave_of_the_group_has_what_the_master_acknowledged(tmp_path: Path) -> None:
    async with group(tmp_path, 2) as (first, second):
        await sends_until(first, ResponseCode.SUCCESS)
        assert first.broker is not None
        assert second.broker is not None
        # Acknowledged means: on every member.
        assert second.broker.store.positions.written == first.broker.store.positions.written
        assert first.broker.settings.broker_id == 0
        assert second.broker.settings.broker_id == 1
        assert first.broker.topics.data_version.state_version == 1
        text = b"".join(family.encode() for family in first.broker.observation.metrics.collect() if family is not None)
        assert b"rocketmq_failover_epoch" in text
        assert b"rocketmq_failover_may_write" in text


async def test_roles_change_while_brokers_run_and_messages_stay(tmp_path: Path) -> None:
    async with group(tmp_path, 2) as (first, second):
        await sends_until(first, ResponseCode.SUCCESS)
        ask_for(tmp_path, "r1")
        await until(lambda: second.leads, "the target leads")
        await until(lambda: first.lives == 2 and len(second.in_sync) == 2, "the old master follows")
        assert first.cuts == []
        await sends_until(second, ResponseCode.SUCCESS)
        async with second.peer() as peer:
            assert len(messages_of(await peer.pull())) == 2
        assert second.broker is not None
        # Name servers take the newer epoch over the older one, whoever speaks last.
        assert second.broker.topics.data_version.state_version == 2
        assert first.broker is not None
        # Replica 0 is a slave under the id behind all others, for id 0 is the master's.
        assert first.broker.settings.broker_id == 2


async def test_a_switchover_fails_no_send_of_a_client_that_knows_the_old_master_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine that is held up for longer than a client's patience the promise is the same.
    monkeypatch.setattr(forwarding, "MASTER_WAIT_MS", 20_000)
    async with group(tmp_path, 2) as (first, second):
        await sends_until(first, ResponseCode.SUCCESS)
        async with first.peer() as peer:
            sent = 0
            ask_for(tmp_path, "r1")
            while not (second.leads and first.lives == 2 and first.broker is not None):
                await send_as_java(peer)
                sent += 1
            for _ in range(10):
                await send_as_java(peer)
        assert first.broker is not None
        assert first.broker.succession is not None
        assert first.broker.succession.forwarding.passed_on_count >= 10
        assert second.broker is not None
        bounds = second.broker.store.queue_bounds("T", 0)
        assert bounds is not None
        assert bounds.max_offset >= sent + 10


async def test_a_master_without_its_lease_goes_on_while_it_is_followed_and_stops_when_it_is_not(tmp_path: Path) -> None:
    async with group(tmp_path, 2) as (first, second):
        path = tmp_path / "leases" / "broker-a.json"
        content = path.read_bytes()
        path.write_bytes(b"not reachable")
        assert first.broker is not None
        succession = first.broker.succession
        assert succession is not None
        await until(lambda: bool((status := succession.status()) and status.problem), "the lease cannot be reached")
        # Longer than the renew deadline without any renewal: only the follower's answers carry the right now.
        await asyncio.sleep(2.6)
        await sends_until(first, ResponseCode.SUCCESS)
        await second.stop()
        await sends_until(first, ResponseCode.SERVICE_NOT_AVAILABLE)
        path.write_bytes(content)
        await sends_until(first, ResponseCode.SUCCESS)


async def test_too_few_members_refuse_sends_at_once_and_take_them_again_when_one_is_back(tmp_path: Path) -> None:
    async with group(tmp_path, 2, minInSyncReplicas=2) as (first, second):
        await sends_until(first, ResponseCode.SUCCESS)
        await second.stop()
        await sends_until(first, ResponseCode.SYSTEM_ERROR)
        # Going below the minimum by leaving would help nobody: whoever of the two is there first can lead.
        assert leases(tmp_path).read_now().record.in_sync == ("r0", "r1")
        second.start()
        await sends_until(first, ResponseCode.SUCCESS)


async def test_a_slave_that_stays_away_leaves_the_set_and_sends_go_on_without_it(tmp_path: Path) -> None:
    async with group(tmp_path, 2) as (first, second):
        await second.stop()
        await sends_until(first, ResponseCode.SUCCESS)
        assert leases(tmp_path).read_now().record.in_sync == ("r0",)
        second.start()
        await until(lambda: len(first.in_sync) == 2, "it is a member again")


async def test_a_slave_that_knows_a_newer_epoch_is_not_served_by_the_older_master(tmp_path: Path) -> None:
    async with group(tmp_path, 1) as (first,):
        assert first.broker is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", first.broker.identity.ha_port)
        try:
            writer.write(encode(Greeting(group="DefaultCluster/broker-a", member="r9", epochs=((7, 0),))))
            async with asyncio.timeout(30):
                head = await reader.readexactly(12)
                answer = await reader.readexactly(int.from_bytes(head[8:], "big"))
            assert "r9 knows epoch 7" in msgspec.json.decode(answer)["problem"]
        finally:
            writer.close()


@pytest.mark.parametrize("garbage", [b"\xffRMQKUB1\xff\xff\xff\xff", b"\xffRMQKUB1\x00\x00\x00\x02{]", b"\xff" * 64])
async def test_a_handshake_that_is_none_ends_the_link_and_satisfies_no_wait(tmp_path: Path, garbage: bytes) -> None:
    async with group(tmp_path, 1) as (first,):
        assert first.broker is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", first.broker.identity.ha_port)
        try:
            writer.write(garbage)
            async with asyncio.timeout(30):
                try:
                    assert await reader.read() == b""
                except ConnectionError:
                    pass
        finally:
            writer.close()
        await sends_until(first, ResponseCode.SUCCESS)
