"""A child that gives up the network and then tries to get it back: `confined.py <what to try, as JSON>`.

Prints one line of JSON: `{"walls", "proxy", "own": {…}, "started": {…}, "reports"}`; in `own` and
`started` (tried by a program that it starts, which has no audit hook) each try is `no: …` or `yes: …`.
Run with `started` as its first argument it is that program.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

Try = Callable[[dict[str, Any]], object]
PATIENCE = 3


def tcp(asked: dict[str, Any]) -> object:
    return socket.create_connection(("127.0.0.1", asked["secret"]), PATIENCE).recv(100)


def tcp_to_name(asked: dict[str, Any]) -> object:
    return socket.create_connection(("localhost", asked["secret"]), PATIENCE).recv(100)


def tcp_away(asked: dict[str, Any]) -> object:
    with socket.socket() as away:
        away.settimeout(PATIENCE)
        away.connect(("198.51.100.1", 80))
        return "connected"


def tcp6(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET6) as away:
        away.settimeout(PATIENCE)
        away.connect(("::1", asked["secret"]))
        return "connected"


def udp(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away:
        return away.sendto(b"leaked", ("127.0.0.1", asked["udp"]))


def look_up(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as away:
        return away.sendto(b"leaked", ("127.0.0.53", 53))


def fast_open(asked: dict[str, Any]) -> object:
    """Sending connects, past what looks at connecting."""
    with socket.socket() as away:
        away.settimeout(PATIENCE)
        return away.sendto(b"leaked", socket.MSG_FASTOPEN, ("127.0.0.1", asked["secret"]))


def multipath(asked: dict[str, Any]) -> object:
    """TCP by another name."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as away:
        away.settimeout(PATIENCE)
        away.connect(("127.0.0.1", asked["secret"]))
        return "connected"


def raw(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as away:
        return away.sendto(b"leaked", ("127.0.0.1", 0))


def packet(asked: dict[str, Any]) -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def vsock(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_VSOCK) as away:
        away.settimeout(PATIENCE)
        away.connect((2, 1))
        return "connected"


def unix(asked: dict[str, Any]) -> object:
    with socket.socket(socket.AF_UNIX) as away:
        away.connect(asked["unix"])
        return "connected"


def unix_datagram(asked: dict[str, Any]) -> object:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        return one.sendto(b"leaked", asked["datagram"])


def other_namespace(asked: dict[str, Any]) -> object:
    with open(f"/proc/{asked['parent']}/ns/net") as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    return tcp(asked)


def parents_memory(asked: dict[str, Any]) -> object:
    with open(f"/proc/{asked['parent']}/mem", "r+b"):
        return "opened"


def parents_socket(asked: dict[str, Any]) -> object:
    """Somebody else's socket, by its number there."""
    libc = ctypes.CDLL(None, use_errno=True)
    process = libc.syscall(434, asked["parent"], 0)
    if process < 0 or libc.syscall(438, process, asked["handle"], 0) < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return "taken"


def signal_parent(asked: dict[str, Any]) -> object:
    return os.kill(asked["parent"], 0)


def io_uring(asked: dict[str, Any]) -> object:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(120)) < 0:
        raise OSError(ctypes.get_errno(), "io_uring_setup")
    return "set up"


def curl(asked: dict[str, Any]) -> object:
    command = ["curl", "-sS", "--max-time", str(PATIENCE), "--noproxy", "*", f"http://127.0.0.1:{asked['secret']}/"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def through_proxy(asked: dict[str, Any]) -> object:
    """The one way that is left, as any program takes it that is told by its environment."""
    with urllib.request.urlopen(asked["site"], timeout=20) as answer:
        return answer.read().decode()


TRIES: dict[str, Try] = {one.__name__: one for one in (
    tcp, tcp_to_name, tcp_away, tcp6, udp, look_up, fast_open, multipath, raw, packet, vsock, unix, unix_datagram,
    other_namespace, parents_memory, parents_socket, signal_parent, io_uring, curl, through_proxy,
)}  # fmt: skip


def tried(asked: dict[str, Any]) -> dict[str, str]:
    """How each goes."""
    outcomes = {}
    for name, attempt in TRIES.items():
        try:
            outcomes[name] = f"yes: {attempt(asked)!r}"
        except Exception as error:
            outcomes[name] = f"no: {type(error).__name__}: {error}"
    return outcomes


def become(user: int) -> None:
    """Go on as somebody else, as if started by them: who may not read where this Python lies."""
    for needed in ("ascii", "idna", "latin-1"):
        codecs.lookup(needed)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable: /proc/self is ours, as after starting a program


def main() -> None:
    if sys.argv[1] == "started":
        print(json.dumps(tried(json.loads(sys.argv[2]))))
        return
    from processors.fetching.confinement import confine_network

    source = Path(__file__).read_text("utf-8")
    asked = json.loads(sys.argv[1])
    if asked["user"] is not None:
        become(asked["user"])
    confined = confine_network(asked["path"], namespace=asked["namespace"], landlock=asked["landlock"])
    own = tried(asked)
    in_thread: dict[str, str] = {}
    thread = threading.Thread(target=lambda: in_thread.update(tried(asked)))
    thread.start()
    thread.join()
    command = [asked["python"], "-c", source, "started", json.dumps(asked)]
    started = subprocess.run(command, capture_output=True, text=True, cwd="/")
    fetched = {}
    for url in asked["urls"]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                fetched[url] = answer.read().decode()
        except Exception as error:
            fetched[url] = f"no: {error}"
    print(json.dumps({
        "walls": confined.walls, "proxy": confined.proxy, "own": own, "thread": in_thread,
        "started": json.loads(started.stdout or "{}") or started.stderr, "fetched": fetched,
        "refusals": confined.refusals(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
