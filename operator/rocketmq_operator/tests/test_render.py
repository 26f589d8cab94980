"""Rendered manifests: reviewed golden files, and what must hold for every cluster.

After an intended change: ``python -m rocketmq_operator.tests.golden_files`` rewrites the files; review the difference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_operator import config, labels
from rocketmq_operator.crd import cluster_schema
from rocketmq_operator.documents import parse_documents
from rocketmq_operator.model import (
    Brokers,
    ClusterSpec,
    NameServers,
    NetworkPolicy,
    Replication,
    ReplicationSecret,
    RocketMQCluster,
    Storage,
    StorageType,
)
from rocketmq_operator.render import CREATION_ORDER, render
from rocketmq_operator.rules import OWNED_BROKER_KEYS, OWNED_NAMESRV_KEYS
from rocketmq_operator.tests import golden_files

CLUSTERS = st.builds(
    lambda name, servers, groups, replicas, kind, replication: RocketMQCluster(
        name=name,
        namespace="mq",
        spec=ClusterSpec(
            name_servers=NameServers(replicas=servers),
            brokers=Brokers(
                groups=groups,
                replicas_per_group=replicas,
                replication=replication,
                storage=Storage(size="1Gi", type=kind, allow_data_loss=True),
            ),
        ),
    ),
    st.sampled_from(["a", "orders", "a" * 30]),
    st.integers(1, 9),
    st.sampled_from([1, 2, 11, 100]),
    st.integers(1, 3),
    st.sampled_from(StorageType),
    st.sampled_from(Replication),
)


@pytest.mark.parametrize("name", golden_files.NAMES)
def test_manifests_equal_the_reviewed_file(name: str) -> None:
    assert golden_files.rendered(name) == golden_files.path(name).read_text(encoding="utf-8")


def by_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [m for m in manifests if m["kind"] == kind]


@settings(max_examples=25, deadline=None)
@given(CLUSTERS)
def test_every_cluster_is_rendered_consistently(cluster: RocketMQCluster) -> None:
    manifests = render(cluster)
    assert manifests == render(cluster)
    kinds = [CREATION_ORDER.index(m["kind"]) for m in manifests]
    assert kinds == sorted(kinds)
    identities = [(m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(set(identities)) == len(identities)
    for kind, name in identities:
        limit = (
            52 if kind == "StatefulSet" else 63
        )  # the controller's revision hash is appended to a StatefulSet's name
        assert len(name) <= limit
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    config_maps = {m["metadata"]["name"]: m for m in by_kind(manifests, "ConfigMap")}
    services = {m["metadata"]["name"]: m for m in by_kind(manifests, "Service")}
    for stateful_set in by_kind(manifests, "StatefulSet"):
        spec = stateful_set["spec"]
        pod = spec["template"]
        wanted = spec["selector"]["matchLabels"]
        assert wanted.items() <= pod["metadata"]["labels"].items()
        assert services[spec["serviceName"]]["spec"]["clusterIP"] == "None"
        volumes = {v["name"] for v in pod["spec"]["volumes"]} | {
            c["metadata"]["name"] for c in spec.get("volumeClaimTemplates", ())
        }
        (container,) = pod["spec"]["containers"]
        assert {m["name"] for m in container["volumeMounts"]} == volumes
        (volume,) = (v for v in pod["spec"]["volumes"] if v["name"] == "config")
        (file_name,) = config_maps[volume["configMap"]["name"]]["data"]
        assert container["command"][-1] == f"{config.CONFIG_DIRECTORY}/{file_name}"
        ports = {p["name"] for p in container["ports"]}
        for index in range(spec["replicas"]):
            service = services[f"{stateful_set['metadata']['name']}-{index}"]
            assert service["spec"]["selector"] == {**wanted, labels.POD_NAME: service["metadata"]["name"]}
            assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


@settings(max_examples=25, deadline=None)
@given(CLUSTERS)
def test_brokers_know_every_name_server_by_an_address_that_is_rendered(cluster: RocketMQCluster) -> None:
    manifests = render(cluster)
    services = {f"{m['metadata']['name']}.{m['metadata']['namespace']}.svc": m for m in by_kind(manifests, "Service")}
    for group in range(cluster.spec.brokers.groups):
        addresses = config.broker_conf(cluster, group)["namesrvAddr"].split(";")
        assert len(addresses) == cluster.spec.name_servers.replicas
        for address in addresses:
            host, _, port = address.partition(":")
            assert int(port) in {p["port"] for p in services[host]["spec"]["ports"]}


def small(**brokers: Any) -> RocketMQCluster:
    return RocketMQCluster(name="demo", spec=ClusterSpec(brokers=Brokers(storage=Storage(size="1Gi"), **brokers)))


def test_name_server_scaling_and_retention_do_not_restart_brokers() -> None:
    def hashes(servers: int, hours: str) -> list[str]:
        cluster = small(config={"fileReservedTime": hours})
        cluster = msgspec.structs.replace(
            cluster, spec=msgspec.structs.replace(cluster.spec, name_servers=NameServers(replicas=servers))
        )
        return [
            m["spec"]["template"]["metadata"]["annotations"][labels.CONFIG_HASH_ANNOTATION]
            for m in by_kind(render(cluster), "StatefulSet")
        ]

    assert hashes(2, "72") == hashes(5, "48")


def test_a_changed_key_restarts_brokers() -> None:
    def broker_hash(value: str) -> str:
        return config.restart_hash(config.broker_conf(small(config={"maxMessageSize": value}), 0))

    assert broker_hash("1") != broker_hash("2")


def test_another_number_of_replicas_restarts_brokers_because_acknowledgements_change() -> None:
    def broker_hash(replicas: int) -> str:
        return config.restart_hash(config.broker_conf(small(replicas_per_group=replicas), 0))

    assert broker_hash(1) != broker_hash(2)


def test_the_operators_keys_are_the_ones_that_users_may_not_set() -> None:
    # Keys of identity that come from the environment or must stay at their defaults are refused too.
    assert set(config.broker_conf(small(), 0)) <= set(OWNED_BROKER_KEYS)
    assert set(config.namesrv_conf(small())) <= set(OWNED_NAMESRV_KEYS)


@pytest.mark.parametrize(
    ("replication", "replicas", "role", "in_sync"),
    [("Sync", 3, "SYNC_MASTER", "3"), ("Async", 3, "ASYNC_MASTER", "1"), ("Sync", 1, "SYNC_MASTER", "1")],
)
def test_replication_decides_role_and_acknowledgements(
    replication: str, replicas: int, role: str, in_sync: str
) -> None:
    values = config.broker_conf(small(replication=Replication(replication), replicas_per_group=replicas), 0)
    assert (values["brokerRole"], values["inSyncReplicas"], values["totalReplicas"]) == (role, in_sync, str(replicas))


def test_owner_is_set_exactly_when_the_cluster_lives_in_kubernetes() -> None:
    cluster = small()
    assert all("ownerReferences" not in m["metadata"] for m in render(cluster))
    owned = render(msgspec.structs.replace(cluster, uid="u-1"))
    assert all(m["metadata"]["ownerReferences"][0]["uid"] == "u-1" for m in owned)
    claims = [c for m in by_kind(owned, "StatefulSet") for c in m["spec"].get("volumeClaimTemplates", ())]
    assert claims
    assert all("ownerReferences" not in c["metadata"] for c in claims)


def test_pods_satisfy_the_restricted_pod_security_standard() -> None:
    for stateful_set in by_kind(render(small()), "StatefulSet"):
        pod = stateful_set["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["readOnlyRootFilesystem"] is True
        assert all(set(v) & {"hostPath"} == set() for v in pod["volumes"])


def test_manifests_are_plain_yaml_with_quoted_text() -> None:
    manifests = render(small(config={"fileReservedTime": "72"}))
    assert list(yaml.safe_load_all(yaml.safe_dump_all(manifests))) == manifests


EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[p.stem for p in EXAMPLES])
def test_every_example_is_valid_and_renders(example: Path) -> None:
    for document in parse_documents(example.read_text(encoding="utf-8"), example.name):
        assert by_kind(render(document.cluster), "StatefulSet")


def test_there_are_examples() -> None:
    assert {"minimal", "demo", "production"} <= {p.stem for p in EXAMPLES}


def test_crd_defaults_render_without_any_field_of_the_users() -> None:
    assert "default" in cluster_schema()["properties"]["spec"]["properties"]["nameServers"]
    assert len(by_kind(render(small()), "StatefulSet")) == 2


def test_replication_is_for_the_brokers_of_a_group_alone() -> None:
    (policy,) = (p for p in by_kind(render(small()), "NetworkPolicy") if p["metadata"]["name"] == "demo-b0")
    rules = {port["port"]: rule.get("from") for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert rules[10911] is None
    assert rules[10912] == [{"podSelector": policy["spec"]["podSelector"]}]


def test_named_clients_and_the_operator_are_the_only_clients() -> None:
    cluster = small()
    team = {"namespaceSelector": {"matchLabels": {"team": "orders"}}}
    spec = msgspec.structs.replace(cluster.spec, network_policy=NetworkPolicy(clients=(team,)))
    policies = by_kind(render(msgspec.structs.replace(cluster, spec=spec)), "NetworkPolicy")
    for policy in policies:
        peers = policy["spec"]["ingress"][0]["from"]
        assert peers[0] == team
        assert any(p.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") for p in peers[1:])
    off = msgspec.structs.replace(cluster.spec, network_policy=NetworkPolicy(enabled=False))
    assert by_kind(render(msgspec.structs.replace(cluster, spec=off)), "NetworkPolicy") == []


def test_the_replication_secret_is_a_file_that_brokers_read_and_the_operator_never_sees() -> None:
    brokers = Brokers(storage=Storage(size="1Gi"), replicas_per_group=2)
    plain = RocketMQCluster(name="a", spec=ClusterSpec(brokers=brokers))
    secret = ReplicationSecret(name="shared", key="replication")
    guarded = RocketMQCluster(
        name="a", spec=ClusterSpec(brokers=msgspec.structs.replace(brokers, replication_secret=secret))
    )
    assert "haSecretFile" not in yaml.safe_dump_all(render(plain))
    (stateful_set,) = (m for m in render(guarded) if m["kind"] == "StatefulSet" and m["metadata"]["name"] == "a-b0")
    spec = stateful_set["spec"]["template"]["spec"]
    (volume,) = (v for v in spec["volumes"] if "secret" in v)
    assert volume["secret"]["secretName"] == "shared"
    assert volume["secret"]["items"] == [{"key": "replication", "path": "secret"}]
    # Read by the group that Pods run as, and by nobody else.
    assert volume["secret"]["defaultMode"] == 0o440
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == volume["name"])
    assert mount["readOnly"]
    values = config.broker_conf(guarded, 0)
    assert values["haSecretFile"] == f"{mount['mountPath']}/secret"
    assert values["haAuthenticationRequired"] == "true"
    assert not any(m["kind"] == "Secret" for m in render(guarded))
