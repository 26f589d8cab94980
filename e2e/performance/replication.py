"""Sends to a master with one slave, ours and Apache's in turn: ``python -m e2e.performance.replication``.

Master, slave and generator share the machine's two cores unpinned, as in the reference figures; so the ratios mean something, the
absolute numbers only on a quiet machine. With ``sync`` every answer waits for the slave
(inSyncReplicas=2), with ``async`` none does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from e2e import frames
from e2e.clusters import Broker, Cluster, Kind
from e2e.performance.generator import Load, closed_loop
from e2e.performance.observation import cpu_seconds
from e2e.performance.pools import single_sends
from e2e.processes import wait_until

GET_BROKER_RUNTIME_INFO = 28
GET_BROKER_HA_STATUS = 907
APACHE_OPTIONS = ("-Xms512m", "-Xmx1g", "-XX:+UseG1GC")
SETTINGS = {"mappedFileSizeCommitLog": str(256 << 20), "diskMaxUsedSpaceRatio": "95"}
MODES = {
    "sync": {"brokerRole": "SYNC_MASTER", "inSyncReplicas": "2"},
    "async": {"brokerRole": "ASYNC_MASTER"},
}
TOPIC = "BenchReplicated"
POOL_FRAMES = 50_000
WARM_SECONDS = 10.0


class Pair:
    """A master and its slave of one kind."""

    def __init__(self, kind: Kind, directory: Path, mode: str, stack: ExitStack) -> None:
        self.kind = kind
        self.pool = single_sends(TOPIC, 128, POOL_FRAMES)
        masters = Cluster(kind, directory / "m", settings=SETTINGS, java_options=APACHE_OPTIONS, broker_names=())
        slaves = Cluster(kind, directory / "s", settings=SETTINGS, java_options=APACHE_OPTIONS, broker_names=())
        stack.callback(masters.stop)
        stack.callback(slaves.stop)
        slaves.directory.mkdir(parents=True)
        masters.start()
        slaves.namesrv_ports = masters.namesrv_ports
        settings: dict[str, Any] = MODES[mode]
        self.master = masters.add_broker("broker-a", **settings)
        masters.wait_registered()
        self.slave = slaves.add_broker("broker-a", broker_id=1, brokerRole="SLAVE")
        wait_until(self.is_linked, f"{kind}: the slave is linked", 90, poll_seconds=0.2)

    def is_linked(self) -> bool:
        """The master counts a slave that has what it has."""
        frames.call(self.master.address, 310, send_fields(), b"x")
        answer = frames.call(self.master.address, GET_BROKER_HA_STATUS)
        links = answer.json()["haConnectionInfo"] if answer.code == 0 else []
        return any(link["slaveAckOffset"] > 0 for link in links)

    def run(self, window: int, seconds: float) -> tuple[Load, float]:
        """One measured run: the load, and CPU µs a message of both brokers together."""
        before = after = 0.0

        def start() -> None:
            nonlocal before
            before = self._cpu()

        def stop() -> None:
            nonlocal after
            after = self._cpu()

        load = closed_loop(
            self.master.address, self.pool, window, seconds, ramp_seconds=1.0, on_measure=start, on_end=stop
        )
        return load, (after - before) / max(load.messages, 1) * 1e6

    def wait_level(self) -> None:
        """Wait until the slave has everything."""
        wait_until(lambda: log_end(self.slave) == log_end(self.master), "master and slave are level", 60)

    def _cpu(self) -> float:
        return cpu_seconds(self.master.process.pid) + cpu_seconds(self.slave.process.pid)


def send_fields() -> dict[str, str]:
    return {
        "a": "bench", "b": TOPIC, "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1700000000000", "h": "0",
        "i": "WAIT\x01false\x02", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip


def log_end(broker: Broker) -> int:
    return int(frames.call(broker.address, GET_BROKER_RUNTIME_INFO).json()["table"]["commitLogMaxOffset"])


@contextmanager
def pairs(kinds: list[Kind], mode: str, directory: Path) -> Iterator[list[Pair]]:
    with ExitStack() as stack:
        yield [Pair(kind, directory / f"{mode}-{kind}", mode, stack) for kind in kinds]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=[*MODES, "both"], default="both")
    parser.add_argument("--peer", choices=["ours", "apache", "both"], default="both")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    chosen = parser.parse_args()
    kinds = list(Kind) if chosen.peer == "both" else [Kind(chosen.peer)]
    with tempfile.TemporaryDirectory() as directory:
        for mode in MODES if chosen.mode == "both" else [chosen.mode]:
            with pairs(kinds, mode, Path(directory)) as running:
                for pair in running:
                    closed_loop(pair.master.address, pair.pool, 64, WARM_SECONDS)
                for window in chosen.windows:
                    measure(mode, window, running, chosen.rounds, chosen.seconds)
    return 0


def measure(mode: str, window: int, running: list[Pair], rounds: int, seconds: float) -> None:
    """Alternate the pairs and print the medians of each and the ratio of their rates."""
    results: dict[Kind, list[tuple[Load, float]]] = {pair.kind: [] for pair in running}
    for _ in range(rounds):
        for pair in running:
            results[pair.kind].append(pair.run(window, seconds))
            pair.wait_level()
    rates: dict[Kind, float] = {}
    for kind, runs in results.items():
        rates[kind] = median(load.messages_per_second for load, _ in runs)
        codes = {code: sum(load.codes.get(code, 0) for load, _ in runs) for load, _ in runs for code in load.codes}
        print(
            f"{mode:5} window {window:3} {kind:6}: {rates[kind]:8.0f} msg/s, "
            f"{median(cpu for _, cpu in runs):6.1f} us of both brokers, "
            f"p50 {median(load.quantile_ms(0.5) for load, _ in runs):.2f} ms, "
            f"p99 {median(load.quantile_ms(0.99) for load, _ in runs):.2f} ms, codes {codes}",
            flush=True,
        )
    if len(rates) == 2:
        print(f"{mode:5} window {window:3} ratio : {rates[Kind.OURS] / rates[Kind.APACHE]:.2f}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
