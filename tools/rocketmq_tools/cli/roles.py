"""The single roles: ``rocketmq namesrv -c FILE`` and ``rocketmq broker -c FILE -n ADDRESSES``, as the images run them.

Both are also nouns (``rocketmq broker ls``, ``rocketmq namesrv kv``): they are the role when nothing or a flag follows.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

ROLE_MODULES = {"namesrv": "rocketmq_namesrv.__main__", "broker": "rocketmq_broker.__main__"}


def role_of(words: Sequence[str]) -> str | None:
    """The role that ``words`` (the arguments of the command) start, or None when they are something else."""
    if not words or words[0] not in ROLE_MODULES:
        return None
    if len(words) == 1 or words[1].startswith("-"):
        return words[0]
    return None


def run_role(role: str, arguments: Sequence[str]) -> int:
    """Run a role in this process until it is stopped; its exit code."""
    module = importlib.import_module(ROLE_MODULES[role])
    code = module.main(list(arguments))
    return code if isinstance(code, int) else 0
