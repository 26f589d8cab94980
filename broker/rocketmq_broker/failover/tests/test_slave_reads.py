"""Reads of a slave that starts again: what it recovered is shown when a master vouches for it, or when it is master itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from rocketmq_broker.failover.lease_file import FileLeaseStore
from rocketmq_broker.failover.tests.lives import Replica, group, until
from rocketmq_broker.tests.harness import messages_of
from rocketmq_common.files import RealFiles
from rocketmq_remoting.codes import ResponseCode

pytestmark = pytest.mark.timeout(240)


async def pulled(replica: Replica) -> int:
    """How many messages a consumer gets of this replica; -1 while it cannot be asked."""
    if replica.broker is None:
        return -1
    async with replica.peer() as peer:
        answer = await peer.pull(sys_flag=0b100)
        return len(messages_of(answer)) if answer.code == ResponseCode.SUCCESS else 0


async def pulls_until(replica: Replica, count: int) -> None:
    async with asyncio.timeout(60):
        while await pulled(replica) != count:
            await asyncio.sleep(0.1)


async def test_a_slave_shows_what_it_recovered_only_when_it_is_sure_to_stay(tmp_path: Path) -> None:
    async with group(tmp_path, 2, failoverMode="Manual", slaveReadEnable="true") as (first, second):
        async with first.peer() as peer:
            for _ in range(3):
                assert (await peer.send()).code == ResponseCode.SUCCESS
        # The slave shows what its master's readers see.
        await pulls_until(second, 3)
        await second.stop()
        await first.stop()
        second.start()
        await until(lambda: second.broker is not None, "the slave is back")
        assert second.broker is not None
        assert second.broker.store.queue_bounds("T", 0) is not None
        for _ in range(5):
            # Nobody says yet that a master would not take back the end of this log.
            assert await pulled(second) == 0
            await asyncio.sleep(0.05)
        leases = FileLeaseStore(tmp_path / "leases", "broker-a", RealFiles())
        observed = leases.read_now()
        leases.write_now(msgspec.structs.replace(observed.record, target="r1"), observed.version, 0)
        await until(lambda: second.leads, "the target leads")
        await pulls_until(second, 3)
        first.start()
        # Now as a slave of the other, which vouches.
        await pulls_until(first, 3)
