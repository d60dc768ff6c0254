"""Named places at which a test may kill the process, to prove that nothing is lost there.

`SPOOLHOUSE_CRASH_AT=append.after` kills this process with SIGKILL the first time it gets there;
`append.after:3` the third time. Without the variable a crash point costs one comparison.
"""

from __future__ import annotations

import os
import signal

_at, _, _times = os.environ.get("SPOOLHOUSE_CRASH_AT", "").partition(":")
_left = int(_times or 1)


def reach(name: str) -> None:
    """Die here, if a test asked for it."""
    if _at and name == _at:
        _die()


def _die() -> None:
    global _left
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
