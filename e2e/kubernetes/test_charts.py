"""The charts rendered and installed by Helm itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kubernetes.binaries import VERSION, program
from e2e.kubernetes.conftest import CRDS, REQUIRE, eventually, status_of
from e2e.kubernetes.control_plane import ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from e2e.kubernetes.test_api_server import running, versions
from e2e.toolchain import ToolMissing
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import CLUSTERS, TOPICS
from rocketmq_operator.tests.test_charts import granted, rules

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(180)]

CHARTS = Path(__file__).parents[2] / "charts"


@pytest.fixture(scope="session")
def helm() -> str:
    try:
        return program("helm")
    except ToolMissing as missing:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{missing} ({REQUIRE}=1 allows no skip)")
        pytest.skip(str(missing))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def rendered(helm: str, chart: str, values: Path | None = None, *options: str) -> list[dict[str, Any]]:
    given = ("-f", str(values)) if values else ()
    text = run(
        helm, "template", "demo", str(CHARTS / chart), "-n", "mq", "--kube-version", VERSION, *given, *options
    )  # fmt: skip
    return [document for document in yaml.safe_load_all(text) if document]


VALUES = sorted(CHARTS.glob("*/ci/*-values.yaml"))


@pytest.mark.parametrize("values", VALUES, ids=[f"{p.parents[1].name}-{p.stem}" for p in VALUES])
def test_a_chart_passes_lint_and_renders_objects_with_names_and_labels(helm: str, values: Path) -> None:
    chart = values.parents[1]
    run(helm, "lint", "--strict", str(chart), "-f", str(values))
    documents = rendered(helm, chart.name, values)
    identities = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
    assert len(set(identities)) == len(identities)
    for document in documents:
        hook = "helm.sh/hook" in document["metadata"].get("annotations", {})
        if document["kind"] not in ("CustomResourceDefinition", "Pod") and not hook:
            assert document["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_the_definitions_are_carried_unchanged_and_kept(helm: str) -> None:
    carried = {d["metadata"]["name"]: d for d in rendered(helm, "rocketmq-operator") if "Definition" in d["kind"]}
    assert len(carried) == len(CRDS)
    for path in CRDS:
        ours = yaml.safe_load(path.read_text(encoding="utf-8"))
        theirs = carried[ours["metadata"]["name"]]
        assert theirs["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert theirs == ours


def test_named_namespaces_get_roles_and_nothing_is_granted_beyond_them(helm: str) -> None:
    documents = rendered(helm, "rocketmq-operator", CHARTS / "rocketmq-operator" / "ci" / "namespaced-values.yaml")
    assert not [d for d in documents if d["kind"].startswith("ClusterRole")]
    roles = {(d["metadata"]["namespace"], d["metadata"]["name"]): d for d in documents if d["kind"] == "Role"}
    assert {namespace for namespace, _ in roles} == {"orders", "billing", "mq"}
    assert granted(roles["orders", "demo-rocketmq-operator"]["rules"]) == granted(rules())
    (deployment,) = [d for d in documents if d["kind"] == "Deployment"]
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--watch-namespaces=orders,billing" in arguments
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "registry.example.com/rocketmq-kube-operator:0.1.0"


def test_the_operators_pods_satisfy_the_restricted_standard(helm: str) -> None:
    (deployment,) = [d for d in rendered(helm, "rocketmq-operator") if d["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


async def test_an_installed_cluster_chart_makes_a_cluster_and_upgrading_it_unchanged_moves_nothing(
    helm: str, api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet,
    control_plane: ControlPlane,
) -> None:  # fmt: skip
    options = ("-n", namespace, "--kubeconfig", str(control_plane.kubeconfig), "--set", "topics.audit.writeQueues=4")
    run(helm, "install", "orders", str(CHARTS / "rocketmq-cluster"), *options)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    assert await api.get(TOPICS, namespace, "audit") is not None
    before = await versions(api, namespace)
    run(helm, "upgrade", "orders", str(CHARTS / "rocketmq-cluster"), *options)
    assert await versions(api, namespace) == before
    run(helm, "uninstall", "orders", "-n", namespace, "--kubeconfig", str(control_plane.kubeconfig))
    assert await api.get(CLUSTERS, namespace, "orders") is None


def test_the_operator_chart_is_accepted_by_the_api_server(
    helm: str, namespace: str, control_plane: ControlPlane
) -> None:
    run(
        helm, "install", "operator", str(CHARTS / "rocketmq-operator"), "-n", namespace,
        "--kubeconfig", str(control_plane.kubeconfig), "--set", "crds.install=false", "--dry-run=server",
    )  # fmt: skip
