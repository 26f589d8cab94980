"""The servers and fixtures that applications test with."""

from __future__ import annotations

import sys
import textwrap
import threading
from pathlib import Path

import pytest

from rocketmq_client.blocking import Producer
from rocketmq_tools.testing import LocalServer

pytest_plugins = ["pytester"]


def test_the_server_of_a_test_takes_messages_and_leaves_nothing_behind() -> None:
    with LocalServer() as server, Producer(server.name_server) as producer:
        assert producer.send("orders", b"x").queue.broker_name == "broker-a"
        assert server.broker_address.startswith("127.0.0.1:")
    assert not [t for t in threading.enumerate() if t.name == "rocketmq server"]


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ValueError, match="flushDiskType"), LocalServer({"flushDiskType": "SOMETIMES"}):
        pass


def test_the_fixtures_serve_an_application(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        textwrap.dedent(
            """
            from rocketmq_client import ConsumeFrom
            from rocketmq_client.blocking import Producer, PushConsumer

            def test_real(rocketmq):
                with Producer(rocketmq.name_server) as producer:
                    producer.send(rocketmq.topic, b"x")
                with PushConsumer(
                    rocketmq.name_server, group=rocketmq.group, topics=rocketmq.topic, consume_from=ConsumeFrom.FIRST
                ) as consumer:
                    (message,) = consumer.receive(timeout_ms=30_000, count_max=1)
                    assert message.body == b"x"
                    message.ack()

            def test_fake(rocketmq_fake, rocketmq_server):
                with Producer(rocketmq_fake.name_server) as producer:
                    producer.send("orders", b"x")
                assert rocketmq_fake.call(lambda cluster: cluster.messages("orders")) == [b"x"]
                assert rocketmq_server != rocketmq_fake.name_server
            """
        )
    )
    done = pytester.run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "rocketmq_tools.pytest_plugin",
        "-p",
        "no:cacheprovider",
        str(Path.cwd()),
    )
    done.assert_outcomes(passed=2)
