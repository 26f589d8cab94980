"""Where the Services of listeners lead to, as the API server, load balancers and nodes have it: pure.

Node ports are the API server's to choose, a load balancer's address its provider's; brokers are told both, and name servers give
each client those of the listener through which it asked.
"""

from __future__ import annotations

from typing import Any

from rocketmq_operator import labels, names, ports
from rocketmq_operator.kube.api import Object
from rocketmq_operator.model import Listener, ListenerType, RocketMQCluster
from rocketmq_operator.reconcile.observed import Observed


def exposed_brokers(cluster: RocketMQCluster, observed: Observed) -> dict[str, str]:
    """``[host]:port`` of each broker by the name of its Service; those that have no address yet are left out."""
    found = {}
    for listener in cluster.spec.listeners:
        for (kind, name), item in observed.objects.items():
            pod = (item.get("spec", {}).get("selector") or {}).get(labels.POD_NAME, "")
            if kind == "Service" and pod and name == names.exposed(pod, listener.name):
                address = _address(listener, item, _host(listener, cluster, pod), ports.BROKER_REMOTING.number)
                if address:
                    found[name] = address
    return found


def listener_statuses(cluster: RocketMQCluster, observed: Observed) -> list[dict[str, Any]]:
    """For each listener the name servers' addresses that its clients use."""
    server = names.namesrv(cluster)
    told = []
    for listener in cluster.spec.listeners:
        service = observed.objects.get(("Service", names.exposed(server, listener.name)))
        hosts = [""]
        if listener.type is ListenerType.NODE_PORT:
            hosts = sorted({pod.host_ip for pod in observed.pods_of(server) if pod.host_ip and pod.is_ready})
        found = (
            [] if service is None else [_address(listener, service, h, ports.NAMESRV_REMOTING.number) for h in hosts]
        )
        told.append({"name": listener.name, "addresses": ";".join(filter(None, found))})
    return told


def _host(listener: Listener, cluster: RocketMQCluster, pod: str) -> str:
    group, _, replica = pod.removeprefix(f"{cluster.name}-").rpartition("-")
    return listener.host_template.replace("{group}", group).replace("{replica}", replica)


def _address(listener: Listener, service: Object, host: str, port: int) -> str:
    """``host:port``; for a node port the host may be missing, for a load balancer it is the balancer's unless given."""
    if listener.type is ListenerType.NODE_PORT:
        number = next((p["nodePort"] for p in service["spec"]["ports"] if p.get("nodePort")), 0)
        return f"{host}:{number}" if number else ""
    ingress = (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or [{}]
    host = host or ingress[0].get("ip") or ingress[0].get("hostname") or ""
    return f"{host}:{port}" if host else ""
