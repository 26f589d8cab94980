"""What a slave needs besides the log to take over: topics, groups, request modes, consumer offsets, delay progress: its master's.

Offsets and progress change all the time and are asked for every few seconds; topics and groups less often, and at once when
a link was made. The master's tables replace the slave's when their version differs. Nothing stored is ever deleted for a
topic that a table lacks (rule E15): queues go only with an explicit deletion.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from rocketmq_broker.assignment import MessageRequestModes
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.inquiry import FAILURES, MasterInquiry
from rocketmq_broker.ha.origin import MasterSilent
from rocketmq_broker.timer.service import TimerService
from rocketmq_broker.topics import TopicTable
from rocketmq_common import javajson
from rocketmq_common.clock import Clock
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_store.timer.checkpoint import decode_checkpoint

logger = logging.getLogger(__name__)

TABLES_INTERVAL_S = 10.0
TIMEOUT_MS = 5000


class MetadataSync:
    """One slave's copies. ``on_topics`` is called when topics changed, so that name servers hear of it."""

    def __init__(
        self,
        client: RemotingClient,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        delay: DelaySchedule,
        modes: MessageRequestModes,
        timers: TimerService,
        clock: Clock,
        *,
        on_topics: Callable[[], None],
    ) -> None:
        self._client = client
        self._inquiry = MasterInquiry(client)
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._delay = delay
        self._modes = modes
        self._timers = timers
        self._clock = clock
        self._on_topics = on_topics
        self._tables_at = -TABLES_INTERVAL_S
        self._address = ""
        self._problem = ""
        # Wall clock ms of the last round in which everything was copied; 0 before the first.
        self.synced_ms = 0

    async def round(self, address: str, *, is_urgent: bool = False) -> None:
        """Copy from the master at ``address`` whatever is due, with ``is_urgent`` everything. Never raises for a master that
        cannot be asked.
        """
        now = self._clock.monotonic()
        is_due = is_urgent or now - self._tables_at >= TABLES_INTERVAL_S or address != self._address
        parts: list[tuple[int, Callable[[dict[str, Any]], None]]] = [
            (RequestCode.GET_ALL_CONSUMER_OFFSET, self._offsets.merge),
            (RequestCode.GET_ALL_DELAY_OFFSET, self._delay.adopt),
        ]
        if is_due:
            parts = [
                (RequestCode.GET_ALL_TOPIC_CONFIG, self._take_topics),
                (RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, self._take_groups),
                (RequestCode.GET_ALL_MESSAGE_REQUEST_MODE, self._modes.adopt),
                *parts,
            ]
        problems = [problem for code, take in parts if (problem := await self._copy(address, code, take))]
        problems += [problem for problem in [await self._copy_timers(address, with_span=is_due)] if problem]
        if problems:
            log = logger.debug if problems[0] == self._problem else logger.warning
            log("metadata of the master at %s: %s", address, "; ".join(problems))
            self._problem = problems[0]
            return
        self._problem = ""
        self._address = address
        if is_due:
            self._tables_at = now
        self.synced_ms = self._clock.now_ms()

    async def _copy(self, address: str, code: int, take: Callable[[dict[str, Any]], None]) -> str:
        """Ask for one part and take it; what went wrong, in words, else nothing."""
        try:
            answer = await self._client.invoke(address, code, timeout_ms=TIMEOUT_MS)
            if (
                answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED
                and code == RequestCode.GET_ALL_MESSAGE_REQUEST_MODE
            ):
                # Masters before 5.0 have no modes.
                return ""
            if answer.code != ResponseCode.SUCCESS:
                return f"request {code} was answered {answer.code}: {answer.remark}"
            if not answer.body:
                # Apache answers so while it has no such file yet.
                return ""
            value = javajson.loads(answer.body)
            if not isinstance(value, dict):
                return f"request {code} was answered with {type(value).__name__} where an object belongs"
            take(value)
        except FAILURES as error:
            return str(error)
        except (javajson.JavaJsonError, msgspec.ValidationError) as error:
            return f"answer to request {code} cannot be read: {error}"
        return ""

    async def _copy_timers(self, address: str, *, with_span: bool) -> str:
        """Ask how far the master's timers have come, and what its log spans; what went wrong, in words, else nothing."""
        try:
            if with_span:
                span = await self._inquiry.ask(address)
                self._timers.note_master_log(span.min_offset, span.end_offset)
            answer = await self._client.invoke(address, RequestCode.GET_TIMER_CHECK_POINT, timeout_ms=TIMEOUT_MS)
            if answer.code == ResponseCode.SUCCESS and answer.body:
                # A master without timers has none to tell of.
                await self._timers.adopt(decode_checkpoint(bytes(answer.body)))
        except (*FAILURES, MasterSilent, ValueError, OSError) as error:
            return f"timers: {error}"
        return ""

    def _take_topics(self, raw: dict[str, Any]) -> None:
        if self._topics.adopt(raw):
            self._on_topics()

    def _take_groups(self, raw: dict[str, Any]) -> None:
        self._groups.adopt(raw)
