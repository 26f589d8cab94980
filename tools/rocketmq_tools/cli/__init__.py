"""The `rocketmq` command: nouns and verbs, loaded one by one so that help and completion are instant."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (default: the process's) and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The single roles are what the images run: they must not pay for the command line's libraries.
    from rocketmq_tools.cli.roles import role_of, run_role

    role = role_of(words)
    if role is not None:
        return run_role(role, words[1:])
    from rocketmq_tools.cli.root import run

    return run(words)
