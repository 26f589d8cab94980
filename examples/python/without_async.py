"""The same client for scripts and notebooks, without async."""

from rocketmq_client import ConsumeFrom
from rocketmq_client.blocking import Admin, Producer, PushConsumer

with Admin() as admin:
    admin.topics.create("visits", queues=4)

with Producer() as producer:
    for number in range(3):
        producer.send("visits", f"visit {number}")

with PushConsumer(group="counting", topics="visits", consume_from=ConsumeFrom.FIRST) as consumer:
    for message in consumer.receive(timeout_ms=20_000, count_max=3):
        print(message.body.decode())
        message.ack()

with Admin() as admin:
    print("lag:", admin.groups.progress("counting").lag)
