"""A Faust worker as a process of its own: its agent notes in Redis what it handled, then acknowledges.

python faust_worker.py <broker> <name> <datadir>
"""

from __future__ import annotations

import asyncio
import signal
import sys

import faust
from redis.asyncio import Redis

broker, name, datadir = sys.argv[1:]
app = faust.App(
    "workers",
    broker=broker,
    datadir=datadir,
    web_enabled=False,
    topic_partitions=4,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=0.3,
)
redis = Redis.from_url(broker)


@app.agent(app.topic("jobs", key_type=bytes, value_type=bytes, value_serializer="raw"))
async def work(stream: faust.Stream[bytes]) -> None:
    async for event in stream.noack().events():
        await redis.rpush(f"handled:{name}", event.value)
        event.ack()


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await app.start()
    await redis.set(f"ready:{name}", 1)
    await stop.wait()
    await app.stop()
    await redis.aclose()


asyncio.run(main())
