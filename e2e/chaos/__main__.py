"""``python -m e2e.chaos --short|--long [--seed N] [--only NAME]``: experiments, their table, exit 1 on violations."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from e2e.chaos import bit_flips, disks, ha_port, java_failover, kills, partitions, stores
from e2e.chaos.outcomes import PROBLEMS_SHOWN_MAX, Experiment, Outcome, Scale, table

DEFAULT_SEED = 20261124
EXPERIMENTS: dict[str, Experiment] = {
    "crash-states-async": stores.crash_states_async,
    "crash-states-sync": stores.crash_states_sync,
    "failing-steps": stores.failing_steps,
    "failing-calls": stores.failing_calls,
    "failover-simulation": stores.failover,
    "bit-flips": bit_flips.run,
    "kill-async": kills.single_async,
    "kill-sync": kills.single_sync,
    "kill-replicated": kills.replicated,
    "failed-fsync-exit": kills.failed_fsync,
    "power-cut-async": disks.power_cut_async,
    "power-cut-sync": disks.power_cut_sync,
    "full-disk": disks.full_disk,
    "failover-java": java_failover.killed,
    "switchover-java": java_failover.switched,
    "partitions": partitions.run,
    "ha-port": ha_port.run,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 when every rule held."""
    parser = argparse.ArgumentParser(prog="python -m e2e.chaos", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="minutes: for every change (the default)")
    form.add_argument("--long", action="store_true", help="hours: on demand")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, help="may repeat")
    arguments = parser.parse_args(argv)
    faulthandler.enable()
    # Thousands of stores fail as planned; what they log about it says nothing.
    logging.disable(logging.CRITICAL)
    scale = Scale(arguments.long, arguments.seed)
    outcomes: list[tuple[str, Outcome]] = []
    for name in arguments.only or EXPERIMENTS:
        sys.stderr.write(f"{name} …\n")
        outcomes.append((name, _run(EXPERIMENTS[name], scale)))
    print(table(outcomes))
    for name, outcome in outcomes:
        for line in outcome.notes:
            print(f"{name}: {line}")
        for line in outcome.problems[:PROBLEMS_SHOWN_MAX]:
            print(f"{name}: {line}")
    print(f"seed {scale.seed}, {'long' if scale.is_long else 'short'} form")
    return 1 if any(outcome.problems for _, outcome in outcomes) else 0


def _run(experiment: Experiment, scale: Scale) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as directory:
        try:
            outcome = experiment(Path(directory), scale)
        except Exception:  # noqa: BLE001 - an experiment that breaks is a violation, and the others still run
            outcome = Outcome(runs=1, errors=[traceback.format_exc()])
    outcome.seconds = time.monotonic() - started
    return outcome


if __name__ == "__main__":
    sys.exit(main())
