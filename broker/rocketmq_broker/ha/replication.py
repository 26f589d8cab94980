"""Replication of one broker, in whichever role it has: what the composition root starts and the other parts ask.

A master serves slaves and bounds sends and reads by their acknowledgements; a slave takes no messages, follows its master's log and
copies its tables. Both answer 906 and 908, by which brokers of a group tell each other where the master replicates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from rocketmq_broker.failover.membership import Follower
from rocketmq_broker.ha.acknowledgements import Reign
from rocketmq_broker.ha.authentication import Authentication
from rocketmq_broker.ha.epoch_handshake import Following
from rocketmq_broker.ha.handshake import MasterHandshake
from rocketmq_broker.ha.inquiry import MasterInquiry
from rocketmq_broker.ha.master import ReplicationMaster
from rocketmq_broker.ha.metadata import MetadataSync
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.slave import ReplicationSlave
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_broker.identity import Identity
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.replication import ExchangeHaInfoHeader, ResetMasterFlushOffsetHeader
from rocketmq_store.positions import UNBOUNDED
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

# A topic that was just made must be known here before its master can be lost.
NEW_QUEUES_INTERVAL_MS = 500


class Replication:
    """See the module. ``promise`` is there from the beginning; everything else from `start` to `stop`.

    ``on_master_lost`` is called at a slave whose master cannot be reached: name servers may know a new one.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        settings: ReplicationSettings,
        identity: Identity,
        store: MessageStore,
        metadata: MetadataSync,
        client: RemotingClient,
        clock: Clock,
        tasks: TaskRegistry,
        *,
        on_master_lost: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._identity = identity
        self._store = store
        self._metadata = metadata
        self._inquiry = MasterInquiry(client)
        self._clock = clock
        self._tasks = tasks
        self._on_master_lost = on_master_lost
        self._master: ReplicationMaster | None = None
        self._slave: ReplicationSlave | None = None
        self._ha_port = 0
        self._queue_count = 0
        # Set where elections decide on the role: what the link to a master tells.
        self.following: Following | None = None
        self._authentication = Authentication(
            broker.group, settings.ha_secret_file, is_required=settings.ha_authentication_required
        )
        self.promise = SendPromise(store)

    def routes(self) -> list[Route]:
        """The rows of the broker's table that replication serves."""
        return [
            Route(RequestCode.EXCHANGE_BROKER_HA_INFO, ExchangeHaInfoHeader, self.exchange),
            Route(RequestCode.RESET_MASTER_FLUSH_OFFSET, ResetMasterFlushOffsetHeader, self.reset_flush_offset),
        ]

    async def start(self, ha_port: int) -> int:
        """Take up the configured role on the open store; the port slaves reach this broker at (``ha_port`` 0: any).

        Raises OSError when a master's port is taken, SecretUnusable.
        """
        # Said now and not by the first link that fails.
        self._authentication.read()
        self._ha_port = ha_port
        if self._broker.broker_role is BrokerRole.SLAVE:
            self._store.set_writeable(False, "this broker is a slave: send to its master")
            if self.following is not None:
                # The end of this log may be what a new master never had; a master tells how much is sure.
                self._store.confirm(0)
            slave = ReplicationSlave(
                self._settings,
                self._store,
                self._clock,
                self._tasks,
                self._inquiry.ask,
                own_host=self._identity.ha_host,
                on_lost=self._on_master_lost,
                following=self.following,
                authentication=self._authentication,
            )
            self._slave = slave
            slave.start()
            self._tasks.every(self._settings.slave_sync_interval, self._copy_metadata, "metadata from the master")
            self._tasks.every(NEW_QUEUES_INTERVAL_MS, self._note_new_queues, "metadata of new queues")
            return ha_port
        return await self._start_master(None, None)

    async def stop_following(self) -> None:
        """This slave was elected: no link is open, nothing is stored any more when this returns."""
        slave, self._slave = self._slave, None
        if slave is not None:
            await slave.stop()
            self._store.follower.forget_partial()
            # What this replica has is the group's log from now on.
            self._store.confirm(UNBOUNDED)

    async def lead(self, reign: Reign, handshake: Callable[[str], MasterHandshake]) -> int:
        """Take up the elected master's role, which ``brokerRole`` names by now; the port that slaves reach. Raises OSError."""
        port = await self._start_master(reign, handshake)
        self._store.set_writeable(True)
        return port

    async def _start_master(self, reign: Reign | None, handshake: Callable[[str], MasterHandshake] | None) -> int:
        is_sync_master = self._broker.broker_role is BrokerRole.SYNC_MASTER
        master = ReplicationMaster(
            self._settings,
            self._store,
            self._clock,
            is_sync_master=is_sync_master,
            on_mode=lambda: self.promise.follow(master),
            handshake=handshake,
            reign=reign,
            authentication=self._authentication,
        )
        await master.start(self._broker.bind_address, self._ha_port)
        self._master = master
        if reign is not None:
            self.promise.follow(master)
        if is_sync_master and not master.is_synchronous:
            logger.warning(
                "brokerRole is SYNC_MASTER but inSyncReplicas is 1: sends wait for no slave, as with Apache's broker; "
                "set inSyncReplicas=2 to have every acknowledged message on a slave"
            )
        return master.port

    async def stop(self) -> None:
        """End the role: no link is open, nobody waits, nothing is written to the store any more when this returns."""
        self.promise.follow(None)
        if self._master is not None:
            await self._master.stop()
            # Nobody reads any more. Recovery will find the whole log; the close is clean only when all of it is dispatched.
            self._store.confirm(UNBOUNDED)
        if self._slave is not None:
            await self._slave.stop()
            self._store.confirm(UNBOUNDED)

    # For the rest of the broker.

    def set_master(self, ha_address: str, master_address: str, *, overrides: bool = False) -> None:
        """A name server, or with ``overrides`` the lease, said where this slave's master is; empty where it knows none."""
        if self._slave is not None:
            self._slave.set_master(ha_address, master_address, overrides=overrides)

    def is_following(self, epoch: int, silence_max_s: float) -> bool:
        """See `ReplicationSlave.is_following`."""
        return self._slave is not None and self._slave.is_following(epoch, silence_max_s)

    def sever(self, reason: str) -> None:
        """See `ReplicationSlave.sever`."""
        if self._slave is not None:
            self._slave.sever(reason)

    def drop_links(self, reason: str) -> None:
        """See `ReplicationMaster.drop_links`."""
        if self._master is not None:
            self._master.drop_links(reason)

    @property
    def heard_at(self) -> dict[str, float]:
        """At a master: see `ReplicationMaster.heard_at`."""
        return {} if self._master is None else self._master.heard_at

    def followers(self) -> dict[str, Follower]:
        """At a master: see `ReplicationMaster.followers`."""
        return {} if self._master is None else self._master.followers()

    @property
    def replicated(self) -> int:
        """At a master: log offset up to which everybody who is waited for has the log."""
        return 0 if self._master is None else self._master.replicated

    @property
    def is_master_reachable(self) -> bool:
        """At a slave: the link to its master is open. Consumers belong at the master then."""
        return self._slave is not None and self._slave.is_connected

    def status(self) -> MasterStatus | FollowingStatus | None:
        """A snapshot for GET_BROKER_HA_STATUS, metrics and tests; ``None`` before `start`."""
        if self._master is not None:
            return self._master.status()
        return None if self._slave is None else self._slave.status()

    # Requests.

    def exchange(self, connection: Connection, _: Command, header: ExchangeHaInfoHeader) -> Response:
        """906: tell a slave where its master is, or ask a master."""
        if header.master_ha_address:
            if self._slave is not None:
                logger.info("%s says that the master replicates from %s", connection.remote, header.master_ha_address)
                self._slave.set_master(header.master_ha_address, header.master_address, overrides=True)
            return Response()
        if self._master is None:
            return Response()
        return Response(
            ext=ExchangeHaInfoHeader(
                master_ha_address=self._identity.ha_address,
                master_address=self._identity.address,
                master_flush_offset=self._store.positions.flushed,
            )
        )

    def reset_flush_offset(self, _: Connection, __: Command, header: ResetMasterFlushOffsetHeader) -> Response:
        """908: a master tells a slave how far it has flushed; what the slave stores does not depend on it."""
        logger.debug("the master has flushed up to %d", header.master_flush_offset)
        return Response()

    # Inside.

    async def _note_new_queues(self) -> None:
        count = self._store.queue_count
        if count != self._queue_count:
            await self._copy_metadata(is_urgent=True)
            self._queue_count = count

    async def _copy_metadata(self, *, is_urgent: bool = False) -> None:
        slave = self._slave
        if slave is None or not slave.master_address or slave.master_address == self._identity.address:
            return
        await self._metadata.round(slave.master_address, is_urgent=is_urgent)
        slave.last_metadata_sync_ms = self._metadata.synced_ms
