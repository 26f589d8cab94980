"""Manifests become processes: paths, ports, addresses and environment are local, everything else is as rendered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_common.settings import parse_java_properties
from rocketmq_operator.model import Listener, ListenerType, PodTemplate, ReplicationSecret, RocketMQCluster
from rocketmq_operator.render import render
from rocketmq_tools.embedded.directories import make_secret
from rocketmq_tools.embedded.interpret import interpret, port_requests
from rocketmq_tools.embedded.plan import ProcessPlan
from rocketmq_tools.embedded.ports import assign
from rocketmq_tools.embedded.tests.clusters_for_tests import cluster, fake_program
from rocketmq_tools.errors import CommandError


def plans(of: RocketMQCluster, tmp_path: Path, program_of: Any = list) -> dict[str, ProcessPlan]:
    manifests = render(of)
    ports = assign(port_requests(manifests), host="127.0.0.1", base=20000, free=lambda _host, _port: True)
    processes = interpret(manifests, ports=ports, host="127.0.0.1", volumes=tmp_path, program_of=program_of)
    return {p.name: p for p in processes}


def conf(plan: ProcessPlan) -> dict[str, str]:
    (text,) = plan.files.values()
    return parse_java_properties(text)


def test_each_replica_is_a_process_and_name_servers_come_first(tmp_path: Path) -> None:
    found = plans(cluster(servers=2, groups=2, replicas_per_group=2), tmp_path)
    assert list(found) == [
        "demo-namesrv-0",
        "demo-namesrv-1",
        "demo-b0-0",
        "demo-b0-1",
        "demo-b1-0",
        "demo-b1-1",
    ]


def test_the_command_is_the_manifests_with_the_configuration_file_where_it_is_here(tmp_path: Path) -> None:
    plan = plans(cluster(), tmp_path)["demo-b0-0"]
    (path,) = plan.files
    assert plan.program == ("rocketmq", "broker", "-c", path)
    assert Path(path).is_relative_to(tmp_path)


def test_brokers_get_the_local_addresses_of_all_name_servers(tmp_path: Path) -> None:
    found = plans(cluster(servers=3), tmp_path)
    expected = ";".join(found[f"demo-namesrv-{i}"].address("remoting") for i in range(3))
    assert conf(found["demo-b0-0"])["namesrvAddr"] == expected


def test_ports_and_addresses_in_the_configuration_are_local(tmp_path: Path) -> None:
    found = plans(cluster(groups=2), tmp_path)
    for name in ("demo-b0-0", "demo-b1-0"):
        values = conf(found[name])
        assert int(values["listenPort"]) == found[name].ports["remoting"]
        assert int(values["haListenPort"]) == found[name].ports["ha"]
        assert int(values["httpPort"]) == found[name].ports["http"]
        assert values["bindAddress"] == values["httpBindAddress"] == "127.0.0.1"
    assert "haListenPort" not in conf(found["demo-namesrv-0"])


def test_listeners_mean_nothing_where_everybody_is_on_one_machine(tmp_path: Path) -> None:
    of = cluster()
    listener = Listener(name="outside", type=ListenerType.NODE_PORT, port=9976)
    found = plans(msgspec.structs.replace(of, spec=msgspec.structs.replace(of.spec, listeners=(listener,))), tmp_path)
    assert "listeners" not in conf(found["demo-namesrv-0"])
    assert conf(found["demo-b0-0"])["listenerAddresses"] == ""


def test_the_store_lies_in_the_claim(tmp_path: Path) -> None:
    plan = plans(cluster(), tmp_path)["demo-b0-0"]
    assert plan.data_directory == str(tmp_path / "claims" / "data-demo-b0-0")
    assert conf(plan)["storePathRootDir"] == plan.store_directory == f"{plan.data_directory}/store"
    assert plan.data_directory in plan.directories


def test_broker_id_is_the_pod_index_and_decides_the_role(tmp_path: Path) -> None:
    found = plans(cluster(replicas_per_group=2), tmp_path)
    master, slave = found["demo-b0-0"], found["demo-b0-1"]
    assert (master.environment["ROCKETMQ_BROKER_ID"], slave.environment["ROCKETMQ_BROKER_ID"]) == ("0", "1")
    assert (master.broker_role, slave.broker_role) == ("SYNC_MASTER", "SLAVE")
    assert master.broker_name == slave.broker_name == "demo-b0"


def test_advertised_addresses_are_loopback(tmp_path: Path) -> None:
    environment = plans(cluster(), tmp_path)["demo-b0-0"].environment
    assert environment["ROCKETMQ_BROKER_IP1"] == environment["ROCKETMQ_BROKER_IP2"] == "127.0.0.1"


def test_probes_look_at_the_local_port_with_the_manifests_timing(tmp_path: Path) -> None:
    plan = plans(cluster(), tmp_path)["demo-b0-0"]
    assert plan.readiness is not None
    assert plan.liveness is not None
    assert plan.readiness.port == plan.liveness.port == plan.ports["http"]
    assert (plan.readiness.path, plan.liveness.path) == ("/readyz", "/healthz")
    assert plan.liveness.period_s == 10


def with_template(spec: dict[str, Any]) -> RocketMQCluster:
    return cluster(template=PodTemplate(spec=spec))


def test_variables_of_the_users_template_are_expanded_as_in_kubernetes(tmp_path: Path) -> None:
    entries = [
        {"name": "A", "value": "$(POD_NAME)/$$(POD_NAME)/$(NOBODY)"},
        {"name": "B", "value": "demo-namesrv.default.svc:9876"},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['x']"}}},
        {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    of = cluster(
        template=msgspec.convert(
            {"metadata": {"annotations": {"x": "y"}}, "spec": {"containers": [{"name": "broker", "env": entries}]}},
            PodTemplate,
        )
    )
    plan = plans(of, tmp_path)["demo-b0-0"]
    assert plan.environment["A"] == "demo-b0-0/$(POD_NAME)/$(NOBODY)"
    assert plan.environment["B"] == "127.0.0.1:20000"
    assert (plan.environment["C"], plan.environment["D"]) == ("y", "127.0.0.1")


@pytest.mark.parametrize(
    "spec",
    [
        {
            "containers": [
                {"name": "broker", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
            ]
        },
        {
            "containers": [
                {"name": "broker", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}
            ]
        },
        {"containers": [{"name": "broker", "command": ["/bin/sh"]}]},
    ],
)
def test_what_a_process_cannot_have_is_an_error_that_names_the_pod(tmp_path: Path, spec: dict[str, Any]) -> None:
    from rocketmq_tools.embedded.launch import program_of

    with pytest.raises(CommandError, match="demo-b0-0 cannot run on this machine"):
        plans(with_template(spec), tmp_path, program_of)


def test_a_sidecar_is_left_out(tmp_path: Path) -> None:
    of = with_template({"containers": [{"name": "sidecar", "image": "x"}]})
    assert list(plans(of, tmp_path, fake_program)) == ["demo-namesrv-0", "demo-b0-0"]


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = plans(cluster(), tmp_path)["demo-b0-0"]
    assert msgspec.json.decode(msgspec.json.encode(plan), type=ProcessPlan) == plan


def test_replicas_share_a_secret_that_is_made_once_and_is_their_owners_alone(tmp_path: Path) -> None:
    of = cluster(replicas_per_group=2, replication_secret=ReplicationSecret(name="shared"))
    first, second = (plans(of, tmp_path)[name] for name in ("demo-b0-0", "demo-b0-1"))
    (path,) = first.secret_files
    assert second.secret_files == (path,)
    assert conf(first)["haSecretFile"] == conf(second)["haSecretFile"] == path
    assert str(Path(path).parent) in first.directories
    Path(path).parent.mkdir(parents=True)
    make_secret(Path(path))
    content = Path(path).read_bytes()
    assert len(content) > 32
    assert Path(path).stat().st_mode & 0o777 == 0o600
    make_secret(Path(path))
    assert Path(path).read_bytes() == content
    assert [file.name for file in Path(path).parent.iterdir()] == ["secret"]
