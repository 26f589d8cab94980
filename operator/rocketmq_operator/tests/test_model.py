"""The model's defaults are the schema's."""

from __future__ import annotations

import json
import typing
from types import UnionType
from typing import Any

import msgspec
import pytest

from rocketmq_operator.crd import Schema, schema_at
from rocketmq_operator.documents import validate_object
from rocketmq_operator.model import ClusterSpec, RocketMQCluster, cluster_from_object
from rocketmq_operator.structural import with_defaults

MINIMAL: dict[str, Any] = {
    "apiVersion": "rocketmqkube.dev/v1alpha1",
    "kind": "RocketMQCluster",
    "metadata": {"name": "demo"},
    "spec": {"brokers": {"storage": {"size": "1Gi"}}},
}


def _fields(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any, Any]]:
    found = []
    for info in msgspec.structs.fields(struct):
        at = (*path, info.encode_name)
        default = info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()
        found.append((at, info.type, default))
        inner = info.type
        if typing.get_origin(inner) is UnionType:
            inner = next(a for a in typing.get_args(inner) if a is not type(None))
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            found += _fields(inner, at)
    return found


FIELDS = _fields(ClusterSpec)


@pytest.mark.parametrize(("path", "default"), [(p, d) for p, _, d in FIELDS], ids=[".".join(p) for p, _, _ in FIELDS])
def test_default_of_the_model_is_the_default_of_the_schema(path: tuple[str, ...], default: Any) -> None:
    schema = schema_at(("spec", *path))
    if default is msgspec.NODEFAULT or "default" not in schema:
        parent = schema_at(("spec", *path[:-1]))
        assert "default" not in schema
        if default is msgspec.NODEFAULT:
            assert path[-1] in parent["required"]
        else:  # optional without a default in the schema: absent means the same as the model's empty value
            assert msgspec.to_builtins(default) in (None, {}, {"labels": {}, "annotations": {}})
        return
    assert _complete({**schema, "default": _plain(default)}) == _complete(schema)


def _plain(default: Any) -> Any:
    return json.loads(msgspec.json.encode(default))


def _complete(schema: Schema) -> Any:
    value = with_defaults(schema["default"], schema)
    # The model spells out empty optional maps that the schema leaves absent.
    if isinstance(value, dict) and set(schema.get("properties", ())) == {"requests", "limits"}:
        return {"limits": {}, **value}
    if isinstance(value, dict) and set(schema.get("properties", ())) == {"metadata", "spec"}:
        return {"metadata": {"labels": {}, "annotations": {}}, "spec": {}, **value}
    if isinstance(value, dict) and schema.get("properties"):
        inner = {k: v for k, v in schema["properties"].items() if "default" in v}
        return {**value, **{name: _complete({**s, "default": value[name]}) for name, s in inner.items()}}
    return value


def _schema_paths(schema: Schema, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    paths = set()
    for name, inner in schema.get("properties", {}).items():
        paths |= {(*path, name)} | _schema_paths(inner, (*path, name))
    return paths


def test_model_and_schema_have_the_same_fields() -> None:
    assert {path for path, _, _ in FIELDS} == _schema_paths(schema_at(("spec",)))


def test_a_model_built_in_python_equals_one_that_went_through_the_schema() -> None:
    from rocketmq_operator.model import Brokers, Storage

    expected = RocketMQCluster(name="demo", spec=ClusterSpec(brokers=Brokers(storage=Storage(size="1Gi"))))
    assert validate_object(MINIMAL).cluster == expected


def test_enumerations_of_model_and_schema_agree() -> None:
    import enum

    for path, hint, _ in FIELDS:
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            assert {member.value for member in hint} == set(schema_at(("spec", *path))["enum"]), path


def test_defaults_promised_to_users() -> None:
    spec = validate_object(MINIMAL).cluster.spec
    assert spec.name_servers.replicas == 2
    assert (spec.brokers.groups, spec.brokers.replicas_per_group, spec.brokers.min_in_sync_replicas) == (1, 1, 1)
    assert (spec.brokers.flush, spec.brokers.replication) == ("Async", "Sync")
    assert spec.paused is False


def test_default_version_is_the_version_of_this_release() -> None:
    from importlib.metadata import version

    assert ClusterSpec.__struct_defaults__[ClusterSpec.__struct_fields__.index("version") - 1] == version(
        "rocketmq-kube"
    )


def test_an_object_that_is_not_defaulted_is_an_error_of_the_caller() -> None:
    with pytest.raises(msgspec.ValidationError):
        cluster_from_object({"metadata": {"name": "x"}, "spec": {}})
