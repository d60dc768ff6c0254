"""A seccomp filter: what a process that fetches, and all that it starts, has no use for. Linux, x86-64 and ARM64.

It needs TCP sockets, and nothing of what else leads out of a process: other sockets, other
processes' memory and files, namespaces. A filter cannot see the address of a connection; that is
Landlock's and the network namespace's part.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

# Offsets in what the kernel shows of a call, and of the low half of its arguments.
_NUMBER, _ARCH, _ARGUMENT, _ARGUMENT_SIZE = 0, 4, 16, 8
_LOAD, _AND, _RETURN, _EQUAL, _ANY_BIT, _AT_LEAST = 0x20, 0x54, 0x06, 0x15, 0x45, 0x35
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000

_X32 = 0x40000000
"""Numbers from here on are another way to call the same on x86-64."""

_MSG_FASTOPEN = 0x20000000
"""Connects while sending, past what looks at connecting."""

_NEW_NAMESPACES = 0x7E020080
"""Flags of clone."""

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NUMBERS = {  # on x86-64 and on ARM64
    "socket": (41, 198),
    "socketpair": (53, 199),
    "sendto": (44, 206),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    "clone": (56, 220),
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "setns": (308, 268),
    "unshare": (272, 97),
    "bpf": (321, 280),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_FORBIDDEN = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "setns", "unshare", "bpf"),
    *("open_by_handle_at", "add_key", "request_key", "keyctl"),
)
_UNKNOWN = ("clone3", "io_uring_setup", "io_uring_enter", "io_uring_register")
"""Forbidden, and by the answer of an old kernel, so that a program takes the way that the filter sees."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def forbid_ways_out() -> bool:
    """Install the filter, for this process and all that it starts; it cannot be taken back.

    False where the machine has none. Called while there is one thread.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        return False
    code = _filter(_MACHINES[machine], {name: both[machine == "aarch64"] for name, both in _NUMBERS.items()})
    program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(machine: int, numbers: dict[str, int]) -> bytes:
    """The program. Each rule begins with the call's number loaded, and leaves it so where it is another's."""
    no = _ERRNO | errno.EPERM
    rules = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, machine, 1, 0),
        _step(_RETURN, no),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, no),
    ]
    rules += [one for name in _FORBIDDEN for one in _answer(numbers[name], no)]
    rules += [one for name in _UNKNOWN for one in _answer(numbers[name], _ERRNO | errno.ENOSYS)]
    # socket(AF_INET, SOCK_STREAM, 0 or IPPROTO_TCP): other protocols of TCP's kind are not held by Landlock.
    other = _ERRNO | errno.EAFNOSUPPORT
    rules += _when(
        numbers["socket"],
        [
            _argument(0),
            _step(_EQUAL, socket.AF_INET, 1, 0),
            _step(_RETURN, other),
            _argument(1),
            _step(_AND, 0xF),
            _step(_EQUAL, socket.SOCK_STREAM, 1, 0),
            _step(_RETURN, no),
            _argument(2),
            _step(_EQUAL, 0, 2, 0),
            _step(_EQUAL, socket.IPPROTO_TCP, 1, 0),
            _step(_RETURN, no),
            _step(_RETURN, _ALLOW),
        ],
    )
    # One of a pair of datagram sockets can send to any other of its kind, by its path.
    rules += _when(
        numbers["socketpair"],
        [
            _argument(1),
            _step(_AND, 0xF),
            _step(_EQUAL, socket.SOCK_DGRAM, 0, 1),
            _step(_RETURN, no),
            _step(_RETURN, _ALLOW),
        ],
    )
    for name, place, bits in (
        ("sendto", 3, _MSG_FASTOPEN),
        ("sendmsg", 2, _MSG_FASTOPEN),
        ("sendmmsg", 3, _MSG_FASTOPEN),
        ("clone", 0, _NEW_NAMESPACES),
    ):
        checks = [_argument(place), _step(_ANY_BIT, bits, 0, 1), _step(_RETURN, no), _step(_RETURN, _ALLOW)]
        rules += _when(numbers[name], checks)
    return b"".join([*rules, _step(_RETURN, _ALLOW)])


def _when(number: int, checks: list[bytes]) -> list[bytes]:
    """Checks, all ways through which end in an answer."""
    return [_step(_EQUAL, number, 0, len(checks)), *checks]


def _answer(number: int, answer: int) -> list[bytes]:
    return _when(number, [_step(_RETURN, answer)])


def _argument(place: int) -> bytes:
    return _step(_LOAD, _ARGUMENT + place * _ARGUMENT_SIZE)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
