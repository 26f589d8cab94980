"""A broker group in a simulated world: the real election, in-sync sets and epoch histories around a model of logs and links.

Run many seeds: ``python -m rocketmq_broker.failover.tests.simulated_group --seeds 20000 [--first 0]``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from rocketmq_broker.failover.election import Election, Facts
from rocketmq_broker.failover.epochs import Epoch, consistent_point
from rocketmq_broker.failover.lease import NO_LEASE, LeaseRecord, Observed
from rocketmq_broker.failover.membership import Follower, next_in_sync
from rocketmq_broker.failover.settings import ApiServerLoss, FailoverSettings
from rocketmq_testkit.simulation import Simulation

API = "api"
CLIENT = "client"
FETCH_S = 0.25
SEND_S = 0.2
GUARD_S = 0.25
FLUSH_S = 0.5
FAULTS_UNTIL_S = 70.0
CONVERGED_BY_S = 130.0


class Entry(NamedTuple):
    """A message in a log; its offset is its index."""

    epoch: int
    message: int


class Plan(NamedTuple):
    """What a seed decides before it begins."""

    replicas: int
    count_min: int
    is_sync: bool
    on_loss: ApiServerLoss
    loses_power: bool


class Api:
    """The lease behind a network: answers, errors and silence."""

    def __init__(self, world: Simulation) -> None:
        self._world = world
        self.observed: Observed = NO_LEASE
        self._version = 0

    def write(self, record: LeaseRecord, version: str) -> bool:
        if version != self.observed.version:
            return False
        self._version += 1
        self.observed = Observed(record, str(self._version))
        return True

    def call(self, node: str, request: Callable[[], object], answer: Callable[[object], None]) -> None:
        def serve() -> None:
            result = request()
            self._world.send(API, node, lambda: answer(result))

        self._world.send(node, API, serve)


class Replica:
    """One replica: its disk survives, its process (an incarnation) comes and goes."""

    def __init__(self, group: Group, ordinal: int) -> None:
        self.group = group
        self.world = group.world
        self.name = f"b-{ordinal}"
        self.ordinal = ordinal
        self.log: list[Entry] = []
        self.flushed = 0
        self.epochs: tuple[Epoch, ...] = ()
        self.is_suspect = False
        self.incarnation = 0
        self.is_up = False
        self.start()

    # Life.

    def start(self) -> None:
        plan = self.group.plan
        self.incarnation += 1
        self.is_up = True
        self.settings = FailoverSettings(on_api_server_loss=plan.on_loss, ha_max_time_slave_not_catchup=6000)
        self.election = Election(
            self.name, f"{self.name}/uid/{self.incarnation}", self.settings, self.world.now,
            is_first=self.ordinal == 0, count_min=plan.count_min, ordinal=self.ordinal,
        )  # fmt: skip
        self.master_epoch = 0
        self.reign_started = 0.0
        self.start_offset = 0
        self.replicated = 0
        self.followers: dict[str, Follower] = {}
        self.waiting: dict[int, int] = {}
        self.heard_master_at = -math.inf
        self.asked_at: float | None = None
        self.round_number = 0
        self.repeat(self.settings.lease_retry_period / 1000, self.round)
        self.repeat(FETCH_S, self.fetch)
        self.repeat(GUARD_S, self.settle)
        self.repeat(FLUSH_S, self.flush)

    def repeat(self, interval_s: float, action: Callable[[], None]) -> None:
        incarnation = self.incarnation

        def step() -> None:
            if self.is_up and self.incarnation == incarnation:
                action()
                self.world.after(interval_s * self.world.random.uniform(0.9, 1.1), self.name, step)

        self.world.after(self.world.random.uniform(0, interval_s), self.name, step)

    def kill(self, *, power: bool = False) -> None:
        self.is_up = False
        self.waiting = {}
        if power and self.flushed < len(self.log):
            del self.log[self.world.random.randint(self.flushed, len(self.log)) :]
            self.is_suspect = True
        self.flushed = min(self.flushed, len(self.log))
        self.world.note(f"{self.name} ends{' by power loss' if power else ''} at {len(self.log)}")

    def flush(self) -> None:
        self.flushed = len(self.log)

    def restart_as_slave(self) -> None:
        self.world.note(f"{self.name} is deposed")
        self.kill()
        self.start()

    @property
    def is_master(self) -> bool:
        return self.is_up and self.master_epoch > 0

    def may_write(self) -> bool:
        heard = {name: follower.heard_at for name, follower in self.followers.items()}
        return self.is_master and self.election.may_write(self.world.now, heard)

    # The lease.

    def round(self) -> None:
        """As `Succession` does it: read, decide, write, follow what came of it."""
        self.round_number += 1
        current = self.guarded(self.round_number)

        def read(result: object) -> None:
            assert isinstance(result, Observed)
            self.election.observe(result, self.world.now)
            wanted = self.election.decide(self.facts(), self.world.now)
            if wanted is None:
                self.apply()
                return
            if not self.election.is_holder:
                self.heard_master_at = -math.inf
            self.election.propose(wanted)
            sent_at, version = self.world.now, result.version

            def written(taken: object) -> None:
                if not taken:
                    self.election.refuse()
                    return
                # The answer carries the state that was written.
                self.election.confirm(Observed(wanted, str(int(version or 0) + 1)), sent_at, self.world.now)
                self.apply()

            self.group.api.call(self.name, lambda: self.group.api.write(wanted, version), current(written))

        self.group.api.call(self.name, lambda: self.group.api.observed, current(read))

    def guarded(self, number: int) -> Callable[[Callable[[object], None]], Callable[[object], None]]:
        """Answers that come after the round was given up, or after the process ended, are nobody's."""
        incarnation = self.incarnation

        def wrap(answer: Callable[[object], None]) -> Callable[[object], None]:
            def call(result: object) -> None:
                if self.is_up and self.incarnation == incarnation and self.round_number == number:
                    answer(result)

            return call

        return wrap

    def facts(self) -> Facts:
        now = self.world.now
        if not self.is_master:
            duration_s = self.settings.lease_duration / 1000
            newest = self.epochs[-1].number if self.epochs else 0
            return Facts(len(self.log), newest, self.is_suspect, now - self.heard_master_at < duration_s)
        in_sync = next_in_sync(
            self.election.record.in_sync, self.name, self.followers, now,
            reign_started=self.reign_started, confirmed=self.replicated, epoch_start=self.start_offset,
            count_min=self.group.plan.count_min, behind_max_ms=self.settings.ha_max_time_slave_not_catchup,
        )  # fmt: skip
        offsets = {name: follower.acknowledged for name, follower in self.followers.items()}
        target = self.followers.get(self.election.record.target)
        is_drained = target is not None and target.is_linked and target.acknowledged == len(self.log)
        return Facts(
            len(self.log), self.master_epoch, in_sync=in_sync, offsets={**offsets, self.name: self.replicated},
            is_drained=is_drained and self.election.is_handing_over,
        )  # fmt: skip

    def apply(self) -> None:
        if self.election.is_deposed:
            self.restart_as_slave()
        elif self.election.is_holder and self.master_epoch != self.election.record.epoch:
            self.promote(self.election.record.epoch)

    def promote(self, epoch: int) -> None:
        is_reasserted = self.is_master
        self.master_epoch = epoch
        self.start_offset = len(self.log)
        kept = tuple(e for e in self.epochs if e.start < len(self.log))
        self.epochs = (*kept, Epoch(epoch, len(self.log)))
        self.is_suspect = False
        self.world.note(
            f"{self.name} is master of epoch {epoch} from {len(self.log)}, set {self.election.record.in_sync}"
        )
        if not is_reasserted:
            self.reign_started = self.world.now
            self.replicated = len(self.log)
            self.followers = {}
        self.group.promoted(self)

    # Replication.

    def fetch(self) -> None:
        record = self.election.record
        if self.is_master:
            for name, follower in self.followers.items():
                if self.world.now - follower.linked_at > 1.0 and follower.is_linked:
                    self.followers[name] = follower._replace(is_linked=False)
        elif record.holder and record.holder != self.election.identity:
            master = self.group.replicas[record.holder_name]
            me, end, epochs = self.incarnation, len(self.log), self.epochs
            self.world.send(self.name, master.name, lambda: master.serve(self, me, end, epochs))

    def serve(self, slave: Replica, incarnation: int, end: int, epochs: tuple[Epoch, ...]) -> None:
        if not self.is_master or (epochs and epochs[-1].number > self.master_epoch):
            return
        point = end if not end else consistent_point(epochs, end, self.epochs, len(self.log))
        if point is None:
            return
        known = self.followers.get(slave.name)
        now = self.world.now
        acknowledged = point if known is None else min(known.acknowledged, point)
        if known is None or acknowledged < known.acknowledged:
            heard_at = known.heard_at if known else -math.inf
            self.followers[slave.name] = Follower(acknowledged, True, now, self.reign_started, heard_at)
        else:
            self.followers[slave.name] = known._replace(is_linked=True, linked_at=now)
        entries, epoch, history = self.log[point:], self.master_epoch, self.epochs
        self.world.send(
            self.name, slave.name, lambda: slave.take(self, incarnation, epoch, point, entries, history, now)
        )

    def take(
        self, master: Replica, incarnation: int, epoch: int, point: int, entries: list[Entry],
        history: tuple[Epoch, ...], ping: float,
    ) -> None:  # fmt: skip
        election = self.election
        if not self.is_up or self.incarnation != incarnation or self.is_master or not election.may_follow(epoch):
            return
        if self.epochs and epoch < self.epochs[-1].number:
            return
        if len(self.log) > point:
            # The answer may be older than what was taken since; what agrees stays.
            mine = self.log[point:]
            same = next((i for i, (a, b) in enumerate(zip(mine, entries, strict=False)) if a != b), None)
            if same is not None or (len(mine) > len(entries) and history != self.epochs):
                del self.log[point + (same if same is not None else len(entries)) :]
        self.log += entries[len(self.log) - point :]
        self.flushed = min(self.flushed, len(self.log))
        self.epochs = history
        if election.record.epoch == epoch:
            self.heard_master_at = self.world.now
            if self.is_suspect and self.name in election.record.in_sync:
                self.is_suspect = False
        election.acknowledged(self.world.now)
        end = len(self.log)
        self.world.send(self.name, master.name, lambda: master.note_ack(self.name, incarnation, epoch, end, ping))

    def note_ack(self, name: str, incarnation: int, epoch: int, end: int, ping: float) -> None:
        known = self.followers.get(name)
        if not self.is_master or epoch != self.master_epoch or known is None:
            return
        if self.group.replicas[name].incarnation != incarnation:
            return  # a connection of an earlier life is closed
        now = self.world.now
        caught_up_at = now if end >= len(self.log) else known.caught_up_at
        self.followers[name] = Follower(
            max(end, known.acknowledged), True, now, caught_up_at, max(ping, known.heard_at)
        )
        self.settle()

    # Clients.

    def put(self, message: int) -> None:
        if not self.is_master or not self.may_write() or self.election.is_handing_over:
            return
        plan = self.group.plan
        if plan.is_sync:
            live = 1 + sum(f.is_linked for name, f in self.followers.items() if name in self.election.members)
            if live < plan.count_min:
                return
        self.log.append(Entry(self.master_epoch, message))
        self.waiting[len(self.log)] = message
        if not plan.is_sync:
            self.settle()

    def settle(self) -> None:
        """Answer who waits for nothing any more; the right to write is looked at in the same moment."""
        if not self.is_master:
            return
        reached = len(self.log)
        if self.group.plan.is_sync:
            for name in self.election.members - {self.name}:
                follower = self.followers.get(name)
                reached = min(reached, follower.acknowledged if follower else 0)
        self.replicated = max(self.replicated, reached)
        may_write = self.may_write()
        for end in sorted(self.waiting):
            if end <= reached and may_write:
                self.group.acknowledge(self, end, self.waiting.pop(end))


class Group:
    """The replicas, the faults that befall them, and what must be true all the time."""

    def __init__(self, seed: int) -> None:
        self.world = world = Simulation(seed, loss=0.0)
        chance = world.random
        replicas = chance.choice((2, 3, 3))
        count_min = chance.choice((1, 2))
        self.plan = Plan(
            replicas, count_min, chance.random() < 0.8,
            chance.choice((ApiServerLoss.CONTINUE_IF_FOLLOWED, ApiServerLoss.FENCE)),
            count_min == 2 and chance.random() < 0.5,
        )  # fmt: skip
        self.api = Api(world)
        self.replicas: dict[str, Replica] = {}
        # Log end → message, as clients were told; highest epoch that acknowledged anything.
        self.acknowledged: dict[int, int] = {}
        self.acknowledged_epoch = 0
        self.promotions = 0
        self.next_message = 0
        for ordinal in range(replicas):
            replica = Replica(self, ordinal)
            self.replicas[replica.name] = replica
        world.invariant = self.check
        world.after(0.5, CLIENT, self.produce)
        world.after(5.0, "chaos", self.harm)

    # What must be true.

    def check(self) -> None:
        writers = [r.name for r in self.replicas.values() if r.is_up and r.may_write()]
        assert len(writers) <= 1, f"{writers} may write at once"

    def acknowledge(self, replica: Replica, end: int, message: int) -> None:
        assert replica.master_epoch >= self.acknowledged_epoch, f"{replica.name} acknowledges under an old epoch"
        self.acknowledged_epoch = replica.master_epoch
        assert not self.plan.is_sync or end not in self.acknowledged, f"offset {end} was acknowledged twice"
        self.acknowledged[end] = message

    def promoted(self, replica: Replica) -> None:
        self.promotions += 1
        self.check_history(replica)

    def check_history(self, replica: Replica) -> None:
        if self.plan.is_sync:
            for end, message in self.acknowledged.items():
                found = replica.log[end - 1].message if end <= len(replica.log) else None
                assert found == message, f"acknowledged message {message} at {end} is {found} at {replica.name}"

    # What happens.

    def produce(self) -> None:
        self.next_message += 1
        for replica in self.replicas.values():
            message = self.next_message
            self.world.send(CLIENT, replica.name, lambda r=replica, m=message: r.put(m))  # type: ignore[misc]
        self.world.after(SEND_S, CLIENT, self.produce)

    def harm(self) -> None:
        world, chance = self.world, self.world.random
        if world.now > FAULTS_UNTIL_S:
            self.repair()
            return
        replica = chance.choice(list(self.replicas.values()))
        nodes = [*self.replicas, API]
        kind = chance.choice(
            ("kill", "kill", "freeze", "part", "part", "isolate", "one way", "heal", "switchover", "power")
        )
        if kind == "kill" and replica.is_up:
            replica.kill()
            world.after(chance.choice((0.3, 3.0, 25.0)), "chaos", lambda: self.revive(replica))
        elif kind == "power" and replica.is_up:
            # More than one unrepaired loss at once may take the last copy, which no mode forbids with ASYNC_FLUSH.
            is_safe = self.plan.loses_power and not any(r.is_suspect for r in self.replicas.values())
            replica.kill(power=is_safe and replica.name not in world.frozen)
            world.after(chance.choice((3.0, 25.0)), "chaos", lambda: self.revive(replica))
        elif kind == "freeze":
            world.note(f"{replica.name} is frozen")
            world.freeze(replica.name)
            world.after(chance.choice((1.0, 6.0, 20.0)), "chaos", lambda: world.thaw(replica.name))
        elif kind in ("part", "one way", "isolate"):
            pairs = [(replica.name, chance.choice([n for n in nodes if n != replica.name]))]
            if kind == "isolate":
                pairs = [(replica.name, node) for node in nodes if node != replica.name]
            for source, target in pairs:
                world.note(f"{source} to {target}: {kind}")
                world.block(source, target)
                if kind != "one way":
                    world.block(target, source)
        elif kind == "heal":
            world.note("the network heals")
            world.heal()
        elif kind == "switchover":
            record = self.api.observed.record
            world.note(f"switchover to {replica.name} is asked for")
            self.api.write(msgspec.structs.replace(record, target=replica.name), self.api.observed.version)
        world.after(chance.expovariate(1 / 5.0), "chaos", self.harm)

    def revive(self, replica: Replica) -> None:
        if not replica.is_up:
            self.world.note(f"{replica.name} starts")
            replica.start()

    def repair(self) -> None:
        self.world.note("everything is repaired")
        self.world.heal()
        for replica in self.replicas.values():
            self.world.thaw(replica.name)
            self.revive(replica)


def run(seed: int) -> Group:
    """One seed, to the end. Raises AssertionError with the seed and its story."""
    group = Group(seed)
    try:
        group.world.run_until(CONVERGED_BY_S)
        writers = [r for r in group.replicas.values() if r.may_write()]
        assert len(writers) == 1, f"{len(writers)} replicas may write in the end"
        before = len(group.acknowledged)
        group.world.run_until(CONVERGED_BY_S + 5)
        assert len(group.acknowledged) > before, "nothing is acknowledged in the end"
        master = writers[0]
        group.check_history(master)
        for replica in group.replicas.values():
            length = min(len(replica.log), len(master.log))
            assert replica.log[:length] == master.log[:length], f"{replica.name} has another log than {master.name}"
            assert len(master.log) - length < 20, f"{replica.name} has not caught up"
    except AssertionError as problem:
        story = "\n".join(group.world.trace[-60:])
        raise AssertionError(f"seed {seed}, {group.plan}: {problem}\n{story}") from problem
    return group


def main() -> int:
    """Run seeds until one fails; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    acknowledged = promotions = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        group = run(seed)
        acknowledged += len(group.acknowledged)
        promotions += group.promotions
    sys.stdout.write(
        f"{arguments.seeds} seeds, {promotions} elections, {acknowledged} messages acknowledged, 0 problems\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
