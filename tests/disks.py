"""Disks that can be filled up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[str]:
    """A file system of this size (`8m`) at `place`; why there is none, or an empty text."""
    if os.geteuid() != 0:
        yield "mounting a tmpfs needs root"
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False, timeout=30)
    if mounted.returncode:
        yield f"this machine does not let us mount a tmpfs: {mounted.stderr.decode().strip()}"
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)
