"""The CustomResourceDefinition of RocketMQCluster, as data.

The YAML file is the one truth on fields, defaults and rules: Kubernetes gets it as it is, and validation without Kubernetes reads
the same schema. In a wheel the file lies inside this package; in an editable install in the repository's ``crds/``.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

GROUP = "rocketmqkube.dev"
VERSION = "v1alpha1"
KIND = "RocketMQCluster"
API_VERSION = f"{GROUP}/{VERSION}"

Schema = dict[str, Any]


def crd_text() -> str:
    """The definition as YAML; raises FileNotFoundError saying where it was looked for."""
    name = f"rocketmqclusters.{GROUP}.yaml"
    packaged = resources.files("rocketmq_operator") / "crds" / name
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    repository = Path(__file__).resolve().parents[2] / "crds" / name
    if repository.is_file():
        return repository.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name} is neither in the package ({packaged}) nor in the repository ({repository})")


def load_yaml(text: str) -> Any:
    """One YAML document through libyaml when it is there (ten times faster than the Python parser)."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@cache
def crd() -> dict[str, Any]:
    """The definition, parsed once; callers must not change it."""
    definition: dict[str, Any] = load_yaml(crd_text())
    return definition


@cache
def cluster_schema() -> Schema:
    """The structural schema of one RocketMQCluster object."""
    (version,) = (v for v in crd()["spec"]["versions"] if v["name"] == VERSION)
    schema: Schema = version["schema"]["openAPIV3Schema"]
    return schema


def schema_at(path: tuple[str, ...]) -> Schema:
    """The schema of the field at ``path``, for example ``("spec", "brokers")``; raises KeyError."""
    node = cluster_schema()
    for name in path:
        node = node["properties"][name]
    return node
