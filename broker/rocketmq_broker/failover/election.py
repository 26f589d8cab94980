"""Who may be master: decisions of one replica on what it saw of the lease. No I/O, no clock; times are monotonic seconds.

The rules that make it safe (each is a line below and an invariant of the simulation):
- Only a member of the in-sync set is elected, by a compare-and-swap that raises the epoch; every member has every acknowledged
  message.
- A candidate waits a whole lease duration since it last saw the lease renewed and since it last acknowledged anything to the
  old master. The old master may write only while its last renewal, or the answers of all members to its pings, are younger than
  that, counted from when they were *sent*. So one right ends before the other begins, whoever can reach the store.
- While the outcome of a change of the set is unknown, the union of old and new set must acknowledge; while that of a release is,
  nothing is acknowledged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from rocketmq_broker.failover.lease import NO_LEASE, LeaseRecord, Observed
from rocketmq_broker.failover.settings import ApiServerLoss, FailoverMode, FailoverSettings

# Between candidates of which one has more of the log, and between those that have the same.
RANK_STAGGER_S = 0.3
ORDINAL_STAGGER_S = 0.05


class Facts(NamedTuple):
    """What a replica knows of itself. The last four matter at a master only."""

    log_end: int
    log_epoch: int
    # A power loss may have taken acknowledged bytes from the end of this log.
    is_suspect: bool = False
    # The master of the lease's epoch was heard of on the open link within the lease's duration.
    is_following: bool = False
    in_sync: tuple[str, ...] = ()
    offsets: Mapping[str, int] = {}
    # Nothing is taken any more, and the replica that shall take over (any member when this one ends) has everything.
    is_drained: bool = False
    # This process ends.
    is_resigning: bool = False


class Election:
    """One replica's view; see the module. ``identity`` is ``member/uid/incarnation``."""

    def __init__(
        self,
        member: str,
        identity: str,
        settings: FailoverSettings,
        now: float,
        *,
        is_first: bool,
        count_min: int,
        ordinal: int = 0,
        address: str = "",
        ha_address: str = "",
    ) -> None:
        self.member = member
        self.identity = identity
        self._settings = settings
        self._is_first = is_first
        self._count_min = count_min
        self._ordinal = ordinal
        self._address = address
        self._ha_address = ha_address
        self._duration_s = settings.lease_duration / 1000
        self.observed: Observed | None = None
        self._changed_at = now
        # An earlier life of this replica may have acknowledged until just now.
        self._acknowledged_at = now
        self._renewed_at = -math.inf
        # The last state in which this replica was the holder.
        self._reign: LeaseRecord | None = None
        # Of proposals that may have been taken, all meant for one version: their members, the highest epoch, that version.
        self._proposed_members: set[str] = set()
        self._proposed_epoch = 0
        self._proposed_for = ""
        # The lease may be released already: whoever may take it over need not wait.
        self._is_releasing = False
        self._handover_since: float | None = None

    def reached_at(self, address: str, ha_address: str) -> None:
        """Where this replica is reached; told with the next renewal."""
        self._address, self._ha_address = address, ha_address

    # What happened.

    def observe(self, observed: Observed, now: float) -> None:
        """The lease was read, or a write was answered with it."""
        before = self.observed
        if before is None or _beat(before.record) != _beat(observed.record):
            self._changed_at = now
        if observed.version != self._proposed_for:
            self.refuse()
        self.observed = observed
        if observed.record.holder == self.identity:
            self._reign = observed.record

    def acknowledged(self, now: float) -> None:
        """Something was acknowledged to a master."""
        self._acknowledged_at = now

    def propose(self, record: LeaseRecord) -> None:
        """``record`` is about to be written over the state that was observed last."""
        assert self.observed is not None
        self._proposed_members.update(record.in_sync)
        self._proposed_epoch = max(self._proposed_epoch, record.epoch)
        self._is_releasing |= not record.holder
        self._proposed_for = self.observed.version

    def confirm(self, observed: Observed, sent_at: float, now: float) -> None:
        """The write that was sent at ``sent_at`` was taken."""
        self.observe(observed, now)
        if self.is_holder:
            self._renewed_at = sent_at

    def refuse(self) -> None:
        """The write met another version: none of what was proposed for the old one can be taken any more."""
        self._proposed_members = set()
        self._proposed_epoch = 0
        self._is_releasing = False

    # What follows.

    @property
    def record(self) -> LeaseRecord:
        """The lease as it was seen last."""
        return (self.observed or NO_LEASE).record

    @property
    def is_holder(self) -> bool:
        """This process is the master that the lease names."""
        return self.observed is not None and self.record.holder == self.identity

    @property
    def is_deposed(self) -> bool:
        """This process was master and will not be again in this reign: another took over, or it released the lease."""
        reign = self._reign
        if reign is None or self.is_holder:
            return False
        return self.record.epoch > reign.epoch or (self.record.epoch == reign.epoch and not self.record.holder)

    @property
    def members(self) -> frozenset[str]:
        """Replicas that must have a message before it is acknowledged; this one included."""
        return frozenset((self.member, *self.record.in_sync, *self._proposed_members))

    @property
    def is_handing_over(self) -> bool:
        """A planned switchover is under way: take no messages."""
        return self._handover_since is not None

    def is_changing(self, now: float) -> bool:
        """The lease changes hands in a moment: nobody holds it, its holder is asked to hand it over, or its time is nearly over."""
        record = self.record
        if not self.is_holder and now > self._vacant_since() - self._settings.lease_retry_period / 1000:
            # Not for ever: where nobody can be elected, nothing changes soon.
            return now < self._vacant_since() + self._duration_s
        return bool(record.target) and now - self._changed_at < self._duration_s

    def lease_age_s(self, now: float) -> float:
        """Seconds since this process's renewal that was taken last, or since it saw another's."""
        return now - (self._renewed_at if self.is_holder else self._changed_at)

    def may_follow(self, epoch: int) -> bool:
        """Whether the master of ``epoch`` may be acknowledged anything."""
        return epoch >= max(self.record.epoch, self._proposed_epoch)

    def may_write(self, now: float, heard_at: Mapping[str, float]) -> bool:
        """Whether this process may acknowledge a message at ``now``. ``heard_at``: when the ping was sent that a follower answered
        last.
        """
        if not self.is_holder or self._is_releasing:
            return False
        if now - self._renewed_at < self._settings.lease_renew_deadline / 1000:
            return True
        if self._settings.on_api_server_loss is ApiServerLoss.FENCE:
            return False
        # A member alone may go on: nobody else can be elected.
        return all(
            now - heard_at.get(name, -math.inf) < self._duration_s for name in self.members if name != self.member
        )

    def decide(self, facts: Facts, now: float) -> LeaseRecord | None:
        """What this replica wants the lease to be now, ``None`` when it should stay as it is.

        A master renews it with each call.
        """
        if self.observed is None:
            return None
        if self.is_holder:
            return self._renewal(facts, now)
        record, reign = self.record, self._reign
        if reign is not None:
            if record.holder or record.epoch >= reign.epoch:
                return None
            # The lease was deleted under a master: nobody else can have been elected from an empty one.
            return self._taken(msgspec.structs.replace(reign, target=""), facts, reign.in_sync)
        if not self._is_vacant(facts, now) or not self._is_electable(facts):
            return None
        if facts.is_suspect and (wanted := self._suspicion(facts)) is not None:
            return wanted
        if facts.is_suspect and not self._is_best_suspect(facts):
            return None
        if now < self._vacant_since() + self._stagger_s(facts):
            return None
        in_sync = record.in_sync or (self.member,)
        # Of a holder that died nothing is expected soon; one that released the lease follows in a moment.
        kept = tuple(name for name in in_sync if name != record.holder_name)
        if record.holder_name == self.member or len(kept) < self._count_min:
            kept = in_sync
        return self._taken(record, facts, kept if self.member in kept else (self.member,))

    # Inside.

    def _renewal(self, facts: Facts, now: float) -> LeaseRecord:
        record = self.record
        target = record.target
        if target and (target == self.member or target not in record.in_sync):
            target = ""
        if not target:
            self._handover_since = None
        elif self._handover_since is None:
            self._handover_since = now
        elif facts.is_drained:
            return msgspec.structs.replace(record, holder="", renewals=record.renewals + 1)
        elif now - self._handover_since > self._settings.switchover_timeout / 1000:
            target, self._handover_since = "", None
        holder = "" if facts.is_resigning and facts.is_drained else self.identity
        return msgspec.structs.replace(
            record,
            holder=holder,
            renewals=record.renewals + 1,
            in_sync=facts.in_sync or record.in_sync,
            offsets=dict(facts.offsets),
            target=target,
            address=self._address,
            ha_address=self._ha_address,
        )

    def _taken(self, record: LeaseRecord, facts: Facts, in_sync: tuple[str, ...]) -> LeaseRecord:
        return LeaseRecord(
            holder=self.identity,
            epoch=max(record.epoch, facts.log_epoch) + 1,
            renewals=record.renewals + 1,
            in_sync=in_sync,
            offsets={self.member: facts.log_end},
            address=self._address,
            ha_address=self._ha_address,
        )

    def _vacant_since(self) -> float:
        record = self.record
        if not record.holder:
            # Released, or never held. The one that was asked to take over goes first.
            return self._changed_at + (self._duration_s if record.target not in ("", self.member) else 0.0)
        return max(self._changed_at + self._settings.failover_delay / 1000, self._acknowledged_at) + self._duration_s

    def _is_vacant(self, facts: Facts, now: float) -> bool:
        if now < self._vacant_since():
            return False
        # A master that followers hear of goes on without the store, and they stay with it.
        return not (
            self.record.holder
            and facts.is_following
            and self._settings.on_api_server_loss is ApiServerLoss.CONTINUE_IF_FOLLOWED
        )

    def _is_electable(self, facts: Facts) -> bool:
        record = self.record
        if record.unclean and record.unclean == f"{self.member}@{record.epoch}":
            return True
        if self._settings.failover_mode is FailoverMode.MANUAL and record.epoch and record.target != self.member:
            return False
        if record.epoch == 0 and not record.in_sync:
            # A new group. Its first replica is the one that has the data, if there was a group without elections before.
            return self._is_first and facts.log_epoch == 0
        if self.member not in record.in_sync or facts.log_epoch > record.epoch:
            return False
        if facts.log_epoch == 0:
            # A member has followed or led; this store has not, so it is another one (fault F74).
            return False
        is_alone = set(record.in_sync) == {self.member}
        return is_alone or facts.is_suspect or facts.log_end >= record.offsets.get(self.member, 0)

    def _suspicion(self, facts: Facts) -> LeaseRecord | None:
        """Say where this log ends after the power loss, unless the lease does."""
        record = self.record
        if set(record.in_sync) == {self.member} or record.suspects.get(self.member) == facts.log_end:
            return None
        return msgspec.structs.replace(record, suspects={**record.suspects, self.member: facts.log_end})

    def _is_best_suspect(self, facts: Facts) -> bool:
        """Only when every member lost power may one of them lead: the one that kept most (rule E14)."""
        record = self.record
        others = [name for name in record.in_sync if name != self.member]
        if not all(name in record.suspects for name in others):
            return False
        return all((record.suspects[name], name) < (facts.log_end, self.member) for name in others)

    def _stagger_s(self, facts: Facts) -> float:
        record = self.record
        if record.target == self.member or record.epoch == 0:
            return 0.0
        ahead = sum(record.offsets.get(name, 0) > facts.log_end for name in record.in_sync if name != self.member)
        return ahead * RANK_STAGGER_S + self._ordinal * ORDINAL_STAGGER_S


def _beat(record: LeaseRecord) -> tuple[str, int, int]:
    """What changes with each sign of life of a master, and not with what others write."""
    return record.holder, record.epoch, record.renewals
