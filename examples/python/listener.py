"""A listener that fails now and then: what fails comes back later, and after too many tries is a dead letter."""

import asyncio

from rocketmq_client import ConsumeFrom, MessageView, Producer, PushConsumer


async def main() -> None:
    done = asyncio.Event()

    async def bill(message: MessageView) -> bool:
        if message.reconsume_times == 0:
            print("not now:", message.body.decode())
            return False  # or raise: delivered again, after 10 s, 30 s, 1 m, ...
        print("billed after", message.reconsume_times, "failed tries:", message.body.decode())
        done.set()
        return True

    async with Producer() as producer:
        await producer.send("invoices", b"invoice 1")
    async with PushConsumer(
        group="invoicing", topics="invoices", listener=bill, consume_from=ConsumeFrom.FIRST, reconsume_times_max=5
    ):
        await done.wait()


asyncio.run(main())
