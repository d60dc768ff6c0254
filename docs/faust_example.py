"""Bills orders: `BROKER=redis://localhost:6379/0 python docs/faust_example.py worker`."""

import os

import faust

app = faust.App("billing", broker=os.environ.get("BROKER", "redis://127.0.0.1:6379/0"), topic_partitions=4)


class Order(faust.Record):
    """What somebody bought."""

    customer: str
    amount: int


orders = app.topic("orders", key_type=str, value_type=Order)
bills = app.topic("bills", key_type=str, value_type=int)


@app.agent(orders)
async def bill(stream: faust.Stream[Order]) -> None:
    """Bill each order once."""
    async for order in stream:
        await bills.send(key=order.customer, value=order.amount)


if __name__ == "__main__":
    app.main()
