"""The operator is killed after each of its calls, in every scenario: the end is the same, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rocketmq_operator.tests.world import World


def spec(groups: int = 2, replicas: int = 2, servers: int = 2, image: str = "", size: str = "10Gi") -> dict[str, Any]:
    return {
        "image": image,
        "nameServers": {"replicas": servers},
        "brokers": {"groups": groups, "replicasPerGroup": replicas, "storage": {"size": size}},
    }


SCENARIOS: dict[str, tuple[dict[str, Any] | None, Callable[[World], None]]] = {
    "create": (None, lambda world: world.apply_cluster(**spec())),
    "roll": (spec(), lambda world: world.apply_cluster(**spec(image="rocketmq:2"))),
    "add a group": (spec(groups=1), lambda world: world.apply_cluster(**spec(groups=2))),
    "remove a group": (spec(groups=2), lambda world: world.apply_cluster(**spec(groups=1))),
    "add a name server": (spec(groups=1), lambda world: world.apply_cluster(**spec(groups=1, servers=3))),
    "remove a name server": (spec(groups=1, servers=3), lambda world: world.apply_cluster(**spec(groups=1))),
    "grow storage": (spec(groups=1), lambda world: world.apply_cluster(**spec(groups=1, size="20Gi"))),
}


async def end(name: str, kill_at: int | None) -> tuple[dict[str, Any], World, int]:
    """The state a scenario ends in, the world, and how many calls the operator made for it."""
    before, change = SCENARIOS[name]
    world = World()
    if before is not None:
        world.apply_cluster(**before)
        await world.settle()
    started = world.api.call_count
    change(world)
    if kill_at is not None:
        world.api.kill_at = started + kill_at
    await world.settle()
    return world.api.snapshot(), world, world.api.call_count - started


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_operator_may_die_after_any_call(name: str) -> None:
    undisturbed, world, calls = await end(name, None)
    assert world.problems == []
    for kill_at in range(1, calls + 1):
        disturbed, world, _ = await end(name, kill_at)
        assert world.kills == 1, kill_at
        assert world.problems == [], kill_at
        assert disturbed == undisturbed, kill_at
