"""Landlock: TCP connections to one port only, for this process and all that it starts. Linux 6.7, unprivileged.

It knows ports and no addresses: the same port of another host would do. The proxy's is one that the
system picked.
"""

from __future__ import annotations

import ctypes
import os
import struct

_PR_SET_NO_NEW_PRIVS = 38
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the same on every machine
_VERSION = 1
_NET_PORT = 2
_CONNECT_TCP = 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2


def connect_only_to(port: int) -> bool:
    """Forbid to connect to any other TCP port, and to signal or trace a process outside. It cannot be taken back.

    False where the kernel cannot do that. Called while there is one thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    if version < 4:
        return False
    attributes = struct.pack("QQ", 0, _CONNECT_TCP)
    if version >= 6:
        attributes += struct.pack("Q", _ABSTRACT_SOCKETS | _SIGNALS)
    rules = libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rule = struct.pack("QQ", _CONNECT_TCP, port)
    added = libc.syscall(_ADD_RULE, rules, _NET_PORT, rule, 0) == 0
    held = added and libc.syscall(_RESTRICT, rules, 0) == 0
    os.close(rules)
    return bool(held)
