"""What this machine says about itself: packages that are missing, its archive of packages, how it reaches a Python index."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from e2e.toolchain import ToolMissing

PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "debootstrap": "debootstrap",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def require(programs: Iterable[str]) -> None:
    """Raise ToolMissing, with the command that gets them, when a program is absent."""
    absent = sorted({PACKAGES[name] for name in programs if shutil.which(name) is None})
    if absent:
        raise ToolMissing(f"missing here: apt-get install --no-install-recommends {' '.join(absent)}")


def release() -> tuple[str, str]:
    """(distribution, suite) of this machine; nodes get the same, so programs built here run there."""
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    fields = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    if not fields.get("VERSION_CODENAME"):
        raise ToolMissing("no Debian or Ubuntu: base images cannot be made here")
    return fields["ID"], fields["VERSION_CODENAME"]


def archive(suite: str, configuration: Path = Path("/etc/apt")) -> str:
    """The address of the package archive that this machine uses for ``suite``."""
    for path in [
        *sorted(configuration.glob("sources.list.d/*.sources")),
        *sorted(configuration.glob("sources.list*/*.list")),
    ]:
        for address, suites in _entries(path.read_text(encoding="utf-8")):
            if suite in suites:
                return address
    listed = configuration / "sources.list"
    for address, suites in _entries(listed.read_text(encoding="utf-8") if listed.exists() else ""):
        if suite in suites:
            return address
    raise ToolMissing(f"{configuration} names no archive for {suite}")


def _entries(text: str) -> Iterable[tuple[str, list[str]]]:
    for line in text.splitlines():
        words = re.sub(r"\[.*?\]", "", line).split()
        if words[:1] == ["deb"] and len(words) > 2:
            yield words[1], [words[2]]
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(\w[\w-]*):\s*(.*)$", stanza, re.MULTILINE))
        if "deb" in fields.get("Types", "").split():
            for address in fields.get("URIs", "").split():
                yield address, fields.get("Suites", "").split()


def pip_configuration() -> str:
    """pip's settings that reach an index from here, as the text of a pip.conf for a container on the host's network."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    wanted = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}
    parser = configparser.RawConfigParser()
    parser["global"] = {"cert": str(CERTIFICATES)} if CERTIFICATES.exists() else {}
    for key, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if key in wanted:
            parser["global"][key] = value
    lines = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in parser[name].items()) for name in parser.sections()]
    return "".join(lines)


def proxy_arguments() -> list[str]:
    """Docker build arguments that hand on this machine's proxies; Docker knows these names without an ARG."""
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return [part for name in names if name in os.environ for part in ("--build-arg", name)]
