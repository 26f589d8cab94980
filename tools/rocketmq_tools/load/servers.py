"""What brokers on this machine spend during a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds and resident bytes of one process at one moment."""

    name: str
    pid: int
    cpu_s: float
    rss: int


def local_usages(brokers: dict[str, str]) -> list[Usage]:
    """Usage of those ``brokers`` (name → ``host:port``) whose port a visible process of this machine listens on.

    A broker elsewhere, or of another user, is left out.
    """
    ports = {int(address.rpartition(":")[2]): name for name, address in brokers.items()}
    found: dict[int, Usage] = {}
    for process in psutil.process_iter():
        try:
            listening = {c.laddr.port for c in process.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN}
            served = sorted(ports[port] for port in listening & ports.keys())
            if served:
                times = process.cpu_times()
                usage = Usage(served[0], process.pid, times.user + times.system, process.memory_info().rss)
                found[process.pid] = usage
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return sorted(found.values(), key=lambda usage: usage.name)


def spent(before: list[Usage], after: list[Usage], seconds: float, messages: int) -> dict[str, Any]:
    """By broker: CPU share of one core (percent), CPU per message (µs, all brokers together), resident memory (MB)."""
    starts = {usage.pid: usage.cpu_s for usage in before}
    cpu = {usage.name: usage.cpu_s - starts[usage.pid] for usage in after if usage.pid in starts}
    if not cpu:
        return {}
    data: dict[str, Any] = {}
    for usage in after:
        if usage.pid in starts:
            data[f"{usage.name}_cpu_percent"] = round(cpu[usage.name] / seconds * 100, 1) if seconds else 0.0
            data[f"{usage.name}_rss_mb"] = round(usage.rss / 1e6, 1)
    if messages:
        data["broker_cpu_us_per_message"] = round(sum(cpu.values()) * 1e6 / messages, 1)
    return data
