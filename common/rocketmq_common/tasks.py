"""Owned background tasks.

asyncio keeps only weak references to tasks and prints their exceptions late or never. A registry keeps them, names them,
ends them, and says what happens when one dies: a broker whose flusher is dead must stop, not limp.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

TASKS_MAX = 10_000


class TaskRegistry:
    """The tasks of one owner. ``fatal`` is called with the exception of a task started with ``critical=True``."""

    def __init__(self, fatal: Callable[[BaseException], None] | None = None) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._fatal = fatal

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str, *, critical: bool = False) -> asyncio.Task[Any]:
        """Run ``coroutine``; its end is noticed, its exception logged, and fatal when ``critical``."""
        if len(self._tasks) >= TASKS_MAX:
            coroutine.close()
            raise RuntimeError(f"{TASKS_MAX} background tasks are running; {name} is refused")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended_critical if critical else self._ended)
        return task

    def every(
        self, interval_ms: int, action: Callable[[], Awaitable[None] | None], name: str, *, critical: bool = True
    ) -> asyncio.Task[Any]:
        """Call ``action`` each ``interval_ms``, first after one interval, never twice at once."""

        async def loop() -> None:
            while True:
                await asyncio.sleep(interval_ms / 1000)
                outcome = action()
                if outcome is not None:
                    await outcome

        return self.start(loop(), name, critical=critical)

    async def stop(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        current = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    def _ended_critical(self, task: asyncio.Task[Any]) -> None:
        self._ended(task)
        if not task.cancelled() and (error := task.exception()) is not None and self._fatal is not None:
            self._fatal(error)
