"""Send some messages and consume them with a group. Needs a cluster: `rocketmq up --detach`, or $NAMESRV_ADDR."""

import asyncio

from rocketmq_client import ConsumeFrom, Producer, PushConsumer


async def main() -> None:
    async with Producer() as producer:
        for number in range(3):
            receipt = await producer.send("orders", f"order {number}", tag="created", keys=str(number))
            print("sent", receipt.message_id, "to", receipt.queue)

    async with PushConsumer(
        group="billing", topics={"orders": "created || paid"}, consume_from=ConsumeFrom.FIRST
    ) as consumer:
        count = 0
        async for message in consumer:
            print("got", message.body.decode(), message.message.keys)
            await message.ack()
            count += 1
            if count == 3:
                break


asyncio.run(main())
