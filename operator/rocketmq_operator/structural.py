"""A structural schema applied to an object, with the API server's behaviour and words.

Three passes, in the API server's order: unknown fields (strict decoding), defaults with pruning of nulls, then types and bounds.
Only the keywords are known that a structural schema of ours uses; an unknown one is an error of the CRD and is refused by a test.
Source of the wording: Kubernetes' strict field validation, field errors, and go-openapi's validation messages.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from rocketmq_operator.crd import Schema

# Annotations, and keywords that `rocketmq_operator.rules` or the API machinery look at.
ANNOTATION_KEYWORDS = {
    "description",
    "format",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}
VALIDATION_KEYWORDS = {
    "additionalProperties",
    "anyOf",
    "default",
    "enum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
}

_WRONG_TYPE = " in body must be of type "


def unknown_fields(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Paths of fields that the schema does not have, in document order."""
    if isinstance(value, dict):
        if schema.get("x-kubernetes-preserve-unknown-fields") or (path == "metadata"):
            return
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        for name, inner in value.items():
            at = join(path, str(name))
            if name in properties:
                yield from unknown_fields(inner, properties[name], at)
            elif extra is None:
                yield at
            elif isinstance(extra, dict):
                yield from unknown_fields(inner, extra, at)
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from unknown_fields(item, schema["items"], f"{path}[{index}]")


def pruned(value: Any, schema: Schema) -> Any:
    """A copy of ``value`` without the fields that the schema does not have, as the API server stores it."""
    if isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        if not properties and extra is None:
            return value
        return {
            name: pruned(inner, properties.get(name, extra if isinstance(extra, dict) else {}))
            for name, inner in value.items()
            if name in properties or extra is not None
        }
    if isinstance(value, list):
        return [pruned(item, schema.get("items", {})) for item in value]
    return value


def with_defaults(value: Any, schema: Schema) -> Any:
    """A copy of ``value`` with the schema's defaults filled in and nulls dropped; ``value`` stays as it is."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        keeps_all = schema.get("x-kubernetes-preserve-unknown-fields")
        result = {}
        for name, inner in value.items():
            inner_schema = properties.get(name, extra if isinstance(extra, dict) else {})
            if inner is None and not keeps_all:
                continue
            result[name] = copy.deepcopy(inner) if keeps_all else with_defaults(inner, inner_schema)
        for name, inner_schema in properties.items():
            if name not in result and "default" in inner_schema:
                result[name] = with_defaults(copy.deepcopy(inner_schema["default"]), inner_schema)
        return result
    if isinstance(value, list):
        return [with_defaults(item, schema.get("items", {})) for item in value]
    return value


def violations(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """What the schema forbids in a defaulted ``value``, one ``path: kind: detail`` each."""
    if schema.get("x-kubernetes-int-or-string"):
        if type_name(value) not in ("integer", "string"):
            # Three complaints about one value: so does the API server, which checks the type and then each way of anyOf.
            yield _wrong_type(path, value, "integer,string")
            yield f'<nil>: Invalid value: "": "{path}" must validate at least one schema (anyOf)'
            yield _wrong_type(path, value, "integer")
            return
    elif "type" in schema and not _has_type(value, schema["type"]):
        yield _wrong_type(path, value, schema["type"])
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(quote(v) for v in schema["enum"])
        yield f"{path}: Unsupported value: {quote(value)}: supported values: {supported}"
    if isinstance(value, str):
        yield from _text_violations(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield _invalid(path, value, f"should be greater than or equal to {schema['minimum']}")
        if "maximum" in schema and value > schema["maximum"]:
            yield _invalid(path, value, f"should be less than or equal to {schema['maximum']}")
    elif isinstance(value, dict):
        yield from _object_violations(value, schema, path)
    elif isinstance(value, list):
        if len(value) > schema.get("maxItems", len(value)):
            yield f"{path}: Too many: {len(value)}: must have at most {schema['maxItems']} items"
        for index, item in enumerate(value):
            yield from violations(item, schema.get("items", {}), f"{path}[{index}]")


def is_blocking(violation: str) -> bool:
    """Whether the API server leaves the CEL rules unchecked because of it: they could not be evaluated safely."""
    kind = violation.partition(": ")[2]
    return kind.startswith(("Required value", "Unsupported value", "Too long", "Too many")) or _WRONG_TYPE in kind


def _text_violations(value: str, schema: Schema, path: str) -> Iterator[str]:
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{path}: Too long: may not be more than {schema['maxLength']} bytes"
    if len(value) < schema.get("minLength", 0):
        yield _invalid(path, value, f"should be at least {schema['minLength']} chars long")
    if "pattern" in schema and not _pattern(schema["pattern"]).search(value):
        yield _invalid(path, value, f"should match '{schema['pattern']}'")


def _object_violations(value: dict[str, Any], schema: Schema, path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    if len(value) > schema.get("maxProperties", len(value)):
        yield f"{path}: Too many: {len(value)}: must have at most {schema['maxProperties']} items"
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{join(path, name)}: Required value"
    for name, inner in value.items():
        if name in properties:
            yield from violations(inner, properties[name], join(path, name))
        elif isinstance(extra, dict):
            yield from violations(inner, extra, join(path, name))


@lru_cache(maxsize=64)
def _pattern(pattern: str) -> re.Pattern[str]:
    # Go's $ matches at the very end only; Python's also before a final newline.
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)


def join(path: str, name: str) -> str:
    """``path.name``, the way field errors spell it."""
    return f"{path}.{name}" if path else name


def quote(value: Any) -> str:
    """A value the way field errors print it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def type_name(value: Any) -> str:
    """The JSON type of a value, as go-openapi names it."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    names = {str: "string", dict: "object", list: "array", type(None): "null"}
    return names.get(type(value), "string")


def _has_type(value: Any, wanted: str) -> bool:
    actual = type_name(value)
    return actual == wanted or (wanted == "number" and actual == "integer")


def _wrong_type(path: str, value: Any, wanted: str) -> str:
    actual = quote(type_name(value))
    return f"{path}: Invalid value: {actual}: {path}{_WRONG_TYPE}{wanted}: {actual}"


def _invalid(path: str, value: Any, detail: str) -> str:
    return f"{path}: Invalid value: {quote(value)}: {path} in body {detail}"
