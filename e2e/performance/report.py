"""The table of a run, its page in ``docs`` and its picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from e2e.clusters import Kind
from e2e.performance.runs import Result, Run

# Figure, heading, digits, whether more is better.
COLUMNS = (
    ("msg_per_second", "msg/s", 0, True),
    ("cpu_us_per_msg", "CPU µs/msg", 1, False),
    ("p50_ms", "p50 ms", 3, False),
    ("p99_ms", "p99 ms", 3, False),
    ("max_ms", "max ms", 1, False),
    ("broker_cores", "cores", 2, False),
    ("slave_cores", "cores of the slave", 2, False),
    ("lag_s", "slave level after s", 2, False),
    ("first_seconds_msg_per_second", "msg/s in the first 5 s", 0, True),
    ("start_seconds", "start s", 2, False),
    ("start_cpu_seconds", "start CPU s", 2, False),
    ("idle_core_percent", "idle % of a core", 2, False),
    ("private_mib", "private MiB", 0, False),
    ("namesrv_private_mib", "name server MiB", 0, False),
    ("p99_to_empty", "p99 to empty", 2, False),
    ("alone_msg_per_second", "msg/s without them", 0, True),
    ("alone_p99_ms", "p99 ms without them", 3, False),
    ("answer_max_ms", "slowest answer ms", 0, False),
    ("others_cores", "cores of others", 2, False),
    ("private_after_mib", "private MiB, full", 0, False),
)
# Issues 3 and 5: (scenario, figure, bound, is the bound a minimum). Ratios are ours to Apache's.
TARGETS = (
    ("send-128", "msg_per_second", 1.5, True),
    ("send-128", "cpu_us_per_msg", 0.6, False),
    ("send-128", "p99_ms", 0.8, False),
    ("send-1k", "msg_per_second", 1.5, True),
    ("send-1k", "cpu_us_per_msg", 0.6, False),
    ("send-1k", "p99_ms", 0.8, False),
    ("window-1", "p50_ms", 0.8, False),
    ("window-1", "p99_ms", 0.8, False),
    ("batch", "msg_per_second", 1.2, True),
    ("drain", "msg_per_second", 1.5, True),
    ("poll", "p50_ms", 0.5, False),
    ("sync-1", "msg_per_second", 1.2, True),
    ("sync-64", "msg_per_second", 1.2, True),
    ("sync-512", "msg_per_second", 1.2, True),
    ("transactions", "msg_per_second", 1.5, True),
    ("pop", "msg_per_second", 1.5, True),
    ("filter-tag", "msg_per_second", 1.5, True),
    ("filter-sql", "msg_per_second", 1.5, True),
)
OTHERS_CORES_NOTABLE = 0.15
ABSOLUTE_TARGETS = (
    ("delay", "p99_ms", 10.0),
    ("timer", "p99_ms", 100.0),
    ("idle", "private_mib", 60.0),
    ("idle", "idle_core_percent", 1.0),
    ("idle", "namesrv_private_mib", 40.0),
    ("start", "start_seconds", 1.0),
    ("restart", "start_seconds", 3.0),
    ("backlog", "p99_to_empty", 2.0),
    ("scale", "start_seconds", 5.0),
    ("scale", "private_mib", 300.0),
    ("scale", "answer_max_ms", 200.0),
)


def table(results: Sequence[Result]) -> list[str]:
    """Markdown: for each scenario a line per contender and one of ratios ours / Apache's, with the columns that it has."""
    lines: list[str] = []
    for scenario in dict.fromkeys(result.scenario for result in results):
        rows = [result for result in results if result.scenario == scenario]
        columns = [column for column in COLUMNS if any(row.figure(column[0]) is not None for row in rows)]
        lines += [
            f"**{rows[0].title}** (`{scenario}`)",
            "",
            "| | " + " | ".join(column[1] for column in columns) + " |",
        ]
        lines.append("|---" * (len(columns) + 1) + "|")
        for row in rows:
            lines.append(
                f"| {row.kind} | "
                + " | ".join(shown(row.figure(name), digits) for name, _, digits, _ in columns)
                + " |"
            )
        by_kind = {row.kind: row for row in rows}
        if len(by_kind) == 2:
            ratios = [ratio(by_kind, name) for name, *_ in columns]
            lines.append("| ours / Apache | " + " | ".join(shown(value, 2) for value in ratios) + " |")
        lines.append("")
    return lines


def ratio(by_kind: dict[Kind, Result], name: str) -> float | None:
    """Ours divided by Apache's."""
    ours, theirs = by_kind[Kind.OURS].figure(name), by_kind[Kind.APACHE].figure(name)
    return None if ours is None or not theirs else ours / theirs


def shown(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def verdicts(results: Sequence[Result]) -> list[str]:
    """One line per target of the issue that this run can judge: met or missed, with the figure."""
    found = {(result.scenario, result.kind): result for result in results}
    lines = []
    for scenario, figure, bound, is_minimum in TARGETS:
        if (scenario, Kind.OURS) in found and (scenario, Kind.APACHE) in found:
            value = ratio({kind: found[scenario, kind] for kind in Kind}, figure)
            if value is not None:
                is_met = value >= bound if is_minimum else value <= bound
                target, verdict = f"{'≥' if is_minimum else '≤'} {bound} x", "met" if is_met else "MISSED"
                lines.append(f"| {scenario} | {figure} | {target} | {value:.2f} x | {verdict} |")
    for scenario, figure, bound in ABSOLUTE_TARGETS:
        if (scenario, Kind.OURS) in found and (value := found[scenario, Kind.OURS].figure(figure)) is not None:
            lines.append(
                f"| {scenario} | {figure} | ≤ {bound:g} | {value:.2f} | {'met' if value <= bound else 'MISSED'} |"
            )
    return ["| scenario | figure | target | measured | |", "|---|---|---|---|---|", *lines, ""] if lines else []


def doubts(results: Sequence[Result]) -> list[str]:
    """What the figures must not be quoted without: failed rounds, and rounds in which others used the machine."""
    lines = [f"- {r.scenario}, {r.kind}: failed in {failure}" for r in results for failure in r.failures]
    for result in results:
        cores = result.figure("others_cores")
        if cores is not None and cores > OTHERS_CORES_NOTABLE:
            lines.append(f"- {result.scenario}, {result.kind}: others took {cores:.2f} cores; not to be quoted")
    return ["**Doubts**", "", *lines, ""] if lines else []


def machine() -> str:
    """Hardware and versions in one line."""
    processor = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} x {processor}, {memory_gib:.0f} GiB, {system}, Python {platform.python_version()}"


def page(results: Sequence[Result], done: Sequence[Run], versions: str) -> str:
    """The whole of ``docs/performance.md``: ``results`` united from the runs ``done``."""
    head = [
        "# Performance",
        "",
        f"{machine()}; {versions}. Times are UTC.",
        "",
        *(f"    {run.command:<70} # {run.began}, {run.extent}" for run in done),
        "",
        "Of a scenario that was run several times the last run counts.",
        "Both brokers run with their default settings, pinned to one core; the load generator has the other. The broker that is",
        "not measured is stopped by a signal, and runs alternate. Figures are medians over the rounds; CPU is that of the broker",
        "process, divided by the messages. Apache's broker is warmed up first; its first seconds are listed by themselves.",
        "",
        "![ours against Apache's](performance.png)",
        "",
        "## Targets",
        "",
    ]
    return "\n".join([*head, *verdicts(results), *doubts(results), "## Figures", "", *table(results)])


def picture(results: Sequence[Result], path: Path) -> None:
    """Ratios to Apache's of throughput and CPU per message, one pair of bars per scenario; longer than 1 is better."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {(result.scenario, result.kind): result for result in results}
    bars: list[tuple[str, float, str]] = []
    for figure, label, is_inverted in (
        ("msg_per_second", "messages per second", False),
        ("cpu_us_per_msg", "messages per CPU second", True),
        ("p99_ms", "1 / p99", True),
    ):
        for scenario in dict.fromkeys(result.scenario for result in results):
            if (scenario, Kind.OURS) in found and (scenario, Kind.APACHE) in found:
                value = ratio({kind: found[scenario, kind] for kind in Kind}, figure)
                if value:
                    bars.append((f"{scenario}: {label}", 1 / value if is_inverted else value, label))
    if not bars:
        return
    colours = {"messages per second": "#2a78b5", "messages per CPU second": "#3aa55d", "1 / p99": "#c98a2b"}
    figure_, axes = pyplot.subplots(figsize=(9, 0.28 * len(bars) + 1.4))
    axes.barh([bar[0] for bar in bars], [bar[1] for bar in bars], color=[colours[bar[2]] for bar in bars])
    for index, bar in enumerate(bars):
        axes.text(bar[1], index, f" {bar[1]:.1f}x", va="center", fontsize=8)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("ours relative to Apache RocketMQ 5.5.0 (1 = equal, longer is better)")
    axes.tick_params(labelsize=8)
    figure_.tight_layout()
    figure_.savefig(path, dpi=120)
    pyplot.close(figure_)
