"""docs/operator-reference.md: the fields of our kinds, from the CRDs.

``python -m rocketmq_operator.tests.reference_page`` rewrites the page; a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from rocketmq_operator.crd import GROUP, VERSION, Schema
from rocketmq_operator.tests.chart_schemas import REPOSITORY

PAGE = REPOSITORY / "docs" / "operator-reference.md"
HEAD = f"""# Reference: `{GROUP}/{VERSION}`

Made from the CRDs in `crds/` by `python -m rocketmq_operator.tests.reference_page`; `kubectl explain` shows the same.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for path in sorted((REPOSITORY / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        (version,) = (v for v in definition["spec"]["versions"] if v["name"] == VERSION)
        schema = version["schema"]["openAPIV3Schema"]
        names = definition["spec"]["names"]
        short = ", ".join(f"`{name}`" for name in names.get("shortNames", ()))
        parts.append(f"## {names['kind']}\n\nShort name {short}. {schema['description']}\n")
        for part in ("spec", "status"):
            rows = list(_rows(schema["properties"][part], part))
            parts.append("| field | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
        rules = [f"* `{at or 'the object'}`: {text}" for at, text in _rules(schema, "")]
        parts.append("Refused by the API server:\n\n" + "\n".join(rules) + "\n")
    return "\n".join(parts)


def _rows(schema: Schema, path: str) -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        at = f"{path}.{name}"
        needed = " **required**" if name in schema.get("required", ()) else ""
        default = "" if "default" not in inner or inner.get("properties") else f"`{json.dumps(inner['default'])}`"
        text = str(inner.get("description", "")).replace("|", "\\|").replace("\n", " ")
        yield f"| `{at}` | {_type(inner)}{needed} | {default} | {text} |"
        yield from _rows(inner, at)
        if inner.get("type") == "array":
            yield from _rows(inner["items"], f"{at}[]")


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return " \\| ".join(map(str, schema["enum"]))
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(schema.get("type", "any")), *bounds])


def _rules(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path, " ".join(rule["message"].split())
    for name, inner in schema.get("properties", {}).items():
        yield from _rules(inner, f"{path}.{name}" if path else name)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
