"""The master's side of replication: a listener, one link per slave, and what sends and readers may conclude.

Links are woken by appends and by flushes and push log bytes from the mapped segments as far as the socket takes them. Bytes
that could still vanish in the flush mode are never pushed (rule E12), so with SYNC_FLUSH an acknowledgement also says that this
master has flushed. Everything here runs on the loop, which is the store's writer thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rocketmq_broker.failover.membership import Follower
from rocketmq_broker.ha.acknowledgements import Acknowledgements, Reign, ReplicatedCallback
from rocketmq_broker.ha.authentication import Authentication, NotAuthenticated
from rocketmq_broker.ha.flow import FlowControl
from rocketmq_broker.ha.frames import HaProtocolError
from rocketmq_broker.ha.handshake import ApacheHandshake, LogBounds, MasterHandshake
from rocketmq_broker.ha.master_link import SlaveLink
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.status import MasterStatus, SlaveStatus
from rocketmq_common.clock import Clock
from rocketmq_store.positions import UNBOUNDED
from rocketmq_store.residency import Absent
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

LINKS_MAX = 64
TICK_INTERVAL_MS = 250
# Signs of life that a master without its lease's store lives by; far below the shortest sensible lease.
PING_INTERVAL_MS = 500
# How long slaves wait at most to be told of what was confirmed, when no log bytes go to them with which it can travel.
CONFIRMED_DELAY_MS = 10


class ReplicationMaster:
    """Serves slaves. ``is_sync_master`` makes sends wait for ``inSyncReplicas``, with a ``reign`` for the in-sync set; see
    `Acknowledgements`.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        store: MessageStore,
        clock: Clock,
        *,
        is_sync_master: bool,
        on_mode: Callable[[], None] = lambda: None,
        handshake: Callable[[str], MasterHandshake] | None = None,
        reign: Reign | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        self.settings = settings
        self._store = store
        self._positions = store.positions
        self._clock = clock
        self._is_sync_master = is_sync_master
        self._on_mode = on_mode
        self._is_synchronous = False
        self._make_handshake = handshake or self._apache_handshake
        self._authentication = authentication or Authentication()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._links: set[SlaveLink] = set()
        self._flow = FlowControl()
        self._acknowledgements = Acknowledgements(
            settings, waits_for_slaves=is_sync_master, start_offset=store.positions.written, reign=reign
        )
        self._reign = reign
        # Replica → (linked last, caught up last), for those with a handshake of ours; at most as many as links at once.
        self._seen: dict[str, tuple[float, float]] = {}
        self._written_before = store.positions.written
        self._pinged_at = 0.0
        # Replica → when the ping was sent that it answered last.
        self.heard_at: dict[str, float] = {}
        self._is_wake_scheduled = False
        self._expiry: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self.refused_link_count = 0
        self.protocol_error_count = 0
        self.unauthenticated_count = 0
        self.pushed_bytes = 0

    # Life.

    async def start(self, host: str, port: int) -> None:
        """Listen for slaves; port 0 lets the system choose. Raises OSError when the port is taken."""
        self._loop = asyncio.get_running_loop()
        self._server = await self._loop.create_server(lambda: SlaveLink(self), host, port)
        self._follow_mode()
        self._settle()
        self._on_tick()

    @property
    def port(self) -> int:
        """Where slaves connect; 0 before `start`."""
        return self._server.sockets[0].getsockname()[1] if self._server is not None and self._server.sockets else 0

    async def stop(self) -> None:
        """Close the links and answer everybody who waits for a slave with FLUSH_SLAVE_TIMEOUT."""
        self._store.on_progress = None
        for timer in (self._expiry, self._tick, self._telling):
            if timer is not None:
                timer.cancel()
        self._expiry = self._tick = self._telling = None
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close("the master stops")
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
        self._acknowledgements.fail_all()

    # For the rest of the broker.

    @property
    def is_synchronous(self) -> bool:
        """Sends are answered only after slaves acknowledged them. Changed settings count from the next tick on."""
        return self._is_synchronous

    @property
    def is_awaited(self) -> bool:
        """Sends ask `when_replicated`: for slaves, or for the right to write."""
        return self._is_synchronous or self._reign is not None

    def followers(self) -> dict[str, Follower]:
        """Replicas of this group that follow or followed, by name; how far and how lately."""
        linked: dict[str, int] = {}
        for link in self._links:
            if link.is_accepted and link.answers_pings:
                name = str(link.identity)
                linked[name] = max(linked.get(name, 0), link.acknowledged)
        now = self._clock.monotonic()
        return {
            name: Follower(
                linked.get(name, 0), name in linked, now if name in linked else linked_at, caught_up_at,
                self.heard_at.get(name, 0.0),
            )
            for name, (linked_at, caught_up_at) in self._seen.items()
        }  # fmt: skip

    @property
    def replicated(self) -> int:
        """Log offset up to which everybody who is waited for has the log."""
        self._settle()
        return self._acknowledgements.replicated

    def drop_links(self, reason: str) -> None:
        """Have every slave connect anew."""
        for link in list(self._links):
            link.close(reason)

    def when_replicated(self, end_offset: int, callback: ReplicatedCallback) -> None:
        """Call ``callback`` once: PUT_OK when ``inSyncReplicas`` replicas (this one included) have the log up to ``end_offset``,
        FLUSH_SLAVE_TIMEOUT when that took longer than ``slaveTimeout``. At once where nothing is waited for.
        """
        reign = self._reign
        if self.settings.enable_auto_in_sync_replicas if reign is None else len(reign.members) == 1:
            # Without a slave in sync nothing may be waited for, and then no acknowledgement will come to notice it.
            self._settle()
        self._acknowledgements.when_replicated(end_offset, self._clock.monotonic(), callback)
        if self._expiry is None and self._acknowledgements.waiting_count:
            self._expire()

    def status(self) -> MasterStatus:
        """A snapshot for GET_BROKER_HA_STATUS, metrics and tests."""
        written, now = self._positions.written, self._clock.monotonic()
        acknowledgements = self._acknowledgements
        slaves = tuple(
            SlaveStatus(
                address=link.remote,
                identity=str(link.identity),
                acknowledged_offset=link.acknowledged,
                lag_bytes=written - max(link.acknowledged, 0),
                lag_ms=0 if link.acknowledged >= written else int((now - link.caught_up_at) * 1000),
                transfer_from=link.next_offset,
                bytes_per_second=link.bytes_per_second,
                is_in_sync=acknowledgements.is_in_sync(link.acknowledged, written),
            )
            for link in sorted(self._links, key=lambda link: link.remote)
            if link.is_accepted
        )
        return MasterStatus(
            log_end_offset=written,
            replicated_offset=acknowledgements.replicated,
            in_sync_count=acknowledgements.in_sync_count(written),
            needed_count=acknowledgements.needed_count(written),
            waiting_count=acknowledgements.waiting_count,
            timeout_count=acknowledgements.timeout_count,
            refused_link_count=self.refused_link_count,
            protocol_error_count=self.protocol_error_count,
            unauthenticated_count=self.unauthenticated_count,
            pushed_bytes=self.pushed_bytes,
            slaves=slaves,
        )

    # For the links.

    @property
    def pushable(self) -> int:
        """End of the bytes that may leave this broker."""
        positions = self._positions
        return positions.flushed if positions.is_sync else positions.written

    @property
    def confirmed(self) -> int:
        """End of the bytes that readers of this broker see; those of its slaves see no more."""
        return self._positions.readable

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def bounds(self) -> LogBounds:
        """What a slave can begin with."""
        segment_size = self._store.settings.commit_log_segment_size
        return LogBounds(self._store.log_min_offset, self.pushable, segment_size, self.confirmed)

    def open(self, link: SlaveLink, host: str) -> MasterHandshake | None:
        """Take a new link; ``None`` when there are too many. Raises NotAuthenticated when nobody can prove anything here."""
        if len(self._links) >= LINKS_MAX:
            self.refused_link_count += 1
            return None
        self._links.add(link)
        self._listen_to_store()
        return self._authentication.guard(self._make_handshake(host))

    def chunk(self, offset: int) -> memoryview | None:
        """The next bytes for a slave at ``offset``: a batch at most, within one segment, ``None`` when there are none now.

        Raises Absent when they must be fetched from the disk first, HaProtocolError when they are gone.
        """
        available = self.pushable - offset
        if available <= 0:
            return None
        size = min(available, self.settings.ha_transfer_batch_size)
        segment_size = self._store.settings.commit_log_segment_size
        size = min(size, segment_size - offset % segment_size)
        view = self._store.residency.from_memory(lambda: self._store.commit_log_slice(offset, size))
        if view is None:
            raise HaProtocolError(
                f"offset {offset} is no longer in this log, which begins at {self._store.log_min_offset}"
            )
        if self.settings.ha_flow_control_enable:
            now = self._clock.monotonic()
            size = self._flow.take(len(view), now, self.settings.max_ha_transfer_byte_in_second)
            if size == 0:
                assert self._loop is not None
                self._loop.call_later(self._flow.wait_s(now), self.wake)
                return None
            view = view[:size]
        self.pushed_bytes += len(view)
        return view

    def fetch(self, absent: Absent, then: Callable[[OSError | None], None]) -> bool:
        """Have what is absent read, then call ``then``; False when too many reads wait: try again with the next tick."""
        return self._store.cold_reader.read(absent, then)

    def acknowledged(self, link: SlaveLink) -> None:
        """The slave reported; answer whoever waited for that."""
        self._acknowledgements.acknowledged(link.identity, link, link.acknowledged)
        if link.answers_pings:
            name = str(link.identity)
            now = self._clock.monotonic()
            self._seen.setdefault(name, (now, 0.0))
            if (heard_at := link.heard_at) is not None:
                self.heard_at[name] = max(heard_at, self.heard_at.get(name, 0.0))
        self._settle()

    def closed(self, link: SlaveLink, problem: HaProtocolError | None) -> None:
        """A link ended."""
        if link not in self._links:
            return
        self._links.discard(link)
        self._listen_to_store()
        if link.is_accepted:
            self._acknowledgements.forget(link.identity, link)
        if problem is not None:
            self.protocol_error_count += 1
            self.unauthenticated_count += isinstance(problem, NotAuthenticated)
            logger.warning("slave %s is dropped: %s", link.remote, problem)
        elif link.is_accepted:
            logger.info("slave %s left at offset %d", link.remote, link.acknowledged)
        self._settle()

    def wake(self) -> None:
        """There may be bytes to push: called by the store after appends and flushes; many calls make one round."""
        if not self._is_wake_scheduled and self._loop is not None:
            self._is_wake_scheduled = True
            self._loop.call_soon(self._push_all)

    # Inside.

    def _apache_handshake(self, host: str) -> MasterHandshake:
        return ApacheHandshake(host, sync_from_last_file=self.settings.sync_from_last_file)

    def _listen_to_store(self) -> None:
        # Appends pay for the call only while there is somebody to push to, or a wait that only appends can end.
        is_wanted = self._server is not None and (self._links or self.settings.enable_auto_in_sync_replicas)
        self._store.on_progress = self.wake if is_wanted else None

    def _follow_mode(self) -> None:
        """Settings may change at run time; take up or lift the wait for slaves as they say now."""
        acknowledgements = self._acknowledgements
        if acknowledgements.is_synchronous == self._is_synchronous:
            return
        self._is_synchronous = acknowledgements.is_synchronous
        # What is visible stays so, and what was waited for is no more when nobody is needed.
        acknowledgements.replicated = max(acknowledgements.replicated, self._positions.written)
        self._store.confirm(acknowledgements.replicated if self._is_synchronous else UNBOUNDED)
        acknowledgements.answer()
        self._on_mode()

    def _push_all(self) -> None:
        self._is_wake_scheduled = False
        for link in list(self._links):
            link.push()
        if self.settings.enable_auto_in_sync_replicas:
            self._settle()

    def _settle(self) -> None:
        acknowledgements = self._acknowledgements
        written = self._positions.written
        if acknowledgements.settle(written) and self._is_synchronous:
            # Readers first: a producer that was answered may tell a consumer to look.
            self._store.confirm(acknowledgements.replicated)
            acknowledgements.answer()
            if self._telling is None and self._loop is not None and self._links:
                self._telling = self._loop.call_later(CONFIRMED_DELAY_MS / 1000, self._tell_confirmed)
        if self._is_sync_master:
            refusal = acknowledgements.refusal(written)
            if refusal is None:
                self._store.lift_refusal("replicas")
            else:
                self._store.refuse("replicas", PutStatus.IN_SYNC_REPLICAS_NOT_ENOUGH, refusal)

    def _tell_confirmed(self) -> None:
        self._telling = None
        for link in list(self._links):
            link.tell_confirmed()

    def _expire(self) -> None:
        self._expiry = None
        deadline = self._acknowledgements.expire(self._clock.monotonic())
        if deadline is not None and self._loop is not None:
            delay_s = max(0.0, deadline - self._clock.monotonic())
            self._expiry = self._loop.call_later(delay_s, self._expire)

    def _on_tick(self) -> None:
        now = self._clock.monotonic()
        self._follow_mode()
        self._listen_to_store()
        is_ping_due = now - self._pinged_at >= PING_INTERVAL_MS / 1000
        for link in list(self._links):
            link.tick(now)
            if link.acknowledged >= self._written_before:
                link.caught_up_at = now
            if link.is_accepted and link.answers_pings:
                name = str(link.identity)
                caught_up_at = now if link.acknowledged >= self._written_before else self._seen[name][1]
                self._seen[name] = (now, caught_up_at)
                if is_ping_due:
                    self._pinged_at = now
                    link.ping(now)
        self._written_before = self._positions.written
        # A slave that fell behind too far may no longer count; with a lowered need that also lets sends go.
        self._settle()
        interval_ms = min(
            TICK_INTERVAL_MS, self.settings.ha_send_heartbeat_interval / 4, self.settings.ha_housekeeping_interval / 4
        )
        assert self._loop is not None
        self._tick = self._loop.call_later(interval_ms / 1000, self._on_tick)
