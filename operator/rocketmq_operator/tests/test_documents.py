"""Documents are accepted and refused as an API server would, in its words."""

from __future__ import annotations

import copy
import itertools
from decimal import Decimal
from typing import Any

import pytest
import yaml

from rocketmq_operator.documents import InvalidDocuments, parse_documents, validate_object
from rocketmq_operator.tests.test_model import MINIMAL


def document(**brokers: Any) -> dict[str, Any]:
    result = copy.deepcopy(MINIMAL)
    result["spec"]["brokers"].update(brokers)
    return result


def refusal(value: Any, old: Any = None) -> str:
    with pytest.raises(InvalidDocuments) as caught:
        validate_object(value, None if old is None else validate_object(old).defaulted)
    (problem,) = caught.value.problems
    return problem


def test_one_field_is_a_valid_cluster() -> None:
    cluster = validate_object(MINIMAL).cluster
    assert (cluster.name, cluster.namespace, cluster.spec.brokers.storage.size_bytes) == (
        "demo",
        "default",
        Decimal(2**30),
    )


def test_missing_size_is_a_required_value() -> None:
    value = copy.deepcopy(MINIMAL)
    value["spec"]["brokers"]["storage"] = {}
    text = refusal(value)
    assert text.startswith('The RocketMQCluster "demo" is invalid: ')
    assert "\n* spec.brokers.storage.size: Required value\n" in text
    assert "some validation rules were not checked because the object was invalid" in text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"replicaPerGroup": 3}, "spec.brokers.replicaPerGroup"),
        ({"storage": {"size": "1Gi", "class": "x"}}, "spec.brokers.storage.class"),
        ({"template": {"metadata": {"label": {}}}}, "spec.brokers.template.metadata.label"),
    ],
)
def test_unknown_field_is_named_with_its_path(change: dict[str, Any], field: str) -> None:
    assert refusal(document(**change)) == (
        'RocketMQCluster in version "v1alpha1" cannot be handled as a RocketMQCluster: '
        f'strict decoding error: unknown field "{field}"'
    )


def test_unknown_fields_are_all_named_at_once() -> None:
    value = document(a=1, b=2)
    assert refusal(value).endswith('unknown field "spec.brokers.a", unknown field "spec.brokers.b"')


def test_unknown_field_in_a_list_item_has_its_index() -> None:
    value = copy.deepcopy(MINIMAL)
    value["spec"]["imagePullSecrets"] = [{"name": "a"}, {"nam": "b"}]
    assert 'unknown field "spec.imagePullSecrets[1].nam"' in refusal(value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"groups": "two"},
            'spec.brokers.groups: Invalid value: "string": spec.brokers.groups in body must be of type integer: "string"',
        ),
        (
            {"groups": 0},
            "spec.brokers.groups: Invalid value: 0: spec.brokers.groups in body should be greater than or equal to 1",
        ),
        (
            {"replicasPerGroup": 10},
            "spec.brokers.replicasPerGroup: Invalid value: 10: spec.brokers.replicasPerGroup in body should be less than or "
            "equal to 9",
        ),
        ({"flush": "Later"}, 'spec.brokers.flush: Unsupported value: "Later": supported values: "Sync", "Async"'),
        (
            {"storage": {"size": "-1Gi"}},
            'spec.brokers.storage.size: Invalid value: "-1Gi": spec.brokers.storage.size in body should match '
            "'^[0-9]+(\\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$'",
        ),
        ({"storage": {"size": "1" * 33}}, "spec.brokers.storage.size: Too long: may not be more than 32 bytes"),
        (
            {"config": {"fileReservedTime": 72}},
            'spec.brokers.config.fileReservedTime: Invalid value: "integer": spec.brokers.config.fileReservedTime in body must be '
            'of type string: "integer"',
        ),
        (
            {"config": {f"k{n}": "v" for n in range(129)}},
            "spec.brokers.config: Too many: 129: must have at most 128 items",
        ),
        (
            {"resources": {"requests": {"cpu": True}}},
            'spec.brokers.resources.requests.cpu: Invalid value: "boolean": spec.brokers.resources.requests.cpu in body must be '
            'of type integer,string: "boolean"',
        ),
        (
            {"storage": {"size": "1Gi", "storageClassName": ""}},
            'spec.brokers.storage.storageClassName: Invalid value: "": spec.brokers.storage.storageClassName in body should be at '
            "least 1 chars long",
        ),
    ],
)
def test_schema_violation_has_the_words_of_the_api_server(change: dict[str, Any], message: str) -> None:
    assert message in refusal(document(**change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"minInSyncReplicas": 2},
            'spec.brokers: Invalid value: "object": minInSyncReplicas must not exceed replicasPerGroup',
        ),
        (
            {"storage": {"size": "1Gi", "type": "EmptyDir"}},
            'spec.brokers.storage: Invalid value: "object": type EmptyDir loses all messages with the Pod; set allowDataLoss to '
            "true to accept that",
        ),
        ({"storage": {"size": "0"}}, 'spec.brokers.storage.size: Invalid value: "string": size must be greater than 0'),
        (
            {"config": {"a=b\t": "c"}},
            'spec.brokers.config: Invalid value: "object": keys must be letters and digits and start with a letter',
        ),
    ],
)
def test_broken_rule_names_field_and_reason(change: dict[str, Any], message: str) -> None:
    assert refusal(document(**change)) == f'The RocketMQCluster "demo" is invalid: {message}'


def test_a_config_value_cannot_smuggle_in_a_second_key() -> None:
    assert "should match" in refusal(document(config={"fileReservedTime": "72\nlistenPort=1"}))


@pytest.mark.parametrize("key", ["listenPort", "brokerId", "namesrvAddr", "storePathRootDir"])
def test_a_key_of_the_operator_is_refused(key: str) -> None:
    text = refusal(document(config={key: "1"}))
    assert "spec.brokers.config" in text
    assert "the operator owns these keys, remove them" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({"size": "2Gi"}, {"size": "1Gi"}, "size may grow but never shrink"),
        ({"size": "1Gi"}, {"size": "1Gi", "storageClassName": "fast"}, "storageClassName is immutable"),
        ({"size": "1Gi"}, {"size": "1Gi", "type": "EmptyDir", "allowDataLoss": True}, "type is immutable"),
    ],
)
def test_forbidden_transition_is_refused(old: dict[str, Any], new: dict[str, Any], message: str) -> None:
    assert message in refusal(document(storage=new), document(storage=old))


def test_growth_is_allowed_across_units() -> None:
    old = validate_object(document(storage={"size": "1024Mi"})).defaulted
    assert validate_object(document(storage={"size": "1Gi"}), old).cluster.spec.brokers.storage.size == "1Gi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "RocketMQClutser"}, 'no matches for kind "RocketMQClutser" in version "rocketmqkube.dev/v1alpha1"'),
        ({"apiVersion": "v1"}, 'no matches for kind "RocketMQCluster" in version "v1"'),
        ({"kind": None}, "Object 'Kind' is missing"),
        ({"metadata": {}}, "metadata.name: Required value: name or generateName is required"),
        (
            {"metadata": {"name": "Demo_1"}},
            'metadata.name: Invalid value: "Demo_1": a lowercase RFC 1123 subdomain must consist',
        ),
        ({"metadata": {"name": "a" * 31}}, "metadata.name must be a DNS label of at most 30 characters"),
        ({"metadata": {"name": "a.b"}}, "metadata.name must be a DNS label of at most 30 characters"),
        ({"spec": None}, "spec: Required value"),
    ],
)
def test_wrong_envelope_is_named(change: dict[str, Any], message: str) -> None:
    assert message in refusal({**MINIMAL, **change})


def test_several_documents_are_read_and_every_bad_one_is_reported() -> None:
    good = yaml.safe_dump(MINIMAL)
    second = good.replace("demo", "other")
    assert [d.cluster.name for d in parse_documents(f"{good}---\n---\n{second}")] == ["demo", "other"]
    with pytest.raises(InvalidDocuments) as caught:
        parse_documents(f"{good}---\nkind: X\n---\n- 1\n")
    assert len(caught.value.problems) == 2


def test_the_same_name_twice_is_refused() -> None:
    text = yaml.safe_dump(MINIMAL)
    with pytest.raises(InvalidDocuments, match='"demo" already exists'):
        parse_documents(f"{text}---\n{text}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no objects found"),
        ("a: [", "error parsing cluster.yaml: yaml: line 1: "),
        ("spec:\n  a: 1\n  a: 2\n", 'line 3: key "a" already set in map'),
        (
            "apiVersion: rocketmqkube.dev/v1alpha1\nkind: RocketMQCluster\nmetadata: {name: a}\n"
            "spec: {brokers: {storage: {size: 1Gi}, template: {spec: &y {a: *y}}}}\n",
            "exceeded max depth of 100",
        ),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in itertools.pairwise("abcdefgh")),
            "excessive aliasing",
        ),
    ],
)
def test_text_that_is_no_document_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidDocuments) as caught:
        parse_documents(text, "cluster.yaml")
    assert message in str(caught.value)


def test_null_means_the_default() -> None:
    assert validate_object(document(groups=None)).cluster.spec.brokers.groups == 1


def test_validation_leaves_the_given_object_alone() -> None:
    value = document()
    before = copy.deepcopy(value)
    validate_object(value)
    assert value == before
