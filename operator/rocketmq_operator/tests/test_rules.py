"""The CEL rules of the CRD and their Python twins decide alike."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import celpy
import pytest
from celpy import celtypes
from celpy.adapter import json_to_cel
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_operator.crd import Schema, cluster_schema
from rocketmq_operator.quantities import parse_quantity
from rocketmq_operator.rules import OWNED_BROKER_KEYS, OWNED_NAMESRV_KEYS, RULES, broken_rules
from rocketmq_operator.structural import with_defaults


def _crd_rules(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, inner in schema.get("properties", {}).items():
        yield from _crd_rules(inner, (*path, name))


CRD_RULES = list(_crd_rules(cluster_schema()))


def _quantity(text: Any) -> celtypes.DoubleType:
    # Big enough for every size that the pattern lets through, exact for what is generated here.
    return celtypes.DoubleType(float(parse_quantity(str(text))))


def _compare(left: Any, right: Any) -> celtypes.IntType:
    return celtypes.IntType((left > right) - (left < right))


FUNCTIONS: Any = {
    "quantity": _quantity,
    "isGreaterThan": lambda left, right: celtypes.BoolType(left > right),
    "compareTo": _compare,
}


def _programs() -> dict[str, Any]:
    # cel-python raises the recursion limit of the whole process; hypothesis rightly complains when that happens inside a test.
    limit = sys.getrecursionlimit()
    try:
        environment = celpy.Environment()
        return {
            r["rule"]: environment.program(environment.compile(r["rule"]), functions=FUNCTIONS) for _, r in CRD_RULES
        }
    finally:
        sys.setrecursionlimit(limit)


PROGRAMS = _programs()


def cel_broken(document: Any, old: Any) -> set[tuple[tuple[str, ...], str]]:
    broken = set()
    for path, rule in CRD_RULES:
        value, old_value = document, old
        for name in path:
            value = None if value is None else value.get(name)
            old_value = None if old_value is None else old_value.get(name)
        if value is None or ("oldSelf" in rule["rule"] and old_value is None):
            continue
        scope = {"self": json_to_cel(value)}
        if "oldSelf" in rule["rule"]:
            scope["oldSelf"] = json_to_cel(old_value)
        if not PROGRAMS[rule["rule"]].evaluate(scope):
            broken.add((path, rule["message"]))
    return broken


def python_broken(document: Any, old: Any) -> set[tuple[tuple[str, ...], str]]:
    lines = broken_rules(document, old)
    result = set()
    for line in lines:
        path, _, rest = line.partition(": Invalid value: ")
        result.add((() if path == "<nil>" else tuple(path.split(".")), rest.split(": ", 1)[1]))
    return result


def test_python_and_crd_have_the_same_rules() -> None:
    def order(rules: Any) -> list[Any]:
        return sorted(rules, key=lambda r: (r[0], r[1]))

    ours = [(rule.path, rule.message, rule.transition) for rule in RULES]
    theirs = [(path, rule["message"], "oldSelf" in rule["rule"]) for path, rule in CRD_RULES]
    assert order(ours) == order(theirs)


@pytest.mark.parametrize(("component", "keys"), [("brokers", OWNED_BROKER_KEYS), ("nameServers", OWNED_NAMESRV_KEYS)])
def test_every_owned_key_is_in_the_cel_text(component: str, keys: tuple[str, ...]) -> None:
    (rule,) = (r["rule"] for p, r in CRD_RULES if p == ("spec", component, "config") and "bindAddress" in r["rule"])
    assert set(rule.split("'")[1::2]) == set(keys)


def test_no_rule_stands_on_an_object_whose_default_would_break_it() -> None:
    # The API server checks a nested default before inner defaults are filled in: it must satisfy its own rules as written.
    def check(schema: Schema) -> None:
        for inner in schema.get("properties", {}).values():
            if "default" in inner and inner.get("x-kubernetes-validations"):
                assert inner["default"] == with_defaults(inner["default"], inner)
            check(inner)

    check(cluster_schema())


SIZES = st.sampled_from(["0", "1Gi", "1024Mi", "2Gi", "1.5Gi", "1G", "0.0", "1500M"])
CONFIGS = st.dictionaries(
    st.sampled_from(["fileReservedTime", "listenPort", "brokerId", "a b", "1x", "kvConfigPath", "x", "é", "a\n"]),
    st.just("1"),
    max_size=3,
)
STORAGE = st.fixed_dictionaries(
    {"size": SIZES},
    optional={
        "type": st.sampled_from(["EmptyDir", "PersistentVolumeClaim"]),
        "allowDataLoss": st.booleans(),
        "storageClassName": st.sampled_from(["fast", "slow"]),
    },
)
DOCUMENTS = st.builds(
    lambda name, storage, config, ns_config, replicas, minimum: {
        "metadata": {"name": name},
        "spec": {
            "nameServers": {"config": ns_config},
            "brokers": {
                "storage": storage,
                "config": config,
                "replicasPerGroup": replicas,
                "minInSyncReplicas": minimum,
            },
        },
    },
    st.sampled_from(["demo", "a" * 30, "a" * 31, "1a", "a.b", "a-"]),
    STORAGE,
    CONFIGS,
    CONFIGS,
    st.integers(1, 4),
    st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.none() | DOCUMENTS)
def test_cel_and_python_find_the_same_rules_broken(document: Any, old: Any) -> None:
    document = with_defaults(document, cluster_schema())
    old = None if old is None else with_defaults(old, cluster_schema())
    assert python_broken(document, old) == cel_broken(copy.deepcopy(document), copy.deepcopy(old))
