"""Merging a user's Pod template over a rendered one, by the rules of a strategic merge patch.

Maps merge key by key, ``null`` removes a key, lists whose items carry the list's merge key merge item by item, other lists are
replaced. Merge keys are those of the Pod API.
"""

from __future__ import annotations

import copy
from typing import Any

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def merge(base: Any, overlay: Any, field: str = "") -> Any:
    """``base`` with ``overlay`` merged over it; neither is changed."""
    if isinstance(base, dict) and isinstance(overlay, dict):
        result = copy.deepcopy(base)
        for key, value in overlay.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merge(result.get(key), value, key)
        return result
    merge_key = MERGE_KEYS.get(field)
    if merge_key and isinstance(base, list) and isinstance(overlay, list) and _all_have(merge_key, base, overlay):
        return _merge_lists(base, overlay, merge_key)
    return _without_nulls(overlay)


def _merge_lists(base: list[Any], overlay: list[Any], merge_key: str) -> list[Any]:
    result = copy.deepcopy(base)
    positions = {item[merge_key]: index for index, item in enumerate(result)}
    for item in overlay:
        if item[merge_key] in positions:
            index = positions[item[merge_key]]
            result[index] = merge(result[index], item)
        else:
            positions[item[merge_key]] = len(result)
            result.append(_without_nulls(item))
    return result


def _all_have(merge_key: str, *lists: list[Any]) -> bool:
    return all(isinstance(item, dict) and merge_key in item for items in lists for item in items)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return copy.deepcopy(value)
