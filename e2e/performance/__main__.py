"""Command line of the bench: start both brokers, run the scenarios alternately, print, and on request write the page."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from e2e import toolchain
from e2e.clusters import Kind
from e2e.performance import contenders, observation, report, runs
from e2e.performance.contenders import GENERATOR_CORE, Contender, alone, paused
from e2e.performance.generator import LoadFailed
from e2e.performance.runs import Result, Run
from e2e.performance.scenarios import DEFAULTS, MODES, QUICK, SCENARIOS, Extent, Mode, Scenario, first_send_seconds

FIRST_SECONDS = 5
DOCUMENTS = toolchain.E2E.parent / "docs"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m e2e.performance", description=__doc__)
    parser.add_argument("--peer", choices=["ours", "apache", "both"], default="both", help="whose broker to measure")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[scenario.name for scenario in SCENARIOS],
        help="only these scenarios",
    )
    parser.add_argument("--quick", action="store_true", help="short runs, one round: for a look, not for a judgement")
    parser.add_argument("--rounds", type=int, help="alternated runs of each scenario (default 3)")
    parser.add_argument("--seconds", type=float, help="measured seconds of each run (default 10)")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and docs/performance.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round as JSON")
    parser.add_argument(
        "--page",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing: write the page from these runs (of --json); of a scenario in several, the last counts",
    )
    parser.add_argument("--directory", type=Path, help="where stores and logs go (default: a temporary directory)")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.page:
        write_page([runs.read(file) for file in options.page])
        return 0
    try:
        toolchain.tool("java")
        kinds = list(Kind) if options.peer == "both" else [Kind(options.peer)]
        if Kind.APACHE in kinds:
            toolchain.apache()
    except toolchain.ToolMissing as missing:
        if options.peer != "ours":
            print(f"bench: {missing}; or measure ours alone with --peer ours", file=sys.stderr)
            return 1
    extent = QUICK if options.quick else Extent()
    extent = replace(extent, rounds=options.rounds or extent.rounds, seconds=options.seconds or extent.seconds)
    chosen = [scenario for scenario in SCENARIOS if options.only is None or scenario.name in options.only]
    os.sched_setaffinity(0, {GENERATOR_CORE})
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for mode in MODES:
            scenarios = [scenario for scenario in chosen if scenario.mode is mode]
            if scenarios:
                results += run_mode(mode, scenarios, kinds, extent, Path(directory))
    print("\n".join([*report.verdicts(results), *report.doubts(results), *report.table(results)]))
    command = (
        "make bench" if sys.argv[1:] in ([], ["--write"]) else "python -m e2e.performance " + " ".join(sys.argv[1:])
    )
    run = Run(command, began, f"{extent.rounds} rounds of {extent.seconds:g} s", tuple(results))
    if options.json:
        runs.write(run, options.json)
    if options.write:
        write_page([run])
    return int(any(result.kind is Kind.OURS and result.failures for result in results))


def run_mode(
    mode: Mode, scenarios: Sequence[Scenario], kinds: Sequence[Kind], extent: Extent, directory: Path
) -> list[Result]:
    """Start a broker of each kind, with a slave where the mode has one, warm it up, run the scenarios, stop them."""
    running: list[Contender] = []
    results: list[Result] = []
    try:
        for kind in kinds:
            with paused(running):
                contender = contenders.prepare(kind, directory / f"{kind}-{mode.name}", mode.settings)
                running.append(contender)
                contender.cluster.add_broker("broker-a")
                if mode.has_slave:
                    contender.cluster.wait_registered()
                    contender.add_slave()
                started = first_send_seconds(contender)
                cpu = observation.cpu_seconds(contender.pid)
                contender.cluster.wait_registered()
            if mode is DEFAULTS:
                title = "process start to first accepted send, fresh store"
                results.append(Result("start", title, kind, [{"start_seconds": started, "start_cpu_seconds": cpu}]))
        results += idle_first(scenarios, running, extent)
        for contender in running:
            with alone(contender, running):
                load = contenders.warm_up(contender, extent.warm_cpu_seconds)
            if mode is DEFAULTS:
                first = sum(load.slices[:FIRST_SECONDS]) / FIRST_SECONDS
                title = "single sends, 128 B, 64 in flight, from the start of the process"
                results.append(
                    Result("first-seconds", title, contender.kind, [{"first_seconds_msg_per_second": first}])
                )
        for scenario in scenarios:
            if scenario.name != "idle":
                results += run_scenario(scenario, running, extent)
    finally:
        for contender in running:
            contender.stop()
    return results


def idle_first(scenarios: Sequence[Scenario], running: list[Contender], extent: Extent) -> list[Result]:
    """Idle is measured before any load: afterwards it would show what the load left behind."""
    return [
        result
        for scenario in scenarios
        if scenario.name == "idle"
        for result in run_scenario(scenario, running, replace(extent, rounds=1))
    ]


def run_scenario(scenario: Scenario, running: list[Contender], extent: Extent) -> list[Result]:
    """All rounds of one scenario, the contenders taking turns."""
    rounds: dict[Kind, list[dict[str, float]]] = {contender.kind: [] for contender in running}
    failures: dict[Kind, list[str]] = {contender.kind: [] for contender in running}
    for number in range(extent.rounds):
        for contender in running:
            with alone(contender, running):
                contender.wait_dispatched()
                neighbours = observation.Neighbours(
                    contender.pid, contender.slave.process.pid if contender.slaves else None
                )
                try:
                    figures = dict(scenario.run(contender, extent, number))
                except LoadFailed as failed:
                    failures[contender.kind].append(f"round {number + 1}: {failed}")
                    print(
                        f"{scenario.name}, {contender.kind}, {failures[contender.kind][-1]}",
                        file=sys.stderr,
                        flush=True,
                    )
                    continue
                figures["others_cores"] = neighbours.cores(contender.pid)
            rounds[contender.kind].append(figures)
            brief = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
            print(f"{scenario.name}, {contender.kind}, round {number + 1}: {brief}", file=sys.stderr, flush=True)
    return [Result(scenario.name, scenario.title, kind, rounds[kind], failures[kind]) for kind in rounds]


def write_page(done: Sequence[Run]) -> None:
    """``docs/performance.md`` and its picture."""
    DOCUMENTS.mkdir(exist_ok=True)
    results = runs.united(done)
    (DOCUMENTS / "performance.md").write_text(
        report.page(results, done, "Apache RocketMQ 5.5.0 (-Xms1g -Xmx2g, G1)") + "\n"
    )
    report.picture(results, DOCUMENTS / "performance.png")


if __name__ == "__main__":
    sys.exit(main())
