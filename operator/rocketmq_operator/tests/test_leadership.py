"""Leader election."""

from __future__ import annotations

from typing import Any

from rocketmq_common.clock import ManualClock
from rocketmq_operator.kube.api import ApiError, Object
from rocketmq_operator.kube.leadership import DURATION_SECONDS, RENEW_DEADLINE_SECONDS, Leadership
from rocketmq_operator.kube.resources import Resource
from rocketmq_operator.tests.simulated_api import SimulatedApi


class Candidates:
    """Two replicas, and an API server that can be unreachable to one of them."""

    def __init__(self) -> None:
        self.api, self.clock = SimulatedApi(), ManualClock()
        self.cut: set[str] = set()
        self.lost: list[str] = []
        self.a, self.b = self._candidate("a"), self._candidate("b")

    def _candidate(self, name: str) -> Leadership:
        return Leadership(Cut(self, name), self.clock, "ops", "lease", name, lambda: self.lost.append(name))  # type: ignore[arg-type]

    async def step(self) -> None:
        await self.a.step()
        await self.b.step()
        assert not (self.a.is_leader and self.b.is_leader)
        self.clock.advance(2000)


class Cut:
    """The API as one candidate sees it."""

    def __init__(self, world: Candidates, name: str) -> None:
        self._world, self._name = world, name

    async def get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        self._check()
        return await self._world.api.get(resource, namespace, name)

    async def create(self, resource: Resource, body: Object) -> Object:
        self._check()
        return await self._world.api.create(resource, body)

    async def replace(self, resource: Resource, body: Object) -> Object:
        self._check()
        return await self._world.api.replace(resource, body)

    def _check(self) -> None:
        if self._name in self._world.cut:
            raise ApiError(0, "Unreachable", "cut off")


def lease(world: Candidates) -> Any:
    return world.api.objects[("Lease", "ops", "lease")]["spec"]


async def test_one_leads_and_keeps_leading() -> None:
    world = Candidates()
    for _ in range(20):
        await world.step()
    assert (world.a.is_leader, world.b.is_leader, world.lost) == (True, False, [])
    assert lease(world)["leaseTransitions"] == 0


async def test_a_released_lease_is_taken_at_once() -> None:
    world = Candidates()
    await world.step()
    await world.a.release()
    await world.b.step()
    assert world.b.is_leader
    assert lease(world)["leaseTransitions"] == 1


async def test_a_leader_that_is_cut_off_stops_before_another_begins() -> None:
    world = Candidates()
    for _ in range(3):
        await world.step()
    world.cut.add("a")
    stopped_at = began_at = None
    started = world.clock.monotonic()
    for _ in range(20):
        await world.step()
        now = world.clock.monotonic() - started
        stopped_at = now if stopped_at is None and not world.a.is_leader else stopped_at
        began_at = now if began_at is None and world.b.is_leader else began_at
    assert stopped_at is not None
    assert began_at is not None
    assert RENEW_DEADLINE_SECONDS - 2 <= stopped_at <= RENEW_DEADLINE_SECONDS < began_at
    assert began_at >= DURATION_SECONDS
    assert world.lost == ["a"]
    assert lease(world)["holderIdentity"] == "b"


async def test_a_short_cut_changes_nothing() -> None:
    world = Candidates()
    await world.step()
    world.cut.add("a")
    await world.step()
    await world.step()
    world.cut.clear()
    for _ in range(5):
        await world.step()
    assert (world.a.is_leader, world.lost, lease(world)["leaseTransitions"]) == (True, [], 0)


async def test_a_stolen_lease_ends_leadership() -> None:
    world = Candidates()
    await world.step()
    stolen = world.api.objects[("Lease", "ops", "lease")]
    world.api.put({**stolen, "spec": {**stolen["spec"], "holderIdentity": "thief"}})
    await world.a.step()
    assert (world.a.is_leader, world.lost) == (False, ["a"])
