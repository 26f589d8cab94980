"""A message that is delivered later: delay level 1 is one second (2: 5 s, 3: 10 s, ... 18: 2 h)."""

import asyncio
import time

from rocketmq_client import ConsumeFrom, Producer, PushConsumer


async def main() -> None:
    async with (
        Producer() as producer,
        PushConsumer(group="kitchen", topics="reminders", consume_from=ConsumeFrom.FIRST) as consumer,
    ):
        started = time.monotonic()
        await producer.send("reminders", b"tea", delay_level=1)
        async for message in consumer:
            print(f"{message.body.decode()} after {time.monotonic() - started:.1f} s")
            await message.ack()
            break


asyncio.run(main())
