"""The charts, as far as they can be judged without Helm: schemas, the roles' verbs, CRDs. Rendering is tested in e2e/kubernetes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rocketmq_operator.kube.resources import BY_KIND, SUBRESOURCES
from rocketmq_operator.tests import chart_schemas, reference_page

OPERATOR = chart_schemas.CHARTS / "rocketmq-operator"


def rules() -> list[dict[str, Any]]:
    """The rules of the operator's role, out of the chart's helper, which has no template directive inside."""
    text = (OPERATOR / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    match = re.search(r'define "rocketmq-operator\.rules" -}}\n(.*?){{- end', text, re.DOTALL)
    assert match is not None
    parsed: list[dict[str, Any]] = yaml.safe_load(match[1])
    return parsed


def granted(parsed: list[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    result: dict[tuple[str, str], set[str]] = {}
    for rule in parsed:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                result.setdefault((group, resource), set()).update(rule["verbs"])
    return result


def test_the_role_grants_exactly_what_the_operator_says_it_uses() -> None:
    used = {(r.group, r.plural): set(r.verbs) for r in (*BY_KIND.values(), *SUBRESOURCES)}
    assert granted(rules()) == used


def test_no_rule_has_a_wildcard_or_reaches_secrets() -> None:
    for rule in rules():
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert not {"secrets", "pods/exec", "nodes"} & set(rule["resources"])


@pytest.mark.parametrize("chart", chart_schemas.SCHEMAS)
def test_the_values_schema_is_the_generated_one(chart: str) -> None:
    written = (chart_schemas.CHARTS / chart / "values.schema.json").read_text(encoding="utf-8")
    assert written == chart_schemas.text(chart)


VALUES = [
    (chart, path)
    for chart in chart_schemas.SCHEMAS
    for path in [
        chart_schemas.CHARTS / chart / "values.yaml",
        *sorted((chart_schemas.CHARTS / chart / "ci").glob("*.yaml")),
    ]
]


@pytest.mark.parametrize(("chart", "path"), VALUES, ids=[f"{c}-{p.stem}" for c, p in VALUES])
def test_values_satisfy_the_schema(chart: str, path: Path) -> None:
    schema = json.loads(chart_schemas.text(chart))
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, schema)


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        ("rocketmq-operator", {"replicaCount": 0}),
        ("rocketmq-operator", {"replicas": 2}),
        ("rocketmq-operator", {"image": {"digest": "latest"}}),
        ("rocketmq-cluster", {"spec": {"brokers": {"replicaPerGroup": 2, "storage": {"size": "1Gi"}}}}),
        ("rocketmq-cluster", {"spec": {"brokers": {}}}),
        ("rocketmq-cluster", {"topics": {"a": {"perm": "rw"}}}),
        ("rocketmq-cluster", {"nameOverride": "A"}),
    ],
)
def test_wrong_values_are_refused(chart: str, values: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, json.loads(chart_schemas.text(chart)))


def test_the_operator_chart_carries_every_definition() -> None:
    carried = sorted(path.name for path in (OPERATOR / "files" / "crds").glob("*.yaml"))
    assert carried == sorted(path.name for path in (chart_schemas.REPOSITORY / "crds").glob("*.yaml"))
    assert len(carried) == 3


def test_versions_of_charts_and_package_are_one() -> None:
    project = (chart_schemas.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    assert match is not None
    for chart in chart_schemas.SCHEMAS:
        head = yaml.safe_load((chart_schemas.CHARTS / chart / "Chart.yaml").read_text(encoding="utf-8"))
        assert head["appVersion"] == match[1]


@pytest.mark.parametrize("folder", ["broker", "namesrv", "operator"])
def test_the_last_stage_of_an_image_has_no_build_tools_and_no_root(folder: str) -> None:
    text = (chart_schemas.REPOSITORY / folder / "Dockerfile").read_text(encoding="utf-8")
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)
    assert len(stages) == 3
    assert [stage.split()[0] for stage in stages[1:]] == ["${BUILD_IMAGE}", "${BASE_IMAGE}"]
    # Every installation is from a wheel that was just built, or checks hashes.
    assert all(
        "--require-hashes" in line or "--no-index" in line
        for line in stages[1].splitlines()
        if "install -" in line and "pip" in line and "apt" not in line
    )
    assert not re.search(r"\bpip\b|python3-dev|python3-venv|gcc|build-essential", stages[-1])
    assert re.search(r"^USER \d+:\d+$", stages[-1], re.MULTILINE)


@pytest.mark.parametrize(("part", "wanted"), [("server", False), ("operator", True), ("build", None)])
def test_images_install_what_the_project_needs_as_the_lock_has_it(part: str, wanted: bool | None) -> None:
    folder = chart_schemas.REPOSITORY / "requirements"
    pins = {
        path: re.findall(r"^([\w.-]+)==(\S+)", (folder / path).read_text(encoding="utf-8"), re.MULTILINE)
        for path in ("lock.txt", f"{part}.txt")
    }
    assert set(pins[f"{part}.txt"]) <= set(pins["lock.txt"])
    project = tomllib.loads((chart_schemas.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    needed = ["hatchling"] if wanted is None else list(project["project"]["dependencies"])
    if wanted:
        needed += project["project"]["optional-dependencies"]["operator"]
    names = {re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in needed}
    assert names <= {name for name, _ in pins[f"{part}.txt"]}


def test_the_reference_page_is_the_generated_one() -> None:
    assert reference_page.PAGE.read_text(encoding="utf-8") == reference_page.page()
