"""The structural validator agrees with a JSON Schema implementation on what is valid."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_operator.crd import Schema, cluster_schema, crd
from rocketmq_operator.structural import ANNOTATION_KEYWORDS, VALIDATION_KEYWORDS, violations, with_defaults


def _keywords(schema: Schema) -> set[str]:
    found = set(schema)
    for inner in schema.get("properties", {}).values():
        found |= _keywords(inner)
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            found |= _keywords(schema[name])
    return found


def test_the_validator_knows_every_keyword_of_the_schema() -> None:
    assert _keywords(cluster_schema()) <= ANNOTATION_KEYWORDS | VALIDATION_KEYWORDS


def test_every_field_of_the_spec_is_described_or_named_by_its_parent() -> None:
    def undescribed(schema: Schema, path: str) -> list[str]:
        missing = []
        for name, inner in schema.get("properties", {}).items():
            if inner.get("type") == "object" and "properties" in inner and "description" not in inner:
                missing.append(f"{path}.{name}")
            missing += undescribed(inner, f"{path}.{name}")
        return missing

    spec = cluster_schema()["properties"]["spec"]
    assert [p for p in undescribed(spec, "spec") if not p.endswith("template.metadata")] == []


def test_printer_columns_and_scale_point_at_fields_that_exist() -> None:
    (version,) = crd()["spec"]["versions"]
    paths = [c["jsonPath"] for c in version["additionalPrinterColumns"]]
    paths += [v for k, v in version["subresources"]["scale"].items() if k.endswith("Path")]
    for path in paths:
        node = cluster_schema()
        for name in path.removeprefix(".").split("."):
            if name == "metadata":
                break
            node = node["properties"][name]


SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.integers(-2, 200),
    st.booleans(),
    st.sampled_from(["", "1Gi", "Sync", "Async", "None", "x", "Retain", "EmptyDir", "1.0.0", "a\n", "1Gi\n"]),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["size", "name", "cpu"]), inner),
    max_leaves=4,
)


@st.composite
def specs(draw: st.DrawFn) -> Any:
    # Behind a composite, so that a failure does not print the strategy of the whole schema.
    return draw(_SPECS)


def _specs(schema: Schema) -> st.SearchStrategy[Any]:
    """Mostly well-shaped values of a schema with odd ones strewn in."""
    if "properties" in schema:
        shaped: st.SearchStrategy[Any] = st.fixed_dictionaries(
            {}, optional={name: _specs(inner) for name, inner in schema["properties"].items()}
        )
    elif isinstance(schema.get("additionalProperties"), dict):
        shaped = st.dictionaries(st.sampled_from(["a", "b"]), _specs(schema["additionalProperties"]), max_size=2)
    elif "enum" in schema:
        shaped = st.sampled_from(schema["enum"])
    elif schema.get("type") == "array":
        shaped = st.lists(_specs(schema["items"]), max_size=2)
    else:
        shaped = SCALARS
    return st.one_of(shaped, shaped, shaped, VALUES)


_SPECS = _specs(cluster_schema()["properties"]["spec"])


@settings(max_examples=150, deadline=None)
@given(specs())
def test_valid_means_the_same_as_in_json_schema(spec: Any) -> None:
    schema = cluster_schema()["properties"]["spec"]
    value = with_defaults(spec, schema)
    # JSON Schema's $ would match before a final newline in Python; the API server's does not.
    verdict = not _has_trailing_newline(value) and jsonschema.Draft202012Validator(schema).is_valid(value)
    ours = not list(violations(value, schema, "spec"))
    assert ours == verdict or _has_trailing_newline(value)


def _has_trailing_newline(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_trailing_newline(v) for v in value.values())
    if isinstance(value, list):
        return any(_has_trailing_newline(v) for v in value)
    return isinstance(value, str) and value.endswith("\n")


def test_a_pattern_does_not_match_before_a_final_newline() -> None:
    assert list(violations("a\n", {"type": "string", "pattern": "^a$"}, "x"))
    assert not list(violations("a", {"type": "string", "pattern": "^a$"}, "x"))
