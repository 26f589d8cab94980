"""Ask over a topic and get the answer as the result of a call."""

import asyncio

from rocketmq_client import Admin, MessageView, Producer, PushConsumer, Requester, reply


async def main() -> None:
    async with Admin() as admin:
        await admin.topics.create("prices")
    async with Producer() as producer:

        async def answer(request: MessageView) -> None:
            await reply(producer, request, f"{request.body.decode()} costs 42")

        async with PushConsumer(group="price-desk", topics="prices", listener=answer) as desk:
            await desk.wait_assigned()
            found = await Requester(producer).request("prices", b"tea", timeout_ms=20_000)
            print(found.body.decode())


asyncio.run(main())
