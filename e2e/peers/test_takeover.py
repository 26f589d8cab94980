"""Taking over from Apache's broker while Java clients work, and giving back: the steps of ``docs/migration.md``.

The other kind joins as a slave, gets everything, the old master is made to wait for it, ends, and the slave is started again as the
master. Nothing that a producer was told is stored may be missing at a consumer that was there all the time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e import frames, toolchain
from e2e.clusters import TEST_BROKER_SETTINGS, Broker, Cluster, Kind, registered_brokers
from e2e.conftest import tools
from e2e.drivers import Driver, PeerError, java_driver
from e2e.peers.replicas import Group, ha_status, is_answering, log_end
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]
Clients = Callable[[Driver, str, str], None]
Unique = Callable[[str], str]

GET_ALL_CONSUMER_OFFSET = 43
PAUSE_SECONDS = 0.02
EARLY = 50
AFTERWARDS = 200
LONG_LEVEL = 2
LATER_SECONDS = 25
# The client asks for routes every 30 s and gives a dead master up with its own next look; a loaded machine adds to that.
BACK_SECONDS = 120.0
# Apache's slave copies tables for the first time about a minute after its start.
TABLES_SECONDS = 150.0
APACHE_STOP_SECONDS = 60.0
SETTINGS = {
    "messageDelayLevel": f"1s {LATER_SECONDS}s " + " ".join(["1s"] * 16),
    "transactionTimeOut": "1000",
    "transactionCheckInterval": "1000",
    "transactionCheckMax": "1000",
    # Apache notes ends in batches of this age, and asks again meanwhile.
    "transactionOpBatchInterval": "200",
    "slaveTimeout": "3000",
}
PAIRS = [(Kind.APACHE, Kind.OURS), (Kind.OURS, Kind.APACHE)]
IDS = ["from-apache-to-ours", "from-ours-to-apache"]


class Sending:
    """A Java producer with its defaults in a process of its own, which sends one message after the other until `stop`.

    ``acknowledged`` are the bodies whose answer was SEND_OK; ``failures`` what its client raised, retries included.
    """

    def __init__(self, directory: Path, namesrv: str, topic: str) -> None:
        self.acknowledged: list[str] = []
        self.unsure: list[str] = []
        self.failures: list[str] = []
        self.longest_gap_seconds = 0.0
        self.topic = topic
        self._ending = threading.Event()
        self._java = java_driver(toolchain.apache(), directory)
        self._java.call("producer.start", name="steady", group="steady-producers", namesrv=namesrv)
        self._thread = threading.Thread(target=self._run, name="sending")
        self._thread.start()

    def _run(self) -> None:
        number = 0
        last = time.monotonic()
        while not self._ending.wait(PAUSE_SECONDS):
            body = f"m{number}"
            number += 1
            message = {"body": body, "keys": f"key-{body}"}
            try:
                (answer,) = self._java.call(
                    "producer.send", name="steady", topic=self.topic, messages=[message], answer_timeout_seconds=90
                )
            except PeerError as error:
                self.failures.append(str(error))
                continue
            if answer["status"] != "SEND_OK":
                self.unsure.append(body)
                continue
            self.acknowledged.append(body)
            now = time.monotonic()
            self.longest_gap_seconds = max(self.longest_gap_seconds, now - last)
            last = now

    def wait_more(self, count: int, timeout_seconds: float = BACK_SECONDS) -> None:
        """Wait until ``count`` more messages are acknowledged."""
        goal = len(self.acknowledged) + count

        def reached() -> bool:
            assert self._thread.is_alive(), "the producer's process is gone"
            return len(self.acknowledged) >= goal

        last = self.failures[-1] if self.failures else None
        wait_until(reached, f"{count} more are acknowledged (failure before: {last})", timeout_seconds, 0.1)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        self._java.close()


@contextmanager
def sending(directory: Path, namesrv: str, topic: str) -> Iterator[Sending]:
    directory.mkdir()
    running = Sending(directory, namesrv, topic)
    try:
        yield running
    finally:
        running.stop()


class Receiving:
    """A push consumer of the Java driver that is there all the time; ``bodies`` counts what it was given."""

    def __init__(self, java: Driver, name: str, namesrv: str, topic: str, **options: Any) -> None:
        self.java, self.name, self.group = java, name, f"{name}-group"
        self.bodies: Counter[str] = Counter()
        self._seen = 0
        subscription = {"topic": topic, "expression": options.pop("expression", "*")}
        java.call(
            "consumer.start", name=name, group=self.group, namesrv=namesrv, subscriptions=[subscription], **options
        )

    def look(self) -> Counter[str]:
        new = self.java.call("consumer.received", name=self.name, since=self._seen)
        self._seen += len(new)
        self.bodies.update(message["body"] for message in new)
        return self.bodies

    def wait_for(self, bodies: set[str], timeout_seconds: float = BACK_SECONDS) -> None:
        def missing() -> set[str]:
            return bodies - self.look().keys()

        try:
            wait_until(lambda: not missing(), "everything is consumed", timeout_seconds, 0.2)
        except TimeoutError:
            lost = sorted(missing())
            pytest.fail(f"{len(lost)} of {len(bodies)} never came to {self.name}: {lost[:20]}")


def rocketmq(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run our command line, which must succeed."""
    command = [str(Path(sys.executable).with_name("rocketmq")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def reconfigure(broker: Broker, **settings: str) -> None:
    """Change lines of the broker's configuration file."""
    lines = dict(line.split("=", 1) for line in broker.configuration.read_text().splitlines())
    broker.configuration.write_text("".join(f"{key}={value}\n" for key, value in (lines | settings).items()))


def end(broker: Broker) -> None:
    """An orderly end; Apache's takes about 15 s."""
    broker.process.stop(APACHE_STOP_SECONDS)


def wait_committed(broker: Broker, group: str, count: int) -> None:
    """Wait until the broker's table of the group's offsets covers ``count`` messages."""

    def copied() -> bool:
        table = frames.call(broker.address, GET_ALL_CONSUMER_OFFSET).json_lenient()["offsetTable"]
        return sum(sum(queues.values()) for key, queues in table.items() if key.endswith(f"@{group}")) >= count

    wait_until(copied, f"{broker.name} knows how far {group} is", TABLES_SECONDS, 0.5)


def wait_followed(master: Broker) -> None:
    """Wait until the slave has everything that the master's log holds now."""
    goal = log_end(master)

    def followed() -> bool:
        links = ha_status(master)["haConnectionInfo"]
        return bool(links) and max(link["slaveAckOffset"] for link in links) >= goal

    wait_until(followed, f"the slave has the log up to {goal}", 60, 0.1)


class Unfinished:
    """What the old master was told and the new one must bring to its end: a delay, a timer, a retry, an open transaction."""

    BODIES = frozenset({"delayed", "timed", "retried", "half"})

    def __init__(self, java: Driver, clients: Clients, unique: Unique, namesrv: str, topic: str) -> None:
        self.java, self.transactions = java, unique("tx")
        name = unique("fussy")
        clients(java, "consumer", name)
        self.fussy = Receiving(
            java, name, namesrv, topic, expression="Fussy", fail_times=1, delay_level_when_next=LONG_LEVEL
        )
        clients(java, "transaction", self.transactions)
        java.call("transaction.start", name=self.transactions, group=unique("tx-group"), namesrv=namesrv)
        plain = unique("plain")
        clients(java, "producer", plain)
        java.call("producer.start", name=plain, namesrv=namesrv)
        messages = [
            {"body": "retried", "tag": "Fussy"},
            {"body": "delayed", "delay_level": LONG_LEVEL},
            {"body": "timed", "setDelayTimeSec": LATER_SECONDS},
        ]
        sent = java.call("producer.send", name=plain, topic=topic, messages=messages)
        half = [{"body": "half", "state": "UNKNOW"}]
        sent += java.call("transaction.send", name=self.transactions, topic=topic, messages=half)
        assert {answer["status"] for answer in sent} == {"SEND_OK"}, sent
        wait_until(lambda: self.fussy.look()["retried"] == 1, "the message is refused once", 60, 0.2)

    def finish(self, receiving: Receiving) -> None:
        """Answer the new master's question, and wait for everything."""
        before = len(self.java.call("transaction.checks", name=self.transactions))

        def asked() -> bool:
            return len(self.java.call("transaction.checks", name=self.transactions)) > before

        wait_until(asked, "the producer is asked about its transaction", BACK_SECONDS, 0.2)
        assert "half" not in receiving.look()
        self.java.call("transaction.answer", name=self.transactions, state="COMMIT_MESSAGE")
        receiving.wait_for(set(self.BODIES))
        wait_until(lambda: self.fussy.look()["retried"] >= 2, "the refused message comes again", BACK_SECONDS, 0.2)


@pytest.mark.parametrize(("first", "second"), PAIRS[:1], ids=IDS[:1])
def test_the_other_kind_takes_over_from_a_live_master_and_nothing_is_lost(
    java5: Driver,
    tmp_path: Path,
    unique: Unique,
    clients: Clients,
    record_property: Callable[[str, object], None],
    first: Kind,
    second: Kind,
) -> None:
    topic = unique("Live")
    group = Group(tmp_path, first, second)
    try:
        # Apache's master begins as most do; ours cannot change its role while it runs.
        role = "ASYNC_MASTER" if first is Kind.APACHE else "SYNC_MASTER"
        master = group.start_master(brokerRole=role, **SETTINGS)
        namesrv = group.masters.namesrv_address
        name = unique("reader")
        with sending(tmp_path / "producer", namesrv, topic) as steady:
            steady.wait_more(EARLY)
            early = set(steady.acknowledged[:EARLY])
            clients(java5, "consumer", name)
            reader = Receiving(java5, name, namesrv, topic)
            reader.wait_for(early)

            slave = group.start_slave(**SETTINGS)
            wait_followed(master)
            shown = json.loads(rocketmq("broker", "replication", "-n", namesrv, "-o", "json").stdout)
            assert [(row["broker_id"], row["role"]) for row in shown] == [(0, "master"), (1, "slave")]
            wait_committed(slave, reader.group, 2 * EARLY)
            changes = {"inSyncReplicas": "2"} | ({"brokerRole": "SYNC_MASTER"} if first is Kind.APACHE else {})
            for key, value in changes.items():
                told = java5.mqadmin("updateBrokerConfig", "-b", master.address, "-k", key, "-v", value)
                assert not told.failed, told.errors
            # What is acknowledged from here on is at the slave; this waits for what was acknowledged before.
            wait_followed(master)
            unfinished = Unfinished(java5, clients, unique, namesrv, topic)

            end(master)
            reconfigure(slave, brokerId="0", brokerRole="ASYNC_MASTER")
            end(slave)
            slave.process.start()
            wait_until(lambda: is_answering(slave), "the new master answers", 90, 0.2)
            steady.wait_more(AFTERWARDS)
            unfinished.finish(reader)
        acknowledged = set(steady.acknowledged)
        reader.wait_for(acknowledged)
        twice = {body: count for body, count in reader.look().items() if count > 1}
        figures = {
            "acknowledged": len(acknowledged),
            "unsure": len(steady.unsure),
            "failed sends": len(steady.failures),
            "seconds without a send": round(steady.longest_gap_seconds, 1),
            "received twice": len(twice),
        }
        record_property("figures", str(figures))
        print(figures)
        # The group went on where it was: what it had consumed early did not come again.
        assert not early & twice.keys(), sorted(early & twice.keys())[:20]
        assert group.registered_ids() == {"0"}
        found = java5.mqadmin("queryMsgByKey", "-n", namesrv, "-t", topic, "-k", f"key-{min(early)}")
        assert not found.failed, found.errors
        assert len(found.rows) == 1, found.output
    finally:
        group.stop()


@pytest.mark.parametrize(("writer", "opener"), PAIRS, ids=IDS)
def test_what_was_under_way_is_finished_by_the_broker_that_opens_the_directory(
    java5: Driver, tmp_path: Path, unique: Unique, clients: Clients, writer: Kind, opener: Kind
) -> None:
    topic, name = unique("UnderWay"), unique("reader")
    settings = {**TEST_BROKER_SETTINGS, **SETTINGS}
    with tools():
        toolchain.apache()
    # Clients stay while the broker is exchanged, and so does their name server, which is of the first kind.
    with (
        Cluster(writer, tmp_path / "writer", settings=settings) as first,
        Cluster(opener, tmp_path / "opener", settings=settings, broker_names=(), namesrv_count=0) as second,
    ):
        clients(java5, "consumer", name)
        reader = Receiving(java5, name, first.namesrv_address, topic)
        unfinished = Unfinished(java5, clients, unique, first.namesrv_address, topic)
        old = first.broker
        for group in (reader.group, unfinished.fussy.group):
            wait_committed(old, group, 1)
        end(old)
        if writer is Kind.APACHE:
            assert_sound(old.store)
        second.namesrv_ports = first.namesrv_ports
        # Under another name, as under the operator, which has its own names.
        new = second.add_broker("renamed", store=old.store, port=old.port)
        wait_until(lambda: is_answering(new), "the new broker answers", 90, 0.2)
        unfinished.finish(reader)
        received = {body: reader.look()[body] for body in unfinished.BODIES}
        if opener is Kind.APACHE:
            # It was seen to commit a transaction as often as it had asked: its own ends come after its questions.
            received["half"] = min(received["half"], 1)
        assert received == dict.fromkeys(unfinished.BODIES, 1)


def assert_sound(store: Path) -> None:
    """The look that comes before the first start on Apache's directory finds nothing wrong, and names the sizes to configure."""
    told = rocketmq("store", "verify", str(store), "--from-apache")
    for key in ("mappedFileSizeCommitLog", "mappedFileSizeConsumeQueue"):
        assert f"{key}={TEST_BROKER_SETTINGS[key]}" in told.stderr


@pytest.mark.parametrize(("old_kind", "new_kind"), PAIRS, ids=IDS)
def test_name_servers_are_exchanged_one_by_one_under_clients_and_brokers_of_both_kinds(
    java5: Driver, tmp_path: Path, unique: Unique, clients: Clients, old_kind: Kind, new_kind: Kind
) -> None:
    topic, name = unique("Names"), unique("reader")
    with tools():
        toolchain.apache()
    settings = {**TEST_BROKER_SETTINGS, "registerNameServerPeriod": "10000"}
    with (
        Cluster(old_kind, tmp_path / "old", settings=settings, namesrv_count=2) as old,
        Cluster(new_kind, tmp_path / "new", settings=settings, broker_names=(), namesrv_count=0) as new,
    ):
        # One broker of each kind, at name servers that are first all of one kind, then mixed, then all of the other.
        names = {"broker-a", "broker-b"}
        new.namesrv_ports = list(old.namesrv_ports)
        new.add_broker("broker-b")
        wait_known(old.namesrv_ports, names)
        clients(java5, "consumer", name)
        java5.call("producer.start", name=name, namesrv=old.namesrv_address)
        java5.call("query.create_topic", name=name, topic=topic)
        with sending(tmp_path / "producer", old.namesrv_address, topic) as steady:
            reader = Receiving(java5, name, old.namesrv_address, topic)
            steady.wait_more(EARLY)
            for index, process in enumerate(old.namesrvs):
                process.kill()
                new.start_namesrv(index, old.namesrv_ports[index])
                wait_known([old.namesrv_ports[index]], names)
                steady.wait_more(EARLY)
            # A client that knows nothing yet finds both brokers at the new name servers.
            late = Receiving(java5, f"{name}-late", new.namesrv_address, topic)
            clients(java5, "consumer", f"{name}-late")
            steady.wait_more(EARLY)
        reader.wait_for(set(steady.acknowledged))
        late.wait_for(set(steady.acknowledged))
        assert steady.failures == []
        assert steady.unsure == []
        java5.call("producer.stop", name=name)


def wait_known(ports: list[int], names: set[str]) -> None:
    """Wait until each of these name servers lists the brokers, which register anew every 10 s."""

    def known() -> bool:
        return all(names <= registered_brokers(f"127.0.0.1:{port}") for port in ports)

    wait_until(known, f"{ports} know {names}", 90, 0.1)
