"""The slave's side of replication: finds its master, asks what its log spans, keeps one link open.

The master's addresses come from the name server's answer to the registration, from ``haMasterAddress``, or from a request
906, and may change at any time. A log that cannot be continued by the master's is never cut or emptied here: the problem is said
aloud and looked at again later, because only a person, or an election, can decide which messages are to be lost.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable

from rocketmq_broker.ha.authentication import Authentication, SecretUnusable
from rocketmq_broker.ha.epoch_handshake import Following
from rocketmq_broker.ha.origin import (
    CannotFollow,
    MasterLog,
    MasterSilent,
    Origin,
    OwnLog,
    check_continuation,
    decide_origin,
)
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.slave_link import MasterLink
from rocketmq_broker.ha.status import FollowingStatus
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.client import split_address
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

RECONNECT_MIN_MS = 100
CONNECT_TIMEOUT_S = 3.0
STOP_TIMEOUT_S = 3.0
TICK_INTERVAL_MS = 250
# How often a connected slave compares its log with the span of the master's.
CHECK_INTERVAL_MS = 10_000

# Asks the master at a remoting address for the span of its log; raises MasterSilent.
AskMaster = Callable[[str], Awaitable[MasterLog]]


class ReplicationSlave:
    """Follows one master. ``own_host`` is this broker's address, by which two slaves on one machine are told apart;
    ``on_lost`` is called while the master cannot be reached. With ``following`` the link begins with our own handshake, which needs
    no questions over remoting.
    """

    def __init__(
        self,
        settings: ReplicationSettings,
        store: MessageStore,
        clock: Clock,
        tasks: TaskRegistry,
        ask_master: AskMaster,
        *,
        own_host: str = "",
        on_lost: Callable[[], None] = lambda: None,
        following: Following | None = None,
        authentication: Authentication | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._ask_master = ask_master
        self._own_host = own_host
        self._on_lost = on_lost
        self._following = following
        self._authentication = authentication or Authentication()
        # The master took no part in a proof that is not required; the next link does without.
        self._is_proof_left_out = False
        self._ha_address = settings.ha_master_address
        self._is_ha_address_fixed = bool(settings.ha_master_address)
        self._master_address = ""
        self._link: MasterLink | None = None
        self._closed: asyncio.Event = asyncio.Event()
        self._changed: asyncio.Event = asyncio.Event()
        self._stopping = False
        self._running: list[asyncio.Task[None]] = []
        self._problem = ""
        self._pause_ms = RECONNECT_MIN_MS
        self._master_end = -1
        self._connect_count = 0
        self.unproven_count = 0
        self.last_metadata_sync_ms = 0

    # Life.

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._running = [
            self._tasks.start(self._run(), "replication-slave", critical=True),
            self._tasks.every(TICK_INTERVAL_MS, self._tick, "replication-slave-tick"),
            self._tasks.every(CHECK_INTERVAL_MS, self._check, "replication-slave-check"),
        ]

    async def stop(self) -> None:
        """Close the link; nothing is stored any more when this returns."""
        self._stopping = True
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running = []
        if self._link is not None:
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await self._closed.wait()
            except TimeoutError:
                logger.error("the link to the master did not end within %g s", STOP_TIMEOUT_S)

    # For the rest of the broker.

    @property
    def master_address(self) -> str:
        """Remoting address of the master, empty while unknown."""
        return self._master_address

    @property
    def is_connected(self) -> bool:
        """The link is open."""
        return self._link is not None

    def is_following(self, epoch: int, silence_max_s: float) -> bool:
        """The link to the master of ``epoch`` is open, and it was heard of lately."""
        link = self._link
        return link is not None and link.epoch == epoch and self._clock.monotonic() - link.heard_at < silence_max_s

    def sever(self, reason: str) -> None:
        """End the link now: nothing is acknowledged on it any more when this returns."""
        if self._link is not None:
            self._link.close(reason)

    def set_master(self, ha_address: str | None, master_address: str | None, *, overrides: bool = False) -> None:
        """Where the master is now, as a name server (or with ``overrides`` an administrator) says; empty says nothing.

        A configured ``haMasterAddress`` stands against what name servers say.
        """
        if master_address:
            self._master_address = master_address
        if not ha_address or ha_address == self._ha_address or (self._is_ha_address_fixed and not overrides):
            return
        logger.info("the master replicates from %s (before: %s)", ha_address, self._ha_address or "unknown")
        self._ha_address = ha_address
        self._pause_ms = RECONNECT_MIN_MS
        self._changed.set()
        if self._link is not None:
            self._link.close("the master is elsewhere now")

    def status(self) -> FollowingStatus:
        """A snapshot for GET_BROKER_HA_STATUS, metrics and tests."""
        link = self._link
        written = self._store.positions.written
        heartbeat = link.heartbeat_offset if link is not None else -1
        return FollowingStatus(
            log_end_offset=written,
            acknowledged_offset=link.acknowledged if link is not None else -1,
            master_address=self._master_address,
            ha_address=self._ha_address,
            is_connected=link is not None,
            bytes_per_second=link.bytes_per_second if link is not None else 0,
            last_read_ms=link.last_read_ms if link is not None else 0,
            last_write_ms=link.last_write_ms if link is not None else 0,
            connect_count=self._connect_count,
            master_end_offset=max(self._master_end, heartbeat),
            last_metadata_sync_ms=self.last_metadata_sync_ms,
            unproven_count=self.unproven_count,
            problem="" if link is not None and link.received_frames else self._problem,
        )

    # Inside.

    async def _run(self) -> None:
        while not self._stopping:
            self._changed.clear()
            if not self._ha_address:
                await self._changed.wait()
                continue
            try:
                await self._follow_once()
            except CannotFollow as problem:
                self._say(str(problem))
                self._pause_ms = self._settings.ha_reconnect_interval
            except SecretUnusable as error:
                self._say(str(error))
            except (OSError, MasterSilent, ValueError) as error:
                self._say(f"master at {self._ha_address} cannot be reached: {error}")
            if self._changed.is_set():
                continue
            if self._pause_ms in (RECONNECT_MIN_MS, self._settings.ha_reconnect_interval):
                # Once at once, then as often as the master is tried: each question is a whole registration.
                self._on_lost()
            try:
                async with asyncio.timeout(self._pause_ms / 1000):
                    await self._changed.wait()
            except TimeoutError:
                self._pause_ms = min(2 * self._pause_ms, self._settings.ha_reconnect_interval)

    async def _follow_once(self) -> None:
        origin = None if self._following is not None else await self._find_origin()
        await self._flush_own()
        host, port = split_address(self._ha_address)
        proof = self._authentication.begin() if self._wants_proof else None
        self._closed.clear()
        reasons: list[str] = []

        def closed(reason: str) -> None:
            reasons.append(reason)
            self._link = None
            self._closed.set()

        link = MasterLink(self._settings, self._store, self._clock, origin, closed, self._following, proof)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: link, host, port, local_addr=self._local_address(host)
                )
            if not reasons:
                self._link = link
                self._connect_count += 1
                logger.info("connected to the master at %s", self._ha_address)
                await self._closed.wait()
        finally:
            # Without effect on a link that ended; when this task is cancelled the link goes with it.
            link.close("this slave stops")
        self.unproven_count += link.is_unproven
        self._is_proof_left_out = link.is_unproven and not self._authentication.is_required
        if link.diverged_at is not None and self._following is not None:
            self._following.diverged(link.diverged_at)
        if link.received_frames:
            self._pause_ms = RECONNECT_MIN_MS
            self._problem = ""
        if reasons[0]:
            self._say(f"link to the master at {self._ha_address} ended: {reasons[0]}")
        else:
            self._say(f"the master at {self._ha_address} closed the link")

    @property
    def _wants_proof(self) -> bool:
        return self._authentication.is_configured and not self._is_proof_left_out

    async def _find_origin(self) -> Origin:
        store = self._store
        follower = store.follower
        follower.forget_partial()
        own = OwnLog(store.positions.written, follower.is_empty, store.settings.commit_log_segment_size)
        master = None
        if self._master_address:
            try:
                master = await self._ask_master(self._master_address)
            except MasterSilent:
                if own.is_empty:
                    # Without knowing the master's span the older segments would be left out.
                    raise
            else:
                self._master_end = max(master.end_offset, 0)
        return decide_origin(own, master, sync_from_last_file=self._settings.sync_from_last_file)

    async def _flush_own(self) -> None:
        """With SYNC_FLUSH the first report says what is flushed, which must then be all there is."""
        store = self._store
        if store.positions.is_sync and store.positions.flushed < store.positions.written:
            done: asyncio.Future[PutStatus] = asyncio.get_running_loop().create_future()
            store.when_durable(store.positions.written, done.set_result)
            if await done is not PutStatus.PUT_OK:
                raise TimeoutError("this slave's own log could not be flushed in time")

    def _local_address(self, master_host: str) -> tuple[str, int] | None:
        """On one machine, slaves that have addresses of their own show them: the master tells slaves apart by address."""
        try:
            own, master = ipaddress.ip_address(self._own_host), ipaddress.ip_address(master_host)
        except ValueError:
            return None
        if own.is_loopback and master.is_loopback and own.version == master.version:
            return (self._own_host, 0)
        return None

    def _tick(self) -> None:
        if self._link is not None:
            self._link.tick(self._clock.monotonic())

    async def _check(self) -> None:
        """An Apache master sends heartbeats for ever to a slave that is outside its log (apache/rocketmq#3388)."""
        link = self._link
        if link is None or not self._master_address or self._following is not None:
            return
        own_end, is_empty = self._store.positions.written, self._store.follower.is_empty
        try:
            master = await self._ask_master(self._master_address)
        except MasterSilent as error:
            logger.debug("the master at %s did not say how far its log is: %s", self._master_address, error)
            return
        self._master_end = master.end_offset
        try:
            if not is_empty:
                check_continuation(own_end, master)
        except CannotFollow as problem:
            if link is self._link:
                link.close(str(problem))

    def _say(self, problem: str) -> None:
        # The same problem comes again with each attempt; it is logged once.
        log = logger.debug if problem == self._problem else logger.warning
        log("replication: %s", problem)
        self._problem = problem
