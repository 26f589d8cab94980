"""The golden files of `test_render`: which documents they are rendered from, and how they are written anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rocketmq_operator.documents import parse_documents
from rocketmq_operator.render import render

NAMES = ("one-field", "full")
DIRECTORY = Path(__file__).parent / "golden"


def path(name: str) -> Path:
    return DIRECTORY / f"{name}.manifests.yaml"


def rendered(name: str) -> str:
    document = (DIRECTORY / f"{name}.cluster.yaml").read_text(encoding="utf-8")
    (parsed,) = parse_documents(document, name)
    return yaml.dump_all(render(parsed.cluster), Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Reviewable YAML: no anchors, text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)

if __name__ == "__main__":
    for each in NAMES:
        path(each).write_text(rendered(each), encoding="utf-8")
