"""A network of one's own, with nothing in it but its own loopback. Linux; before any thread is started."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def enter_own_network() -> bool:
    """Leave the machine's network for one of our own, where that is permitted: to root, or within a user namespace.

    False: it is not permitted, and nothing has changed.
    """
    if _unshared(_CLONE_NEWNET):
        _bring_up_loopback()
        return True
    # Some systems permit the namespace and then nothing in it: a fork tries, since there is no way back.
    trial = os.fork()
    if trial == 0:
        os._exit(0 if _entered_as_user() else 1)
    _, status = os.waitpid(trial, 0)
    return status == 0 and _entered_as_user()


def _entered_as_user() -> bool:
    user, group = os.geteuid(), os.getegid()
    if not _unshared(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
        _bring_up_loopback()
    except OSError:
        return False
    return True


def _unshared(what: int) -> bool:
    return bool(ctypes.CDLL(None, use_errno=True).unshare(what) == 0)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(asking, _SIOCGIFFLAGS, request))
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
