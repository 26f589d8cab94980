"""Whether a live object is what was rendered."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rocketmq_operator.model import Brokers, ClusterSpec, RocketMQCluster, Storage
from rocketmq_operator.reconcile.convergence import difference, digest, stamped, was_applied
from rocketmq_operator.reconcile.observed import Observed
from rocketmq_operator.reconcile.plan import plan
from rocketmq_operator.reconcile.steps import ApplyObject
from rocketmq_operator.render import render

CLUSTER = RocketMQCluster(
    name="orders", namespace="mq", uid="u", spec=ClusterSpec(brokers=Brokers(storage=Storage(size="1Gi"), groups=2))
)


@pytest.mark.parametrize(
    ("live", "wanted", "found"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, None),
        ({"a": 1}, {"a": 2}, "a is 1, not 2"),
        ({}, {"a": {"b": 1}}, "a is missing"),
        ({}, {"emptyDir": {}}, None),
        ({"env": [{"name": "X", "value": "1"}, {"name": "Y"}]}, {"env": [{"name": "X", "value": "1"}]}, None),
        (
            {"env": [{"name": "X", "value": "2"}]},
            {"env": [{"name": "X", "value": "1"}]},
            'env[X].value is "2", not "1"',
        ),
        ({"command": ["a", "b"]}, {"command": ["a"]}, "command has 2 items, not 1"),
        ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": "0.5"}}, None),
        ({"requests": {"cpu": "400m"}}, {"requests": {"cpu": "0.5"}}, 'requests.cpu is "400m", not "0.5"'),
        ({"data": {"cpu": "500m"}}, {"data": {"cpu": "0.5"}}, 'data.cpu is "500m", not "0.5"'),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, {"ports": [{"port": 1}]}, None),
        ({"ports": []}, {"ports": [{"port": 1}]}, "ports[1] is missing"),
    ],
)
def test_the_first_difference_is_named(live: Any, wanted: Any, found: str | None) -> None:
    assert difference(live, wanted) == found


def test_rendered_objects_are_no_different_from_themselves_and_need_no_step() -> None:
    live = {}
    for number, manifest in enumerate(render(CLUSTER)):
        item = stamped(manifest)
        assert difference(item, item) is None
        item["metadata"] |= {"uid": f"u{number}", "resourceVersion": "1", "generation": 1}
        live[item["kind"], item["metadata"]["name"]] = item
    observed = Observed(objects=live, pods={}, claims={})
    assert plan(CLUSTER, observed, 0).steps == ()


def test_every_change_of_a_rendered_value_is_noticed() -> None:
    for manifest in render(CLUSTER):
        wanted = stamped(manifest)
        for path, value in leaves(manifest):
            live = copy.deepcopy(wanted)
            parent = live
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = 987654 if isinstance(value, int) else f"{value}-changed"
            assert difference(live, wanted) is not None, path


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def test_a_removed_field_is_noticed_by_the_hash_of_what_was_applied() -> None:
    manifest = render(CLUSTER)[0]
    smaller = copy.deepcopy(manifest)
    smaller["metadata"]["labels"].popitem()
    assert difference(stamped(manifest), {k: v for k, v in smaller.items() if k != "metadata"}) is None
    assert not was_applied(stamped(manifest), stamped(smaller))
    assert was_applied(stamped(manifest), stamped(copy.deepcopy(manifest)))


def test_a_digest_ignores_what_the_server_keeps_to_itself() -> None:
    item = {
        "metadata": {"name": "a", "resourceVersion": "1", "managedFields": []},
        "spec": {"x": 1},
        "status": {"y": 1},
    }
    moved = {"metadata": {"name": "a", "resourceVersion": "2"}, "spec": {"x": 1}}
    assert digest(item) == digest(moved)
    assert digest(item) != digest({**moved, "spec": {"x": 2}})


def test_what_the_api_server_spells_otherwise_is_applied_once_and_then_known() -> None:
    observed_objects = {}
    for number, manifest in enumerate(render(CLUSTER)):
        item = stamped(manifest)
        item["metadata"] |= {"uid": f"u{number}", "resourceVersion": "1", "generation": 1}
        if item["kind"] == "StatefulSet":
            item["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "spelt otherwise"
        observed_objects[item["kind"], item["metadata"]["name"]] = item
    observed = Observed(objects=observed_objects, pods={}, claims={})
    steps = plan(CLUSTER, observed, 0).steps
    assert {type(step) for step in steps} == {ApplyObject}
    assert plan(CLUSTER, observed, 0, lambda live: True).steps == ()
