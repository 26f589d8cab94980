"""The broker's memory in the worst case that clients can bring about, told at the start and held to while it runs (rule E28)."""

from __future__ import annotations

import logging
from typing import Final

from rocketmq_broker.held_pulls import HELD_PULLS_MAX
from rocketmq_broker.settings import BrokerSettings
from rocketmq_common.memory import memory_limit_bytes
from rocketmq_common.settings import SettingsError
from rocketmq_remoting.budget import MemoryBudget

logger = logging.getLogger(__name__)

# Of a started broker with few topics.
BASE_BYTES: Final = 64 << 20
# A request that waits for messages: command, header, timer, places in three tables.
HELD_REQUEST_BYTES: Final = 3 << 10
AUTOMATIC_SHARE: Final = 4
AUTOMATIC_BYTES_MIN: Final = 32 << 20
AUTOMATIC_BYTES_MAX: Final = 1 << 30


def client_memory(settings: BrokerSettings, limit_bytes: int | None = None) -> MemoryBudget:
    """The budget of `clientMemoryMaxBytes`, by default a quarter of the memory (``limit_bytes``: the container's).

    Raises SettingsError when it was set to more than the memory has room for.
    """
    memory = memory_limit_bytes() if limit_bytes is None else limit_bytes
    budget_bytes = settings.client_memory_max_bytes
    room = memory - BASE_BYTES
    if budget_bytes > room:
        raise SettingsError(
            f"clientMemoryMaxBytes={budget_bytes}: {memory} bytes of memory less {BASE_BYTES} of the broker itself leave "
            f"{max(room, 0)}: write less, or give the broker more memory"
        )
    if not budget_bytes:
        budget_bytes = min(max(memory // AUTOMATIC_SHARE, AUTOMATIC_BYTES_MIN), AUTOMATIC_BYTES_MAX)
    held_bytes = (HELD_PULLS_MAX + settings.max_pop_polling_size) * HELD_REQUEST_BYTES
    worst_bytes = BASE_BYTES + budget_bytes + held_bytes
    logger.log(
        logging.WARNING if worst_bytes > memory else logging.INFO,
        "memory in the worst case: %d MiB of %d: %d itself, %d for requests and answers of clients (clientMemoryMaxBytes), "
        "%d for %d requests that wait for messages; tables of topics and groups come on top",
        worst_bytes >> 20, memory >> 20, BASE_BYTES >> 20, budget_bytes >> 20, held_bytes >> 20,
        HELD_PULLS_MAX + settings.max_pop_polling_size,
    )  # fmt: skip
    return MemoryBudget(budget_bytes)
