"""Messages of one key stay in order: they share a queue, and an orderly consumer takes one after another."""

import asyncio

from rocketmq_client import ConsumeFrom, MessageView, Producer, PushConsumer

STEPS = ("created", "paid", "shipped")


async def main() -> None:
    seen: dict[str, list[str]] = {}
    done = asyncio.Event()

    async def follow(message: MessageView) -> None:
        seen.setdefault(message.sharding_key, []).append(message.body.decode())
        if all(len(steps) == len(STEPS) for steps in seen.values()) and len(seen) == 3:
            done.set()

    async with Producer() as producer:
        for step in STEPS:
            for order in ("a", "b", "c"):
                await producer.send("order-steps", step, sharding_key=order)
    async with PushConsumer(
        group="following", topics="order-steps", listener=follow, orderly=True, consume_from=ConsumeFrom.FIRST
    ):
        await done.wait()
    for order, steps in sorted(seen.items()):
        print(order, "->", ", ".join(steps))


asyncio.run(main())
