"""Which titles a person's regular expression matches, whatever the expression: some take longer than the universe.

Python's `re` cannot be stopped, and holds up the whole process meanwhile. So it runs in a process of its own, which
the kernel ends when it has used up its time.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence

SECONDS = 2
"""Of the processor."""

PATIENCE = 30.0
"""Seconds on the clock, on a machine that has much else to do."""

MEMORY = 2**30
"""Bytes of address space."""

LONGEST_TITLE = 500
"""Characters of a title that are looked at."""

_PROGRAM = f"""
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
pattern, titles = json.load(sys.stdin)
search = re.compile(pattern).search
json.dump([search(title) is not None for title in titles], sys.stdout)
"""


class FilterError(Exception):
    """The expression cannot be used; the message says why, for people."""


async def matching(pattern: str, titles: Sequence[str]) -> list[bool]:
    """For each title whether it contains a match; an empty pattern matches everything. Raises FilterError."""
    if not pattern or not titles:
        return [True] * len(titles)
    asked = json.dumps([pattern, [title[:LONGEST_TITLE] for title in titles]]).encode()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise FilterError(f"no process could be started to look at titles: {error.strerror}") from error
    try:
        async with asyncio.timeout(PATIENCE):
            answer, said = await process.communicate(asked)
    except TimeoutError:
        raise FilterError(_slow(pattern)) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
        raise FilterError(_slow(pattern))
    try:
        found = json.loads(answer)
    except ValueError:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise FilterError(f"The filter {pattern!r} cannot be used: {last[:300]}") from None
    return [bool(one) for one in found]


def _slow(pattern: str) -> str:
    return f"The filter {pattern!r} takes too long: write it without repetitions inside of repetitions."
