"""The network of our kind nodes, one Pod a node: a bridge for the node's own Pods, a route to the Pods of every other node.

Standard library only; runs in the node image's clusters, never in a test process.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CONFIGURATION = Path("/etc/cni/net.d/10-pods.conflist")
POD_NETWORK = "10.244.0.0/16"
MASQUERADE = (
    "POSTROUTING", "-s", POD_NETWORK, "!", "-d", POD_NETWORK, "-m", "addrtype", "!", "--dst-type", "LOCAL",
    "-j", "MASQUERADE",
)  # fmt: skip
INTERVAL_SECONDS = 2.0


def nodes() -> list[dict[str, Any]]:
    """Every Node object, from the API server's service address."""
    token = (ACCOUNT / "token").read_text(encoding="ascii")
    url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}/api/v1/nodes"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        items: list[dict[str, Any]] = json.load(answer)["items"]
        return items


def configuration(pod_network: str) -> str:
    """The CNI configuration of a node whose Pods have addresses of ``pod_network``."""
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_network}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }  # fmt: skip
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins})


def keep(own: str) -> None:
    """Bring this node in line with the Node objects."""
    for node in nodes():
        pod_network = node["spec"].get("podCIDR")
        if not pod_network:
            continue
        if node["metadata"]["name"] == own:
            wanted = configuration(pod_network)
            if not CONFIGURATION.exists() or CONFIGURATION.read_text(encoding="utf-8") != wanted:
                part = CONFIGURATION.with_suffix(".part")
                part.write_text(wanted, encoding="utf-8")
                part.replace(CONFIGURATION)
        else:
            address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
            subprocess.run(["ip", "route", "replace", pod_network, "via", address], check=True, timeout=10)
    if subprocess.run(["iptables", "-w", "-t", "nat", "-C", *MASQUERADE], check=False, timeout=30).returncode:
        subprocess.run(["iptables", "-w", "-t", "nat", "-A", *MASQUERADE], check=True, timeout=30)


if __name__ == "__main__":
    while True:
        try:
            keep(os.environ["NODE"])
        except (OSError, subprocess.SubprocessError) as problem:
            print(f"tried again soon: {problem}", flush=True)
        time.sleep(INTERVAL_SECONDS)
