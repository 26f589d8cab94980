"""A node image for an unmodified kind, made of Debian's packages and programs built from Go modules.

What kind and kubeadm ask of it is written where it is fulfilled, in ``node/``. It carries the images of the control plane, as
kind's own does, under the names that kubeadm gives them, so that nothing is ever pulled.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from e2e.kind import images
from e2e.kind.engine import COMMAND_TIMEOUT_SECONDS, CommandFailed, Engine, run
from e2e.kubernetes.binaries import VERSION, program
from e2e.processes import wait_until

FILES = Path(__file__).with_name("node")
CONTAINER = "rmq-node-image"
ROUTES = "rocketmq-e2e/routes:1"
PROVISIONER = "rocketmq-e2e/local-path-provisioner:1"
PACKAGES = (
    "systemd systemd-sysv containerd runc containernetworking-plugins iptables conntrack iproute2 ethtool kmod procps socat "
    "util-linux mount"
)
NETWORK_PACKAGES = "iptables conntrack iproute2 kmod"
# Units that want hardware, terminals or clean a disk which is not theirs.
UNWANTED = "*udev* *getty* apt-daily* dpkg-db* fstrim* e2scrub* systemd-tmpfiles-clean*"
MASKED = (
    "proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-udevd.service systemd-udev-trigger.service "
    "systemd-logind.service getty.target"
)
ENTRYPOINT = '["/usr/local/bin/entrypoint", "/sbin/init"]'


def node_image(engine: Engine) -> str:
    """The name of the image; builds it unless this machine has it."""
    name = f"rocketmq-e2e/node:{_digest()}"
    if not engine.has_image(name):
        carried = _component_images(engine)
        _build_node(engine, f"{name}-empty", sandbox=next(i for i in carried if "/pause:" in i))
        _preload(engine, f"{name}-empty", carried, name)
    return name


def _digest() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(FILES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    for name in ("kubelet", "etcd", "coredns", "local-path-provisioner"):
        digest.update(program(name).encode())
    return digest.hexdigest()[:16]


def _component_images(engine: Engine) -> list[str]:
    """Build everything that the control plane runs."""
    base = images.base(engine)
    wanted = run([program("kubeadm"), "config", "images", "list", "--kubernetes-version", VERSION]).split()
    network = f"RUN {images.APT_INSTALL} {NETWORK_PACKAGES} && {images.CLEAN}\n"
    for name in wanted:
        component = name.rsplit("/", 1)[1].split(":")[0]
        if component == "pause":
            engine.build(name, f'FROM {base}\nENTRYPOINT ["sleep", "infinity"]\n')
        else:
            _program_image(engine, name, component, f"FROM {base}\n" + (network if component == "kube-proxy" else ""))
    _program_image(engine, PROVISIONER, "local-path-provisioner", f"FROM {base}\n")
    routes = f'FROM {base}\n{network}COPY routes.py /routes.py\nENTRYPOINT ["python3", "-u", "/routes.py"]\n'
    engine.build(ROUTES, routes, {"routes.py": FILES / "routes.py"})
    return [*wanted, PROVISIONER, ROUTES, base]


def _program_image(engine: Engine, name: str, component: str, head: str) -> None:
    # kubeadm's manifests give the command, found by PATH; CoreDNS gets arguments only.
    text = f'{head}COPY {component} /usr/local/bin/{component}\nENTRYPOINT ["/usr/local/bin/{component}"]\n'
    engine.build(name, text, {component: Path(program(component))})


def _build_node(engine: Engine, name: str, *, sandbox: str) -> None:
    base = images.base(engine)
    replaced = {
        "SANDBOX_IMAGE": sandbox, "ROUTES_IMAGE": ROUTES, "PROVISIONER_IMAGE": PROVISIONER, "HELPER_IMAGE": base,
    }  # fmt: skip
    files: dict[str, Path | bytes] = {"version": f"{VERSION}\n".encode()}
    for path in FILES.iterdir():
        text = path.read_text(encoding="utf-8")
        for word, value in replaced.items():
            text = text.replace(word, value)
        files[path.name] = text.encode()
    programs = ("kubelet", "kubectl", "kubeadm")
    files |= {f"bin/{one}": Path(program(one)) for one in programs}
    dockerfile = f"""FROM {base}
RUN {images.APT_INSTALL} {PACKAGES} && {images.CLEAN}
RUN cd /etc/systemd/system && for unit in {UNWANTED}; do rm -f *.wants/$unit /lib/systemd/system/*.wants/$unit; done
COPY entrypoint api-host kubelet-cgroups crictl bin/ /usr/local/bin/
COPY kubelet.service /etc/systemd/system/kubelet.service
COPY containerd.toml /etc/containerd/config.toml
COPY version /kind/version
COPY default-cni.yaml default-storage.yaml /kind/manifests/
RUN systemctl enable containerd kubelet && systemctl mask {MASKED} \\
 && mkdir -p /etc/systemd/journald.conf.d /etc/cni/net.d \\
 && printf '[Journal]\\nReadKMsg=no\\n' > /etc/systemd/journald.conf.d/kind.conf \\
 && echo net.ipv4.ip_forward=1 > /etc/sysctl.d/kind.conf
ENV container=docker
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT {ENTRYPOINT}
"""
    engine.build(name, dockerfile, files)


def _preload(engine: Engine, empty: str, carried: list[str], name: str) -> None:
    """Put images into the content store of the node; the kubelet's runtime unpacks them when it first needs them."""
    engine.docker("run", "-d", "--name", CONTAINER, "--entrypoint", "sleep", empty, "infinity")
    try:
        engine.docker("exec", "-d", CONTAINER, "containerd")
        probe = ["docker", "exec", CONTAINER, "ctr", "version"]
        environment = os.environ | engine.environment
        wait_until(
            lambda: subprocess.run(probe, capture_output=True, check=False, timeout=60, env=environment).returncode == 0,
            "containerd of the node image answers", 60, poll_seconds=0.2,
        )  # fmt: skip
        load = [
            "docker", "exec", "-i", CONTAINER, "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", "--no-unpack",
            "--digests", "-",
        ]  # fmt: skip
        with subprocess.Popen(["docker", "save", *carried], stdout=subprocess.PIPE, env=environment) as saved:
            done = subprocess.run(
                load,
                stdin=saved.stdout,
                check=False,
                capture_output=True,
                timeout=COMMAND_TIMEOUT_SECONDS,
                env=environment,
            )
        if done.returncode or saved.returncode:
            raise CommandFailed(
                f"images could not be put into the node: {done.stderr.decode(errors='replace')[-2000:]}"
            )
        engine.docker("exec", CONTAINER, "pkill", "-x", "containerd")
        entrypoint = ["--change", f"ENTRYPOINT {ENTRYPOINT}", "--change", "CMD []"]
        engine.docker("commit", *entrypoint, CONTAINER, name)
    finally:
        engine.docker("rm", "-f", "-v", CONTAINER)
