"""``python -m e2e.peers.filter_differential [--pairs N] [--seed N]``: compare, print one JSON object.

Ends with 1 when a difference has no listed reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from e2e.peers.filter_differential.comparison import ask_apache, compare
from e2e.peers.filter_differential.generation import questions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=92)
    arguments = parser.parse_args()
    asked = list(questions(arguments.seed, arguments.pairs))
    started = time.monotonic()
    answers = ask_apache(asked)
    answered = time.monotonic()
    report = compare(asked, answers)
    print(
        json.dumps(
            {
                "seed": arguments.seed,
                "pairs": report.pair_count,
                "expressions": len(asked),
                "apache_seconds": round(answered - started, 1),
                "our_seconds": round(time.monotonic() - answered, 1),
                "apache_verdicts": dict(report.verdicts),
                "meant_differences": dict(report.meant),
                "unexplained_differences": report.unexplained,
            },
            indent=1,
            ensure_ascii=False,
        )
    )
    return 1 if report.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
