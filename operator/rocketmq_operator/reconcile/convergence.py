"""Whether an object on the API server already is what was rendered.

Two questions: was exactly this manifest applied last (a hash in an annotation, so that removed fields are noticed), and does the
live object still have every field of it (so that foreign edits are noticed). Fields that others own are none of our business.
"""

from __future__ import annotations

import copy
import hashlib
import json
from decimal import Decimal
from typing import Any

from rocketmq_operator.crd import GROUP
from rocketmq_operator.kube.api import Object
from rocketmq_operator.overlay import MERGE_KEYS
from rocketmq_operator.quantities import parse_quantity

APPLIED_HASH_ANNOTATION = f"{GROUP}/applied-hash"
APPLIED_REPLICAS_ANNOTATION = f"{GROUP}/applied-replicas"

_SERVER_FIELDS = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_QUANTITY_FIELDS = frozenset({"requests", "limits", "sizeLimit", "storage"})


def stamped(manifest: Object) -> Object:
    """The manifest with the hash of itself in an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    result = copy.deepcopy(manifest)
    annotations = result["metadata"].setdefault("annotations", {})
    annotations[APPLIED_HASH_ANNOTATION] = hashlib.sha256(text.encode()).hexdigest()[:16]
    if "replicas" in manifest.get("spec", {}):
        annotations[APPLIED_REPLICAS_ANNOTATION] = str(manifest["spec"]["replicas"])
    return result


def applied_replicas(live: Object) -> int:
    """How many replicas the operator asked for last, whatever someone else wrote since."""
    noted = (live["metadata"].get("annotations") or {}).get(APPLIED_REPLICAS_ANNOTATION, "")
    return int(noted if noted.isdigit() else live["spec"].get("replicas", 1))


def was_applied(live: Object, wanted: Object) -> bool:
    """Whether the last apply was of exactly ``wanted`` (stamped)."""

    def of(item: Object) -> str | None:
        result: str | None = (item["metadata"].get("annotations") or {}).get(APPLIED_HASH_ANNOTATION)
        return result

    return of(live) == of(wanted)


def digest(live: Object) -> str:
    """Identifies an object's content; status and bookkeeping of the server do not count."""
    content = {key: value for key, value in live.items() if key != "status"}
    content["metadata"] = {k: v for k, v in live["metadata"].items() if k not in _SERVER_FIELDS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def difference(live: Any, wanted: Any, path: str = "") -> str | None:
    """The first field of ``wanted`` that ``live`` lacks or has otherwise, as a phrase; None when there is none."""
    name = path.rpartition(".")[2].partition("[")[0]
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return None if not wanted and live is None else f"{path} is missing"
        for key, value in wanted.items():
            if key not in live and value not in ({}, [], None):
                return f"{_join(path, key)} is missing"
            found = difference(live.get(key), value, _join(path, key))
            if found:
                return found
        return None
    if isinstance(wanted, list):
        return _list_difference(live, wanted, path, name)
    if live == wanted or _same_quantity(live, wanted, path):
        return None
    return f"{path} is {_short(live)}, not {_short(wanted)}"


def _list_difference(live: Any, wanted: list[Any], path: str, name: str) -> str | None:
    if not isinstance(live, list):
        return None if not wanted and live is None else f"{path} is missing"
    key = _merge_key(name, wanted)
    if key is None:
        if len(live) != len(wanted):
            return f"{path} has {len(live)} items, not {len(wanted)}"
        pairs = list(zip(live, wanted, strict=True))
        return next((d for i, (a, b) in enumerate(pairs) if (d := difference(a, b, f"{path}[{i}]"))), None)
    by_key = {item.get(key): item for item in live if isinstance(item, dict)}
    for item in wanted:
        if item[key] not in by_key:
            return f"{path}[{item[key]}] is missing"
        found = difference(by_key[item[key]], item, f"{path}[{item[key]}]")
        if found:
            return found
    return None


def _merge_key(name: str, items: list[Any]) -> str | None:
    key = MERGE_KEYS.get(name)
    if name == "ports" and all(isinstance(item, dict) and "port" in item for item in items):
        key = "port"
    if key and all(isinstance(item, dict) and key in item for item in items):
        return key
    return None


def _same_quantity(live: Any, wanted: Any, path: str) -> bool:
    if live is None or not _QUANTITY_FIELDS & set(path.split(".")):
        return False
    try:
        numbers: tuple[Decimal, Decimal] = (parse_quantity(live), parse_quantity(wanted))
    except ValueError:
        return False
    return numbers[0] == numbers[1]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
