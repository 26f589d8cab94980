"""One replica's part in its group's elections, with effects: reading and writing the lease, taking over, stepping down.

The decisions are `Election`'s. A replica starts as a slave; when it is elected `on_elected` makes it master while it runs. A
master that is deposed, and a slave whose log parts from its master's, end this life of the broker (`on_ended`): the process
opens its store anew, cut where that is needed, and follows. So nothing of a reign that is over survives in memory.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from rocketmq_broker.failover.election import Election, Facts
from rocketmq_broker.failover.epochs import EpochHistory
from rocketmq_broker.failover.forwarding import Forwarding
from rocketmq_broker.failover.lease import LeaseConflict, LeaseStore, LeaseUnavailable
from rocketmq_broker.failover.membership import Follower, next_in_sync
from rocketmq_broker.failover.settings import FailoverSettings
from rocketmq_broker.ha.epoch_handshake import MasterWelcome, SlaveGreeting
from rocketmq_broker.ha.handshake import ApacheHandshake, MasterHandshake
from rocketmq_broker.ha.origin import OwnLog
from rocketmq_broker.ha.replication import Replication
from rocketmq_broker.identity import Identity
from rocketmq_broker.settings import BrokerSettings
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.client import RemotingClient
from rocketmq_store.statuses import PutStatus, RecoveryReport
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

STATE_FILE_NAME = "failover.json"
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
GUARD_INTERVAL_MS = 100
# Between two looks at a lease that changes hands, or while senders wait for a master.
CHANGING_RETRY_PERIOD_MS = 100
# Of one round against a lease that others change at the same time.
ATTEMPTS_MAX = 3


class _State(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    # Which life of the machine the store was opened in last, and whether that end of the log is not trusted.
    boot_id: str = ""
    is_suspect: bool = False


class SuccessionStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A snapshot for metrics, tools and tests. ``problem`` is empty when the lease can be reached."""

    member: str
    is_master: bool
    epoch: int
    in_sync: tuple[str, ...]
    holder: str
    may_write: bool
    is_suspect: bool
    lease_age_s: float
    election_count: int
    failure_count: int
    fenced_count: int
    problem: str = ""


class Succession:
    """See the module. `open` with the store, `start` once the ports are bound, `resign` before an orderly end."""

    def __init__(
        self,
        settings: FailoverSettings,
        broker: BrokerSettings,
        store: MessageStore,
        replication: Replication,
        leases: LeaseStore,
        identity: Identity,
        files: FileSystem,
        clock: Clock,
        tasks: TaskRegistry,
        client: RemotingClient,
        *,
        count_min: int,
        on_elected: Callable[[int], Awaitable[None]],
        on_ended: Callable[[int | None], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._replication = replication
        self._leases = leases
        self._identity = identity
        self._files = files
        self._clock = clock
        self._tasks = tasks
        self._count_min = count_min
        self._on_elected = on_elected
        self._on_ended = on_ended
        self._group = broker.group
        self._root = Path(store.settings.root)
        self._history = EpochHistory(files, self._root)
        self._state = _State()
        self._election: Election | None = None
        self._reign_epoch = 0
        self._reign_started = 0.0
        self._is_resigning = False
        self._is_over = False
        # This replica led or followed since it started.
        self.has_role = False
        self._wake = asyncio.Event()
        self._problem = ""
        self._is_fenced = False
        self._election_count = self._failure_count = self._fenced_count = 0
        self.member = settings.replica_name
        self.forwarding = Forwarding(client, self._master_address)

    # Life.

    def open(self, recovery: RecoveryReport) -> None:
        """Read what earlier lives left; the store is open. Blocks. Raises EpochFileDamaged, OSError."""
        self._history.load()
        path = self._root / STATE_FILE_NAME
        try:
            before = msgspec.json.decode(self._files.read(path), type=_State)
        except FileNotFoundError:
            before = _State()
        except msgspec.MsgspecError:
            logger.warning("%s cannot be read: the end of this log is not trusted until a master was followed", path)
            before = _State(is_suspect=True)
        boot_id = BOOT_ID_FILE.read_text().strip() if BOOT_ID_FILE.exists() else ""
        # Without a machine that went down, the kernel still wrote what a killed broker had acknowledged (rule E14).
        lost_power = recovery.mode == "unclean" and not self._store.positions.is_sync and before.boot_id != boot_id
        self._state = _State(boot_id=boot_id, is_suspect=before.is_suspect or lost_power)
        self._save_state(self._state)

    def start(self) -> None:
        """Take part from now on."""
        settings, identity = self._settings, self._identity
        self._election = Election(
            self.member,
            f"{self.member}/{settings.replica_uid or '-'}/{secrets.token_hex(4)}",
            settings,
            self._clock.monotonic(),
            is_first=settings.ordinal == 0,
            count_min=self._count_min,
            ordinal=settings.ordinal,
            address=identity.address,
            ha_address=identity.ha_address,
        )
        self._tasks.start(self._run(), "succession", critical=True)
        self._tasks.every(GUARD_INTERVAL_MS, self._guard, "right to write")

    async def resign(self) -> None:
        """Give the lease back before an orderly end, once another replica has everything or `switchoverTimeout` is over."""
        self.forwarding.close()
        election = self._election
        if election is None or not election.is_holder or self._is_over:
            return
        self._is_resigning = True
        self._guard()
        deadline = self._clock.monotonic() + self._settings.switchover_timeout / 1000
        while election.is_holder and self._clock.monotonic() < deadline:
            self._wake.set()
            await asyncio.sleep(GUARD_INTERVAL_MS / 1000)

    async def close(self) -> None:
        """Let go of the lease's store; the tasks have ended."""
        self._is_over = True
        await self._leases.close()

    # For the rest of the broker. `Following`:

    def greet(self) -> SlaveGreeting:
        """See `Following.greet`."""
        store = self._store
        store.follower.forget_partial()
        own = OwnLog(store.positions.written, store.follower.is_empty, store.settings.commit_log_segment_size)
        return SlaveGreeting(self._group, self.member, self._history, own, self._voted.may_follow)

    def acknowledged(self) -> None:
        """See `Following.acknowledged`."""
        self._voted.acknowledged(self._clock.monotonic())

    def diverged(self, offset: int) -> None:
        """See `Following.diverged`."""
        lost = self._store.positions.written - offset
        logger.warning(
            "this log parts from its master's at %d: %d bytes that only this replica has are cut", offset, lost
        )
        self._end(offset)

    # `Reign`:

    @property
    def members(self) -> frozenset[str]:
        """See `Reign.members`."""
        return self._voted.members

    def may_write(self) -> bool:
        """See `Reign.may_write`."""
        return self._voted.may_write(self._clock.monotonic(), self._replication.heard_at) and not self._is_over

    def welcome(self, peer_host: str) -> MasterHandshake:
        """How this master begins with a slave."""
        apache = ApacheHandshake(peer_host, sync_from_last_file=False)
        return MasterWelcome(apache, self._group, self._reign_epoch, self._history)

    def status(self) -> SuccessionStatus | None:
        """A snapshot; ``None`` before `start`."""
        election = self._election
        if election is None:
            return None
        record = election.record
        return SuccessionStatus(
            member=self.member,
            is_master=self._reign_epoch > 0,
            epoch=record.epoch,
            in_sync=record.in_sync,
            holder=record.holder_name,
            may_write=self._reign_epoch > 0 and self.may_write(),
            is_suspect=self._state.is_suspect,
            lease_age_s=election.lease_age_s(self._clock.monotonic()),
            election_count=self._election_count,
            failure_count=self._failure_count,
            fenced_count=self._fenced_count,
            problem=self._problem,
        )

    # Inside.

    @property
    def _voted(self) -> Election:
        assert self._election is not None, "not started"
        return self._election

    def _master_address(self) -> str:
        if self._election is None:
            return ""
        record = self._election.record
        return record.address if record.holder_name not in ("", self.member) else ""

    async def _run(self) -> None:
        while not self._is_over:
            self._wake.clear()
            await self._round()
            period_ms = self._settings.lease_retry_period
            if self._voted.is_changing(self._clock.monotonic()) or self.forwarding.is_waiting:
                period_ms = min(period_ms, CHANGING_RETRY_PERIOD_MS)
            try:
                async with asyncio.timeout(period_ms / 1000):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        election, now = self._voted, self._clock.monotonic
        is_known = election.is_holder
        try:
            for _ in range(ATTEMPTS_MAX):
                if not is_known:
                    election.observe(await self._leases.read(), now())
                wanted = election.decide(self._facts(), now())
                if wanted is None:
                    break
                if not election.is_holder:
                    # From here on nothing more is acknowledged to the old master.
                    self._replication.sever("this replica stands for election")
                election.propose(wanted)
                sent_at = now()
                assert election.observed is not None
                try:
                    observed = await self._leases.write(
                        wanted, election.observed.version, self._settings.lease_duration
                    )
                except LeaseConflict:
                    election.refuse()
                    is_known = False
                    continue
                election.confirm(observed, sent_at, now())
                break
        except LeaseUnavailable as error:
            # What was proposed may have been taken; the next answer tells.
            self._failure_count += 1
            self._say(str(error))
        else:
            self._say("")
        await self._apply()

    async def _apply(self) -> None:
        election = self._voted
        record = election.record
        if election.is_deposed:
            if not self._is_resigning:
                logger.warning("epoch %d of this master is over: %s leads epoch %d", self._reign_epoch,
                               record.holder_name or "nobody", record.epoch)  # fmt: skip
            self._end(None)
        elif election.is_holder and self._reign_epoch != record.epoch:
            await self._take_over(record.epoch)
        elif not election.is_holder and not self._reign_epoch:
            if record.holder:
                self._replication.set_master(record.ha_address, record.address, overrides=True)
            self.has_role = self.has_role or self._replication.is_following(
                record.epoch, self._settings.lease_duration / 1000
            )
            self._regain_trust()

    async def _take_over(self, epoch: int) -> None:
        store = self._store
        is_first = self._reign_epoch == 0
        if is_first:
            # Followers compare their logs with what is flushed here.
            await self._replication.stop_following()
            await self._flushed()
        self._history.begin(epoch, store.positions.written, store.log_min_offset)
        self._reign_epoch = epoch
        self._election_count += 1
        self.has_role = True
        self._reign_started = self._clock.monotonic()
        self._set_suspect(False)
        logger.warning(
            "this replica leads %s: epoch %d from offset %d on, in sync %s", self._group, epoch, store.positions.written,
            ", ".join(self._voted.record.in_sync),
        )  # fmt: skip
        await self._on_elected(epoch)
        self.forwarding.end()
        # The system may have chosen the port only now.
        self._voted.reached_at(self._identity.address, self._identity.ha_address)
        if not is_first:
            self._replication.drop_links("a new epoch begins")
        self._guard()

    async def _flushed(self) -> None:
        store = self._store
        done: asyncio.Future[PutStatus] = asyncio.get_running_loop().create_future()
        store.flush()
        store.when_durable(store.positions.written, done.set_result)
        if await done is not PutStatus.PUT_OK:
            raise OSError("the log of an elected replica could not be flushed")

    def _facts(self) -> Facts:
        positions, record = self._store.positions, self._voted.record
        if not self._reign_epoch:
            return Facts(
                log_end=positions.written,
                log_epoch=self._history.newest,
                is_suspect=self._state.is_suspect,
                is_following=self._replication.is_following(record.epoch, self._settings.lease_duration / 1000),
            )
        followers = self._replication.followers()
        offsets = {name: follower.acknowledged for name, follower in followers.items() if follower.is_linked}
        return Facts(
            log_end=positions.written,
            log_epoch=self._history.newest,
            in_sync=self._wanted_in_sync(followers),
            offsets={**offsets, self.member: self._replication.replicated},
            is_drained=self._is_drained(followers),
            is_resigning=self._is_resigning,
        )

    def _wanted_in_sync(self, followers: dict[str, Follower]) -> tuple[str, ...]:
        return next_in_sync(
            self._voted.record.in_sync,
            self.member,
            followers,
            self._clock.monotonic(),
            reign_started=self._reign_started,
            confirmed=self._replication.replicated,
            epoch_start=self._history.start,
            count_min=self._count_min,
            behind_max_ms=self._settings.ha_max_time_slave_not_catchup,
        )

    def _is_drained(self, followers: dict[str, Follower]) -> bool:
        election = self._voted
        written = self._store.positions.written
        if election.is_handing_over:
            target = followers.get(election.record.target)
            return target is not None and target.is_linked and target.acknowledged >= written
        linked = [f for name, f in followers.items() if f.is_linked and name in election.record.in_sync]
        return not linked or any(f.acknowledged >= written for f in linked)

    def _guard(self) -> None:
        """Take messages exactly while this replica may; notice what the lease should say without waiting for the next round."""
        if not self._reign_epoch or self._is_over:
            return
        election = self._voted
        if election.is_handing_over:
            self.forwarding.begin()
        else:
            self.forwarding.end()
        if election.is_handing_over or self._is_resigning:
            reason = "another replica takes over: send again"
        elif not self.may_write():
            self._fenced_count += not self._is_fenced
            reason = f"the lease could not be renewed in time: {self._problem or 'no answer yet'}"
        else:
            reason = ""
        self._is_fenced = bool(reason)
        if reason:
            self._store.refuse("lease", PutStatus.SERVICE_NOT_AVAILABLE, reason)
        else:
            self._store.lift_refusal("lease")
        followers = self._replication.followers()
        is_changed = self._wanted_in_sync(followers) != election.record.in_sync
        if election.is_holder and (is_changed or (election.is_handing_over and self._is_drained(followers))):
            self._wake.set()

    def _regain_trust(self) -> None:
        """A suspect that a master of the newest epoch counts as in sync has everything again."""
        record = self._voted.record
        if (
            self._state.is_suspect
            and self.member in record.in_sync
            and record.offsets.get(self.member, -1) >= self._history.start
            and self._replication.is_following(record.epoch, self._settings.lease_duration / 1000)
        ):
            self._set_suspect(False)

    def _set_suspect(self, is_suspect: bool) -> None:
        if self._state.is_suspect != is_suspect:
            self._save_state(msgspec.structs.replace(self._state, is_suspect=is_suspect))

    def _save_state(self, state: _State) -> None:
        self._files.replace(self._root / STATE_FILE_NAME, msgspec.json.encode(state), backup=False)
        self._state = state

    def _end(self, truncate_at: int | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._store.refuse("lease", PutStatus.SERVICE_NOT_AVAILABLE, "this broker is no longer master")
            self._on_ended(truncate_at)

    def _say(self, problem: str) -> None:
        # The same problem comes again with each round; it is logged once.
        if problem and problem != self._problem:
            logger.warning("lease of %s: %s", self._group, problem)
        elif self._problem and not problem:
            logger.info("lease of %s: reached again", self._group)
        self._problem = problem
