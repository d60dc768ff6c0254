"""Players at their own pace: `python -m scripts.bench_parts.pacing PORT PATH PLAYERS SIZE`, until it is ended.

Each asks for the rest of the film from somewhere on, and takes a megabyte a second of it. Prints a
line when all of them play.
"""

from __future__ import annotations

import asyncio
import random
import sys

PIECE = 2**18
"""Bytes that a player takes at once."""

PAUSE = 0.25
"""Seconds between two pieces."""


async def play(port: int, path: str, size: int, playing: asyncio.Event) -> None:
    """One player. Starts again elsewhere when the film is over."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * PIECE)
        start = random.randrange(size // 2)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes={start}-\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        while await reader.read(PIECE):
            playing.set()
            await asyncio.sleep(PAUSE * random.uniform(0.9, 1.1))
        writer.close()


async def main(port: int, path: str, players: int, size: int) -> None:
    """All of them."""
    events = [asyncio.Event() for _ in range(players)]
    tasks = [asyncio.create_task(play(port, path, size, event)) for event in events]
    for event in events:
        await event.wait()
    print("playing", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
