"""What a piece of work takes of this process: seconds, processor time, memory."""

from __future__ import annotations

import resource
import time
from contextlib import suppress
from pathlib import Path


class Cost:
    """Counts from when it is made."""

    def __init__(self) -> None:
        # The most that was resident is the process's, from its start: begin anew where the kernel lets us.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", "ascii")
        self._began, self._cpu = time.monotonic(), _cpu()

    def fields(self) -> dict[str, float]:
        """`seconds`, `cpu_seconds` and `peak_memory` (bytes) of `ports.Made`."""
        return {
            "seconds": round(time.monotonic() - self._began, 3),
            "cpu_seconds": round(_cpu() - self._cpu, 3),
            "peak_memory": _peak(),
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
