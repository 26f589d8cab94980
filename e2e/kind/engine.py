"""A Docker engine: the machine's own when one answers, else one that is started here and leaves nothing behind but its cache."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from e2e.kind import machine
from e2e.processes import Process, wait_until
from e2e.toolchain import cache_directory

START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0
COMMAND_TIMEOUT_SECONDS = 900.0
WRAPPER = Path(__file__).with_name("runc_within_bounds.py")
CONTAINERD = """version = 2
root = "{data}/containerd"
state = "{run}/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{run}/containerd.sock"
"""


class CommandFailed(RuntimeError):
    """A command ended with an error; the message holds the end of what it said."""


def run(
    command: Sequence[str],
    *,
    data: bytes | None = None,
    timeout_seconds: float = COMMAND_TIMEOUT_SECONDS,
    environment: Mapping[str, str] | None = None,
) -> str:
    """The standard output of a command; raises CommandFailed unless it ends well."""
    done = subprocess.run(
        list(command),
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=timeout_seconds,
        check=False,
        env=os.environ | dict(environment or {}),
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        said = (done.stderr.decode(errors="replace") + output).strip().splitlines()
        raise CommandFailed(f"{' '.join(command)} ended with {done.returncode}:\n" + "\n".join(said[-25:]))
    return output


class Engine:
    """A context manager. ``environment`` makes docker and kind talk to it."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.is_own = False
        self._stack = ExitStack()
        self._run_directory = Path()

    def __enter__(self) -> Self:
        machine.require(["docker"])
        probe = subprocess.run(["docker", "version"], capture_output=True, timeout=60, check=False)
        if probe.returncode:
            machine.require(["dockerd", "containerd", "runc", "iptables", "ip"])
            self.is_own = True
            try:
                self._start()
            except BaseException:
                self._stack.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def docker(
        self, *arguments: str, data: bytes | None = None, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS
    ) -> str:
        """Run ``docker`` and return what it printed."""
        return run(["docker", *arguments], data=data, timeout_seconds=timeout_seconds, environment=self.environment)

    def has_image(self, name: str) -> bool:
        """Whether an image is here."""
        return bool(self.docker("image", "ls", "-q", name).strip())

    def build(
        self, name: str, dockerfile: str, files: Mapping[str, Path | bytes] | None = None, *arguments: str
    ) -> None:
        """Build an image from a Dockerfile's text and files by their name in the context. Steps see the host's network."""
        context = io.BytesIO()
        # docker tells an archive from a Dockerfile by one header: extended ones would hide it.
        with tarfile.open(fileobj=context, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path, content in {"Dockerfile": dockerfile.encode(), **(files or {})}.items():
                if isinstance(content, Path):
                    archive.add(content, path)
                else:
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mode = len(content), 0o755
                    archive.addfile(entry, io.BytesIO(content))
        self.docker(
            "build",
            "-q",
            "--network=host",
            *machine.proxy_arguments(),
            *arguments,
            "-t",
            name,
            "-",
            data=context.getvalue(),
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        # Short: a socket's path has at most 107 bytes.
        here = self._run_directory = Path(tempfile.mkdtemp(prefix="rmq-engine-"))
        self._stack.callback(shutil.rmtree, here, ignore_errors=True)
        data = cache_directory() / "kind" / "engine"
        data.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((data / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._stack.callback(remove_firewall_rules, forward_policy=_forward_policy())
        self._stack.callback(unmount_below, here)
        (here / "containerd.toml").write_text(CONTAINERD.format(data=data, run=here), encoding="utf-8")
        (here / "daemon.json").write_text("{}", encoding="utf-8")
        wrapper = here / "runc"
        wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {WRAPPER} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        self._process("containerd", ["containerd", "--config", str(here / "containerd.toml")])
        self._process(
            "dockerd",
            [
                "dockerd", "--config-file", str(here / "daemon.json"), "--data-root", str(data / "docker"),
                "--exec-root", str(here / "exec"), "--pidfile", str(here / "docker.pid"), "--storage-driver", "overlay2",
                "--host", f"unix://{here}/docker.sock", "--containerd", f"{here}/containerd.sock",
                "--add-runtime", f"bounded={wrapper}", "--default-runtime", "bounded",
            ],
        )  # fmt: skip
        # Without buildx the command line falls back to the classic builder, but complains.
        self.environment = {"DOCKER_HOST": f"unix://{here}/docker.sock", "DOCKER_BUILDKIT": "0"}
        self._stack.callback(self._remove_containers)

    def _process(self, name: str, command: list[str]) -> None:
        process = Process(name, command, self._run_directory)
        process.start()
        self._stack.callback(process.stop, STOP_TIMEOUT_SECONDS)
        socket = self._run_directory / f"{name.replace('dockerd', 'docker')}.sock"

        def answers() -> bool:
            process.check()
            if name == "containerd":
                return socket.exists()
            probe = ["docker", "-H", f"unix://{socket}", "version"]
            return (
                socket.exists() and not subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode
            )

        wait_until(answers, f"{name} answers", START_TIMEOUT_SECONDS, poll_seconds=0.2)

    def _remove_containers(self) -> None:
        if containers := self.docker("ps", "-aq").split():
            self.docker("rm", "-f", "-v", *containers)
        for network in self.docker("network", "ls", "-q", "--filter", "type=custom").split():
            self.docker("network", "rm", network)


def unmount_below(directory: Path) -> None:
    """Unmount what an engine left mounted under its run directory."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True, timeout=60)


def _forward_policy() -> str:
    rules = run(["iptables", "-w", "-t", "filter", "-S", "FORWARD"]).split()
    return rules[rules.index("-P") + 2]


def remove_firewall_rules(*, forward_policy: str) -> None:
    """Remove the rules, chains and the bridge that a Docker engine leaves on its host."""
    for table in ("filter", "nat"):
        lines = [line.split() for line in run(["iptables", "-w", "-t", table, "-S"]).splitlines()]
        for line in lines:
            if line[0] == "-A" and any("DOCKER" in word or word == "docker0" for word in line):
                run(["iptables", "-w", "-t", table, "-D", *line[1:]])
        for line in lines:
            if line[0] == "-N" and line[1].startswith("DOCKER"):
                run(["iptables", "-w", "-t", table, "-X", line[1]])
    run(["iptables", "-w", "-P", "FORWARD", forward_policy])
    if Path("/sys/class/net/docker0").exists():
        run(["ip", "link", "delete", "docker0"])
