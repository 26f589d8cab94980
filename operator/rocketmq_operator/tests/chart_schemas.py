"""values.schema.json of both charts: generated, so that charts, CRDs and defaults cannot drift apart.

``python -m rocketmq_operator.tests.chart_schemas`` rewrites the files; a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from rocketmq_operator.crd import GROUP, VERSION, Schema

REPOSITORY = Path(__file__).parents[3]
CHARTS = REPOSITORY / "charts"
DIALECT = "http://json-schema.org/draft-07/schema#"
# Values whose shape is Kubernetes' own.
FREE = {
    "affinity",
    "annotations",
    "commonAnnotations",
    "commonLabels",
    "containerSecurityContext",
    "labels",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "podSecurityContext",
    "resources",
}
LIMITS: dict[str, dict[str, Any]] = {
    "replicaCount": {"minimum": 1, "maximum": 5},
    "workers": {"minimum": 1, "maximum": 64},
    "resyncSeconds": {"minimum": 5},
    "logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
    "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
}


def spec_schema(plural: str) -> Schema:
    """The schema of the spec of one of our kinds, as plain JSON schema."""
    text = (REPOSITORY / "crds" / f"{plural}.{GROUP}.yaml").read_text(encoding="utf-8")
    (version,) = (v for v in yaml.safe_load(text)["spec"]["versions"] if v["name"] == VERSION)
    result: Schema = _plain(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return result


def _plain(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: _plain(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            result[key] = _plain(value)
        elif not key.startswith("x-kubernetes-") and key not in ("default", "format"):
            result[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        result.pop("anyOf", None)
        result["type"] = ["integer", "string"]
    elif result.get("type") == "object" and "additionalProperties" not in result:
        result["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return result


def of_defaults(name: str, value: Any) -> Schema:
    """A strict schema of which ``value`` is the default."""
    if isinstance(value, dict):
        if name in FREE:
            return {"type": "object"}
        properties = {key: of_defaults(key, inner) for key, inner in value.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties}
    if isinstance(value, list):
        items = {"type": "string"} if name in ("watchNamespaces", "imagePullSecrets") else {"type": "object"}
        return {"type": "array", "items": items}
    kinds = {bool: "boolean", int: "integer", str: "string"}
    return {"type": kinds[type(value)], **LIMITS.get(name, {})}


def operator_schema() -> Schema:
    """Of charts/rocketmq-operator, which Helm may also hand ``extraDeploy`` templates as text."""
    values = yaml.safe_load((CHARTS / "rocketmq-operator" / "values.yaml").read_text(encoding="utf-8"))
    return {"$schema": DIALECT, **of_defaults("", values)}


def cluster_schema() -> Schema:
    """Of charts/rocketmq-cluster: the CRDs' own schemas."""
    values = yaml.safe_load((CHARTS / "rocketmq-cluster" / "values.yaml").read_text(encoding="utf-8"))
    schema = {"$schema": DIALECT, **of_defaults("", values)}
    properties = schema["properties"]
    properties["spec"] = spec_schema("rocketmqclusters")
    properties["nameOverride"] = {"type": "string", "maxLength": 30, "pattern": "^([a-z]([-a-z0-9]*[a-z0-9])?)?$"}
    for name, plural in (("topics", "rocketmqtopics"), ("consumerGroups", "rocketmqconsumergroups")):
        inner = spec_schema(plural)
        del inner["properties"]["clusterRef"], inner["required"]
        properties[name] = {"type": "object", "additionalProperties": inner}
    properties["global"] = {"type": "object"}
    return schema


SCHEMAS = {"rocketmq-operator": operator_schema, "rocketmq-cluster": cluster_schema}


def text(chart: str) -> str:
    """The file's text."""
    return json.dumps(SCHEMAS[chart](), indent=2) + "\n"


if __name__ == "__main__":
    for chart in SCHEMAS:
        (CHARTS / chart / "values.schema.json").write_text(text(chart), encoding="utf-8")
