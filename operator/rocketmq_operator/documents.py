"""RocketMQCluster documents: from YAML text to the model, refused with the messages of the API server.

Used where no API server is in between (the embedded runtime, tests). `InvalidDocuments` carries one message per bad document,
worded as kubectl prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from rocketmq_operator.crd import API_VERSION, GROUP, KIND, VERSION, cluster_schema
from rocketmq_operator.model import RocketMQCluster, cluster_from_object
from rocketmq_operator.rules import broken_rules
from rocketmq_operator.structural import is_blocking, quote, unknown_fields, violations, with_defaults

DOCUMENT_SIZE_MAX = 1536 * 1024  # bytes; what etcd accepts for one object
DOCUMENT_COUNT_MAX = 100
NODE_COUNT_MAX = 200_000  # values in one document, aliases counted as often as they are used
DEPTH_MAX = 100

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_RULES_SKIPPED = (
    "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


class InvalidDocuments(ValueError):
    """Documents that an API server would refuse; ``problems`` has one message per document."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Document(NamedTuple):
    """A valid document: the defaulted object and its model."""

    defaulted: dict[str, Any]
    cluster: RocketMQCluster


def parse_documents(text: str, source: str = "<stdin>") -> list[Document]:
    """Every RocketMQCluster of a YAML or JSON stream. Raises InvalidDocuments."""
    if len(text) > DOCUMENT_SIZE_MAX * 4:
        raise InvalidDocuments([f"{source}: {len(text)} bytes, at most {DOCUMENT_SIZE_MAX * 4} are read"])
    try:
        loaded = [d for d in yaml.load_all(text, Loader=_UniqueKeyLoader) if d is not None]
    except yaml.YAMLError as error:
        raise InvalidDocuments([f"error parsing {source}: {_yaml_problem(error)}"]) from error
    except RecursionError as error:
        raise InvalidDocuments([f"error parsing {source}: nested too deeply"]) from error
    if not loaded:
        raise InvalidDocuments([f"{source}: no objects found; write a {KIND} with apiVersion {API_VERSION}"])
    if len(loaded) > DOCUMENT_COUNT_MAX:
        raise InvalidDocuments([f"{source}: {len(loaded)} documents, at most {DOCUMENT_COUNT_MAX} are read"])
    problems: list[str] = []
    documents: list[Document] = []
    for document in loaded:
        try:
            _check_extent(document, source)
            documents.append(validate_object(document))
        except InvalidDocuments as invalid:
            problems += invalid.problems
    for name in _repeated(documents):
        problems.append(f'rocketmqclusters.{GROUP} "{name}" already exists')
    if problems:
        raise InvalidDocuments(problems)
    return documents


def validate_object(document: Any, old: dict[str, Any] | None = None) -> Document:
    """Default and check one object; ``old`` is the defaulted object that it replaces. Raises InvalidDocuments."""
    if not isinstance(document, dict):
        raise InvalidDocuments([f"an object was expected, not {quote(document)[:80]}"])
    kind, api_version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        raise InvalidDocuments(["Object 'Kind' is missing: write kind: " + KIND])
    if not isinstance(api_version, str) or not api_version:
        raise InvalidDocuments(["Object 'apiVersion' is missing: write apiVersion: " + API_VERSION])
    if (kind, api_version) != (KIND, API_VERSION):
        raise InvalidDocuments(
            [f'no matches for kind "{kind}" in version "{api_version}" (known: {KIND} in {API_VERSION})']
        )
    unknown = [f'unknown field "{path}"' for path in unknown_fields(document, cluster_schema())]
    if unknown:
        prefix = f'{KIND} in version "{VERSION}" cannot be handled as a {KIND}: strict decoding error: '
        raise InvalidDocuments([prefix + ", ".join(unknown)])
    metadata_problems = list(_metadata_problems(document.get("metadata")))
    if metadata_problems:
        raise InvalidDocuments([_refusal(document, metadata_problems)])
    defaulted: dict[str, Any] = with_defaults(document, cluster_schema())
    problems = list(violations(defaulted, cluster_schema()))
    if any(map(is_blocking, problems)):
        raise InvalidDocuments([_refusal(document, [*problems, _RULES_SKIPPED])])
    problems += broken_rules(defaulted, old)
    if problems:
        raise InvalidDocuments([_refusal(document, problems)])
    return Document(defaulted, cluster_from_object(defaulted))


def _check_extent(document: Any, source: str) -> None:
    """Refuse what aliases blow up: a value that contains itself, or a few lines that stand for millions of nodes."""
    level, count = [document], 0
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for node in level
            if isinstance(node, dict | list)
            for inner in (node.values() if isinstance(node, dict) else node)
        ]
        count += len(level)
        if count > NODE_COUNT_MAX:
            raise InvalidDocuments([f"error parsing {source}: yaml: document contains excessive aliasing"])
        if not level:
            return
    raise InvalidDocuments([f"error parsing {source}: yaml: exceeded max depth of {DEPTH_MAX}"])


def _metadata_problems(metadata: Any) -> Iterator[str]:
    if not isinstance(metadata, dict) or metadata.get("name") in (None, ""):
        yield "metadata.name: Required value: name or generateName is required"
        return
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    if not isinstance(name, str) or len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield (
            f"metadata.name: Invalid value: {quote(name)}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
            "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            f"validation is '{_SUBDOMAIN.pattern}')"
        )
    if not isinstance(namespace, str) or len(namespace) > 63 or not _LABEL.fullmatch(namespace):
        yield (
            f"metadata.namespace: Invalid value: {quote(namespace)}: a lowercase RFC 1123 label must consist of lower case "
            "alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name', or "
            f"'123-abc', regex used for validation is '{_LABEL.pattern}')"
        )


def _refusal(document: dict[str, Any], problems: list[str]) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    head = f'The {KIND} "{name}" is invalid: '
    return head + problems[0] if len(problems) == 1 else head + "".join(f"\n* {problem}" for problem in problems)


def _repeated(documents: list[Document]) -> list[str]:
    seen: set[tuple[str, str]] = set()
    repeated = []
    for _, cluster in documents:
        key = (cluster.namespace, cluster.name)
        if key in seen:
            repeated.append(cluster.name)
        seen.add(key)
    return repeated


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a key given twice is an error, and dates and the like stay text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f'key "{key_node.value}" already set in map', key_node.start_mark
                    )
                seen.add(key_node.value)
        return {_key(key): value for key, value in super().construct_mapping(node, deep=deep).items()}


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return "true" if key is True else "false" if key is False else str(key)


# JSON has no dates: Kubernetes keeps them as text.
_UniqueKeyLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml_problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        return f"yaml: {line}{error.problem or error.context}"
    return f"yaml: {str(error).splitlines()[0]}"
