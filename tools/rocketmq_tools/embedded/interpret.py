"""From rendered manifests to a plan of local processes: pure.

What a kubelet, kube-proxy, the volume plug-ins and cluster DNS would do, on one machine: each Pod of a StatefulSet becomes a
process, mounts become directories, Service names become a loopback address, container ports become local ports. What a manifest
asks for that a process cannot have (another image, resources, security contexts) is left out; a reference that cannot be resolved
is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocketmq_common.settings import environment_name, format_java_properties, parse_java_properties
from rocketmq_operator import labels
from rocketmq_operator.manifests import Manifest
from rocketmq_tools.embedded.launch import ProgramOf, program_of
from rocketmq_tools.embedded.plan import Probe, ProcessPlan
from rocketmq_tools.embedded.ports import Request
from rocketmq_tools.errors import CommandError

# Beside the data of the Pods: what Leases are on Kubernetes.
LEASES_DIRECTORY = "leases"
# Secrets of the namespace, by name; what they hold is made on this machine.
SECRETS_DIRECTORY = "secrets"
# Keys of the configuration files that hold a port of the container, by the port's name.
PORT_KEYS = {"listenPort": "remoting", "haListenPort": "ha", "httpPort": "http"}
ADDRESS_KEYS = ("bindAddress", "httpBindAddress")
# Longer makes no sense for a person who waits for `down`.
STOP_GRACE_S_MAX = 30.0

_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_LABEL_PATH = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


@dataclass(frozen=True, slots=True)
class Pod:
    """One replica of a StatefulSet."""

    name: str
    index: int
    stateful_set: Manifest

    @property
    def template(self) -> dict[str, Any]:
        template: dict[str, Any] = self.stateful_set["spec"]["template"]
        return template

    @property
    def component(self) -> str:
        component: str = self.template["metadata"]["labels"][labels.COMPONENT]
        return component


def pods(manifests: list[Manifest]) -> list[Pod]:
    """Every Pod of the manifests, name servers first."""
    found = [
        Pod(f"{m['metadata']['name']}-{index}", index, m)
        for m in manifests
        if m["kind"] == "StatefulSet"
        for index in range(m["spec"].get("replicas", 1))
    ]
    return sorted(found, key=lambda pod: pod.component != labels.NAMESRV)


def port_requests(manifests: list[Manifest]) -> list[Request]:
    """What `rocketmq_tools.embedded.ports` must assign."""
    return [Request(pod.name, pod.component) for pod in pods(manifests)]


def interpret(
    manifests: list[Manifest],
    *,
    ports: Mapping[str, Mapping[str, int]],
    host: str,
    volumes: Path,
    program_of: ProgramOf = program_of,
) -> tuple[ProcessPlan, ...]:
    """The processes of ``manifests``. ``ports`` maps Pod and port name to local ports; ``volumes`` is where volumes lie;
    ``program_of`` maps a container's command to what is executed here.

    Raises CommandError for what cannot be had on one machine.
    """
    network = _Network(manifests, ports, host)
    return tuple(
        _process(pod, manifests, dict(ports[pod.name]), host, volumes, network, program_of) for pod in pods(manifests)
    )


def _process(
    pod: Pod,
    manifests: list[Manifest],
    ports: dict[str, int],
    host: str,
    volumes: Path,
    network: _Network,
    program_of: ProgramOf,
) -> ProcessPlan:
    container = _main_container(pod)
    mounts = _mounts(pod, container, volumes)
    environment = _environment(pod, container, host, network)
    files: dict[str, str] = {}
    settings: dict[str, str] = {}
    for path, text in _config_files(pod, manifests, mounts):
        values = _local_settings(parse_java_properties(text), ports, host, mounts, network)
        if "failoverMode" in values:
            values["leaseDirectory"] = str(volumes / LEASES_DIRECTORY)
        files[path] = format_java_properties(values)
        settings |= values
    settings |= {key: environment[name] for key in ("brokerId",) if (name := environment_name(key)) in environment}
    broker_id = int(settings.get("brokerId", "0"))
    is_broker = pod.component == labels.BROKER
    words = [*container.get("command", ()), *container.get("args", ())]
    command = [_expand(_rewrite_path(word, mounts), environment) for word in words]
    try:
        program = program_of(command)
    except ValueError as error:
        raise _unsupported(pod, str(error)) from error
    names = {p["name"] for p in container.get("ports", ())}
    return ProcessPlan(
        name=pod.name,
        role=pod.component,
        program=tuple(program),
        environment=environment,
        directories=tuple(sorted(set(mounts.values()))),
        files=files,
        secret_files=tuple(_secret_files(pod, container, mounts)),
        host=host,
        ports={name: port for name, port in ports.items() if name in names},
        data_directory=next(_at(m, mounts) for m in container["volumeMounts"] if m["name"] == "data"),
        store_directory=settings.get("storePathRootDir", "") if is_broker else "",
        startup=_probe(container.get("startupProbe"), ports),
        liveness=_probe(container.get("livenessProbe"), ports),
        readiness=_probe(container.get("readinessProbe"), ports),
        stop_grace_s=min(pod.template["spec"].get("terminationGracePeriodSeconds", 30), STOP_GRACE_S_MAX),
        broker_name=settings.get("brokerName", "") if is_broker else "",
        broker_id=broker_id,
        broker_role=(settings.get("brokerRole", "ASYNC_MASTER") if broker_id == 0 else "SLAVE") if is_broker else "",
    )


def _main_container(pod: Pod) -> dict[str, Any]:
    # Sidecars that a user's template adds are images of something else; here there is nothing to run them with.
    container: dict[str, Any] = next(c for c in pod.template["spec"]["containers"] if c["name"] == pod.component)
    return container


def _mounts(pod: Pod, container: dict[str, Any], volumes: Path) -> dict[str, str]:
    """Mount path → local directory, longest first so that the innermost mount of a path wins."""
    claims = {c["metadata"]["name"] for c in pod.stateful_set["spec"].get("volumeClaimTemplates", ())}
    secrets = {name: secret["secretName"] for name, secret in _secret_volumes(pod)}
    result = {}
    for mount in container.get("volumeMounts", ()):
        name = mount["name"]
        if name in claims:
            local = volumes / "claims" / f"{name}-{pod.name}"
        elif name in secrets:
            local = volumes / SECRETS_DIRECTORY / secrets[name]
        else:
            local = volumes / "pods" / pod.name / name
        result[mount["mountPath"].rstrip("/")] = str(local)
    return dict(sorted(result.items(), key=lambda item: -len(item[0])))


def _secret_volumes(pod: Pod) -> Iterator[tuple[str, dict[str, Any]]]:
    for volume in pod.template["spec"].get("volumes", ()):
        if "secret" in volume:
            yield volume["name"], volume["secret"]


def _secret_files(pod: Pod, container: dict[str, Any], mounts: Mapping[str, str]) -> Iterator[str]:
    mounted = {m["name"]: _at(m, mounts) for m in container.get("volumeMounts", ())}
    for name, secret in _secret_volumes(pod):
        if name not in mounted:
            continue
        if not secret.get("items"):
            raise _unsupported(
                pod, f"volume {name} does not name the items that it needs of Secret {secret['secretName']}"
            )
        for item in secret["items"]:
            yield f"{mounted[name]}/{item['path']}"


def _at(mount: Mapping[str, Any], mounts: Mapping[str, str]) -> str:
    return mounts[mount["mountPath"].rstrip("/")]


def _rewrite_path(text: str, mounts: Mapping[str, str]) -> str:
    for path, local in mounts.items():
        if text == path or text.startswith(path + "/"):
            return local + text[len(path) :]
    return text


def _config_files(pod: Pod, manifests: list[Manifest], mounts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    config_maps = {m["metadata"]["name"]: m for m in manifests if m["kind"] == "ConfigMap"}
    mounted = {m["name"]: _at(m, mounts) for m in _main_container(pod)["volumeMounts"]}
    for volume in pod.template["spec"].get("volumes", ()):
        reference = volume.get("configMap")
        if reference is None or volume["name"] not in mounted:
            continue
        config_map = config_maps.get(reference["name"])
        if config_map is None:
            raise _unsupported(pod, f"volume {volume['name']} needs the ConfigMap {reference['name']}")
        for file_name, text in config_map["data"].items():
            yield f"{mounted[volume['name']]}/{file_name}", text


def _local_settings(
    values: dict[str, str], ports: Mapping[str, int], host: str, mounts: Mapping[str, str], network: _Network
) -> dict[str, str]:
    result = {key: _rewrite_path(network.localize(value), mounts) for key, value in values.items()}
    result.pop("listeners", None)  # everybody is on this machine, and name servers share its ports
    result |= {key: str(ports[name]) for key, name in PORT_KEYS.items() if name in ports and key in values}
    return result | dict.fromkeys(ADDRESS_KEYS, host)


def _environment(pod: Pod, container: dict[str, Any], host: str, network: _Network) -> dict[str, str]:
    result: dict[str, str] = {}
    for entry in container.get("env", ()):
        source = entry.get("valueFrom")
        if source is None:
            result[entry["name"]] = network.localize(_expand(entry.get("value", ""), result))
        elif "fieldRef" in source:
            result[entry["name"]] = _field(pod, source["fieldRef"]["fieldPath"], host)
        else:
            raise _unsupported(pod, f"variable {entry['name']} comes from {next(iter(source))}")
    return result


def _field(pod: Pod, path: str, host: str) -> str:
    metadata = pod.template["metadata"]
    pod_labels = {**metadata.get("labels", {}), labels.POD_INDEX: str(pod.index), labels.POD_NAME: pod.name}
    plain: dict[str, str] = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.stateful_set["metadata"]["namespace"],
        "metadata.uid": pod.name,
        "spec.nodeName": "localhost",
        "spec.serviceAccountName": pod.template["spec"].get("serviceAccountName", "default"),
        "status.podIP": host,
        "status.hostIP": host,
    }
    if path in plain:
        return plain[path]
    match = _LABEL_PATH.fullmatch(path)
    if match is None:
        raise _unsupported(pod, f"field {path}")
    return str((pod_labels if match[1] == "labels" else metadata.get("annotations", {})).get(match[2], ""))


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` as in a manifest: unknown names stay as they are, ``$$`` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return _VARIABLE.sub(replace, text)


def _probe(probe: dict[str, Any] | None, ports: Mapping[str, int]) -> Probe | None:
    if probe is None or "httpGet" not in probe:
        return None
    get = probe["httpGet"]
    return Probe(
        path=get["path"],
        port=ports[get["port"]] if isinstance(get["port"], str) else get["port"],
        period_s=probe.get("periodSeconds", 10),
        timeout_s=probe.get("timeoutSeconds", 1),
        failure_threshold=probe.get("failureThreshold", 3),
    )


def _unsupported(pod: Pod, what: str) -> CommandError:
    return CommandError(
        f"{pod.name} cannot run on this machine: {what}",
        why="the embedded mode has no Secrets, volumes or fields of a Kubernetes node",
        remedy="leave that part of spec.*.template out of the document for this machine",
    )


class _Network:
    """Service names of the cluster → where the Pods behind them listen here."""

    def __init__(self, manifests: list[Manifest], ports: Mapping[str, Mapping[str, int]], host: str) -> None:
        self._host = host
        self._targets: dict[str, dict[int, int]] = {}
        everyone = pods(manifests)
        for service in (m for m in manifests if m["kind"] == "Service"):
            name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
            behind = [pod for pod in everyone if _selects(service["spec"]["selector"], pod)]
            for pod in behind[:1]:
                self._targets[f"{name}.{namespace}.svc"] = _port_map(service, ports[pod.name])
            if service["spec"].get("clusterIP") == "None":
                for pod in behind:
                    self._targets[f"{pod.name}.{name}.{namespace}.svc"] = _port_map(service, ports[pod.name])
        hosts = "|".join(re.escape(h) for h in sorted(self._targets, key=len, reverse=True))
        self._pattern = re.compile(rf"(?<![\w.-])({hosts})(?:\.cluster\.local)?(?::(\d+))?(?![\w-])") if hosts else None

    def localize(self, text: str) -> str:
        """``text`` with every Service address replaced by the local one."""
        return self._pattern.sub(self._local, text) if self._pattern else text

    def _local(self, match: re.Match[str]) -> str:
        if match[2] is None:
            return self._host
        return f"{self._host}:{self._targets[match[1]].get(int(match[2]), int(match[2]))}"


def _port_map(service: Manifest, local: Mapping[str, int]) -> dict[int, int]:
    return {p["port"]: local[p["targetPort"]] for p in service["spec"]["ports"] if p["targetPort"] in local}


def _selects(selector: Mapping[str, str], pod: Pod) -> bool:
    pod_labels = {**pod.template["metadata"]["labels"], labels.POD_NAME: pod.name, labels.POD_INDEX: str(pod.index)}
    return selector.items() <= pod_labels.items()
