"""A test of an application with a real broker: the fixture `rocketmq` starts one. Run it with pytest."""

from rocketmq_client import ConsumeFrom
from rocketmq_client.blocking import Producer, PushConsumer
from rocketmq_tools.pytest_plugin import TestServer


def place_order(producer: Producer, topic: str, order: str) -> None:
    """The code under test."""
    producer.send(topic, order, tag="created")


def test_a_placed_order_reaches_billing(rocketmq: TestServer) -> None:
    with Producer(rocketmq.name_server) as producer:
        place_order(producer, rocketmq.topic, "tea")
    with PushConsumer(
        rocketmq.name_server, group=rocketmq.group, topics={rocketmq.topic: "created"}, consume_from=ConsumeFrom.FIRST
    ) as billing:
        (message,) = billing.receive(timeout_ms=30_000, count_max=1)
        assert message.body == b"tea"
        message.ack()
