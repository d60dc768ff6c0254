"""The site that downloads are measured with, as a program: it prints its address, and ends with its input."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sites import open_site


@contextmanager
def beside() -> Iterator[str]:
    """The address of a site that runs in a process of its own while the block does."""
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.bench_parts.site"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def _main() -> None:
    async with open_site() as site:
        print(site.base, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
