"""A user's template merges over the rendered one like a strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

from rocketmq_operator.overlay import merge

BASE: dict[str, Any] = {
    "serviceAccountName": "a",
    "containers": [{"name": "broker", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}],
    "tolerations": [{"key": "old"}],
}


def test_a_container_of_the_same_name_is_merged_and_another_added() -> None:
    merged = merge(BASE, {"containers": [{"name": "broker", "image": "y"}, {"name": "sidecar", "image": "z"}]})
    assert [c["name"] for c in merged["containers"]] == ["broker", "sidecar"]
    assert merged["containers"][0]["image"] == "y"
    assert merged["containers"][0]["env"] == BASE["containers"][0]["env"]


def test_environment_is_merged_by_name_in_place() -> None:
    merged = merge(
        BASE, {"containers": [{"name": "broker", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}
    )
    assert [(e["name"], e["value"]) for e in merged["containers"][0]["env"]] == [("A", "1"), ("B", "3"), ("C", "4")]


def test_a_list_without_merge_key_is_replaced() -> None:
    assert merge(BASE, {"tolerations": [{"key": "new"}]})["tolerations"] == [{"key": "new"}]


def test_null_removes_a_key() -> None:
    assert "serviceAccountName" not in merge(BASE, {"serviceAccountName": None})
    assert merge({}, {"affinity": {"a": None, "b": 1}}) == {"affinity": {"b": 1}}


def test_neither_side_is_changed() -> None:
    before = copy.deepcopy(BASE)
    overlay = {"containers": [{"name": "broker", "env": [{"name": "A", "value": "9"}]}]}
    merged = merge(BASE, overlay)
    merged["containers"][0]["env"][1]["value"] = "changed"
    assert before == BASE
