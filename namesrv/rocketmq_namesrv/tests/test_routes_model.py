"""Any sequence of registrations, heartbeats, closed connections and waiting, against a model that only knows who is alive."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rocketmq_common.clock import ManualClock
from rocketmq_namesrv.processor import now_ms
from rocketmq_namesrv.routes import BrokerKey, RouteTable
from rocketmq_namesrv.tests.registrations import SYSTEM, registration

NAMES = st.sampled_from(["a", "b"])
IDS = st.integers(0, 2)
CONNECTIONS = st.integers(0, 3)
TOPICS = st.sets(st.sampled_from(["t0", "t1", "t2"])).map(sorted)


class Registrations(RuleBasedStateMachine):
    """The model: (name, id) → when it is dead and over which connection it spoke last; topics of masters by name."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.table = RouteTable()
        self.alive: dict[tuple[str, int], tuple[int, int, int]] = {}
        self.topics: dict[str, set[str]] = {}
        self.counter = 0

    @rule(name=NAMES, broker_id=IDS, topics=TOPICS, connection=CONNECTIONS, timeout_ms=st.integers(1, 50))
    def register(self, name: str, broker_id: int, topics: list[str], connection: int, timeout_ms: int) -> None:
        self.counter += 1
        wanted = registration(
            name,
            broker_id,
            topics=topics,
            counter=self.counter,
            connection=connection,
            timeout_ms=timeout_ms,
            acting=None,
        )
        self.table.register(wanted, now_ms(self.clock))
        self.alive[name, broker_id] = (now_ms(self.clock), timeout_ms, connection)
        if broker_id == 0:
            self.topics.setdefault(name, set()).update((*topics, *SYSTEM))

    @rule(name=NAMES, broker_id=IDS)
    def heartbeat(self, name: str, broker_id: int) -> None:
        known = self.table.heartbeat(BrokerKey("c", f"{name}-{broker_id}:10911"), now_ms(self.clock))
        assert known == ((name, broker_id) in self.alive)
        if known:
            self.alive[name, broker_id] = (now_ms(self.clock), *self.alive[name, broker_id][1:])

    @rule(name=NAMES, broker_id=IDS)
    def unregister(self, name: str, broker_id: int) -> None:
        self.table.unregister(BrokerKey("c", f"{name}-{broker_id}:10911"), name)
        self._dead({(name, broker_id)})

    @rule(connection=CONNECTIONS)
    def close(self, connection: int) -> None:
        self.table.connection_closed(connection)
        self._dead({who for who, (_, _, spoke) in self.alive.items() if spoke == connection})

    @rule(ms=st.integers(1, 40))
    def wait_and_scan(self, ms: int) -> None:
        self.clock.advance(ms)
        now = now_ms(self.clock)
        expected = {who for who, (last, timeout_ms, _) in self.alive.items() if last + timeout_ms < now}
        found = self.table.expired(now)
        assert {(live.broker_name, live.broker_id) for _, live in found} == expected
        for key, live in found:
            self.table.unregister(key, live.broker_name)
        self._dead(expected)

    def _dead(self, who: set[tuple[str, int]]) -> None:
        for one in who:
            self.alive.pop(one, None)
        for name in [n for n in self.topics if not any(alive == n for alive, _ in self.alive)]:
            del self.topics[name]

    @invariant()
    def exactly_the_living_are_known(self) -> None:
        addresses = {(b.name, i) for b in self.table.brokers.values() for i in b.addresses}
        assert addresses == set(self.alive)
        assert {(live.broker_name, live.broker_id) for live in self.table.live.values()} == set(self.alive)
        assert self.table.clusters == ({"c": {name for name, _ in self.alive}} if self.alive else {})

    @invariant()
    def routes_lead_to_the_living_and_only_to_them(self) -> None:
        for topic in ("t0", "t1", "t2"):
            found = self.table.route(topic)
            names = set() if found is None else {broker.name for broker in found[1]}
            assert names == {name for name, topics in self.topics.items() if topic in topics}


Registrations.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRegistrations = Registrations.TestCase
