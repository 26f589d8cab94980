"""A message that becomes visible with the outcome of something else, here of a table in memory."""

import asyncio

from rocketmq_client import LitePullConsumer, Message, MessageView, TransactionProducer, TransactionState

accounts = {"alice": 10, "bob": 0}
moved: set[str] = set()


def move(message: Message) -> TransactionState:
    """The local transaction: it decides whether anybody gets to see the message."""
    amount = int(message.body)
    if accounts["alice"] < amount:
        return TransactionState.ROLLBACK
    accounts["alice"] -= amount
    accounts["bob"] += amount
    moved.add(message.keys[0])
    return TransactionState.COMMIT


def outcome(message: MessageView) -> TransactionState:
    """The broker asks when it was not told, for example because this process was killed."""
    return TransactionState.COMMIT if message.keys[0] in moved else TransactionState.ROLLBACK


async def main() -> None:
    async with TransactionProducer(group="bank", check=outcome) as producer:
        for key, amount in (("1", b"7"), ("2", b"100")):
            ended = await producer.send_in_transaction("transfers", amount, keys=key, execute=move)
            print("transfer", key, "of", amount.decode(), "->", ended.state.name)
    async with LitePullConsumer() as reader:
        await reader.assign(dict.fromkeys(await reader.queues("transfers"), 0))
        print("visible:", [message.body.decode() for message in await reader.poll()])


asyncio.run(main())
