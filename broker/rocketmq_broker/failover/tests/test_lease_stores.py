"""Both stores of leases: compare-and-swap, what they keep, and what they say when they cannot."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rocketmq_broker.failover import lease_file
from rocketmq_broker.failover.lease import NO_LEASE, LeaseConflict, LeaseRecord, LeaseStore, LeaseUnavailable
from rocketmq_broker.failover.lease_file import FileLeaseStore
from rocketmq_broker.failover.lease_kubernetes import KubernetesLeaseStore
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles

RECORD = LeaseRecord(
    holder="b-0/uid/1", epoch=3, renewals=7, in_sync=("b-0", "b-1"), offsets={"b-0": 1 << 60}, target="b-1",
    suspects={"b-1": 5}, unclean="b-2@2", address="127.0.0.1:1", ha_address="127.0.0.1:2",
)  # fmt: skip


class Leases:
    """As much of an API server as one Lease needs."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.failure = 0
        self.version = 0

    async def handle(self, request: web.Request) -> web.Response:
        if self.failure:
            return web.json_response({"message": "not now"}, status=self.failure)
        name = request.match_info.get("name", "")
        body = await request.json() if request.can_read_body else {}
        if request.method == "GET":
            found = self.objects.get(name)
            return web.json_response(found or {}, status=200 if found else 404)
        name = body["metadata"]["name"]
        found = self.objects.get(name)
        if request.method == "POST" and found is not None:
            return web.json_response({}, status=409)
        if (
            request.method == "PUT"
            and (found or {})["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]
        ):
            return web.json_response({}, status=409)
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[name] = body
        return web.json_response(body)


@asynccontextmanager
async def kubernetes(_: Path) -> AsyncIterator[Callable[[], LeaseStore]]:
    leases = Leases()
    app = web.Application()
    base = "/apis/coordination.k8s.io/v1/namespaces/mq/leases"
    app.router.add_route("*", base, leases.handle)
    app.router.add_route("*", base + "/{name}", leases.handle)
    stores: list[KubernetesLeaseStore] = []
    async with TestServer(app) as server:

        def make() -> LeaseStore:
            stores.append(KubernetesLeaseStore(str(server.make_url("")).rstrip("/"), "mq", "orders-b0", ManualClock()))
            return stores[-1]

        make.leases = leases  # type: ignore[attr-defined]
        yield make
        for store in stores:
            await store.close()


@asynccontextmanager
async def files(root: Path) -> AsyncIterator[Callable[[], LeaseStore]]:
    yield lambda: FileLeaseStore(root / "leases", "orders-b0", RealFiles())


STORES = pytest.mark.parametrize("stores", [files, kubernetes])


@STORES
async def test_a_lease_is_made_read_and_replaced(tmp_path: Path, stores: Any) -> None:
    async with stores(tmp_path) as make:
        store = make()
        assert await store.read() == NO_LEASE

        first = await store.write(RECORD, "", 8000)
        assert await make().read() == first
        assert first.record == RECORD

        second = await store.write(LeaseRecord(epoch=4), first.version, 8000)
        assert second.record == LeaseRecord(epoch=4)
        assert second.version != first.version


@STORES
async def test_of_two_that_write_over_one_version_exactly_one_wins(tmp_path: Path, stores: Any) -> None:
    async with stores(tmp_path) as make:
        version = (await make().write(RECORD, "", 8000)).version
        rivals = [make() for _ in range(4)]
        for rival in rivals:
            await rival.read()
        results = await asyncio.gather(
            *(rival.write(LeaseRecord(epoch=n), version, 8000) for n, rival in enumerate(rivals)),
            return_exceptions=True,
        )
        won = [result for result in results if not isinstance(result, BaseException)]
        assert len(won) == 1
        assert sum(isinstance(result, LeaseConflict) for result in results) == 3
        assert await make().read() == won[0]


@STORES
async def test_making_a_lease_that_exists_is_a_conflict(tmp_path: Path, stores: Any) -> None:
    async with stores(tmp_path) as make:
        await make().write(RECORD, "", 8000)
        with pytest.raises(LeaseConflict):
            await make().write(RECORD, "", 8000)


async def test_a_lock_that_nobody_lets_go_makes_the_file_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_file, "LOCK_TIMEOUT_S", 0.05)
    store = FileLeaseStore(tmp_path, "g", RealFiles())
    descriptor = os.open(tmp_path / "g.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(LeaseUnavailable):
            await store.write(RECORD, "", 8000)
    finally:
        os.close(descriptor)
    await store.write(RECORD, "", 8000)


async def test_a_damaged_file_is_no_lease_that_could_be_taken(tmp_path: Path) -> None:
    (tmp_path / "g.json").write_bytes(b"{")
    with pytest.raises(LeaseUnavailable):
        await FileLeaseStore(tmp_path, "g", RealFiles()).read()


async def test_a_kubernetes_lease_keeps_what_others_put_there_and_shows_the_holder(tmp_path: Path) -> None:
    async with kubernetes(tmp_path) as make:
        leases: Leases = make.leases  # type: ignore[attr-defined]
        leases.objects["orders-b0"] = {
            "metadata": {"name": "orders-b0", "resourceVersion": "9", "labels": {"a": "b"}, "annotations": {"c": "d"}}
        }
        store = make()
        assert (await store.read()).record == LeaseRecord()
        await store.write(RECORD, "9", 8000)
        found = leases.objects["orders-b0"]
        assert found["metadata"]["labels"] == {"a": "b"}
        assert found["metadata"]["annotations"]["c"] == "d"
        assert found["metadata"]["annotations"]["rocketmqkube.dev/in-sync"] == '["b-0","b-1"]'
        assert found["spec"]["holderIdentity"] == RECORD.holder
        assert found["spec"]["leaseDurationSeconds"] == 8
        assert found["spec"]["leaseTransitions"] == 1
        assert found["spec"]["renewTime"].endswith("Z")


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_an_api_server_that_fails_makes_the_lease_unavailable(tmp_path: Path, status: int) -> None:
    async with kubernetes(tmp_path) as make:
        store = make()
        version = (await store.write(RECORD, "", 8000)).version
        make.leases.failure = status  # type: ignore[attr-defined]
        with pytest.raises(LeaseUnavailable):
            await store.read()
        with pytest.raises(LeaseUnavailable):
            await store.write(RECORD, version, 8000)


async def test_annotations_that_cannot_be_read_are_said_aloud(tmp_path: Path) -> None:
    async with kubernetes(tmp_path) as make:
        leases: Leases = make.leases  # type: ignore[attr-defined]
        leases.objects["orders-b0"] = {
            "metadata": {"name": "orders-b0", "resourceVersion": "9", "annotations": {"rocketmqkube.dev/epoch": "x"}}
        }
        with pytest.raises(LeaseUnavailable, match="orders-b0"):
            await make().read()


def test_a_record_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(RECORD), type=LeaseRecord) == RECORD
