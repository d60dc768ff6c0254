"""Whether anyone still writes to a file."""

from __future__ import annotations

import errno
import fcntl
import signal


def has_writer(fd: int) -> bool | None:
    """True while someone holds the file open for writing, False when no one does, None if unknown.

    `fd` is open for reading only. A read lease is granted only while there is no writer; only the
    file's owner (or CAP_LEASE) gets one, and network file systems give none.
    """
    try:
        # A writer that comes meanwhile makes the kernel signal us; of this one nobody dies.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
