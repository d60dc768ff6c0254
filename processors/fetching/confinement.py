"""How a child that fetches gives up the network, for itself and for all that it will ever start.

From then on the only way out is the egress proxy. What sees to that, each by itself and whichever
of it this machine permits:

* a network namespace with nothing in it but the proxy's listening socket (root, or user namespaces);
* Landlock: TCP leads to the proxy's port only (Linux 6.7), and no process outside can be touched;
* seccomp: no sockets but TCP's (so neither UDP nor unix nor vsock), no other namespaces, no ptrace;
* no capabilities but those about files;
* an audit hook, which says clearly to Python code what it may not do.

Where there is neither namespace nor Landlock (an older kernel, in a container that forbids both) the
audit hook is all that keeps TCP back: it holds this Python, not a program that it starts, which is
only told the proxy by its environment.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping

import orjson

from processors.fetching.capabilities import keep_those_about_files
from processors.fetching.landlock import connect_only_to
from processors.fetching.namespaces import enter_own_network
from processors.fetching.registration import MAX_MESSAGE, USER, Report
from processors.fetching.syscalls import forbid_ways_out

REGISTER = 15.0
"""Seconds that registering may take: as long as the proxy takes to be started again, and some."""

WALLS = ("namespace", "capabilities", "landlock", "seccomp")
"""In the order in which they are put up."""

MAX_REPORTS = 1000
"""Reports that are kept until somebody asks."""


class ConfinementError(Exception):
    """The network could not be given up: nothing may be fetched. Says why; worth another try."""


class Confined:
    """What is left of the network."""

    def __init__(self, registration: socket.socket, proxy: str, begun: bytes, walls: tuple[str, ...]) -> None:
        self._registration, self._unread = registration, begun
        self._reports: list[Report] = []
        self._turn = threading.Lock()
        self._gone = False
        self.proxy = proxy
        """URL of the one way out, with a token: `http://download:…@127.0.0.1:41234`. For yt-dlp's `proxy`."""
        self.walls = walls
        """Those of WALLS that stand here. The audit hook always does."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells other programs of it."""
        names = ("http_proxy", "https_proxy", "all_proxy")
        return {cased: self.proxy for name in names for cased in (name, name.upper())} | {
            "no_proxy": "",
            "NO_PROXY": "",
        }

    def reports(self) -> list[Report]:
        """Everything that the proxy has not done so far, each once, the first first. From any thread.

        What it refuses is here by the time that the client hears of it.
        """
        with self._turn:
            self._read()
            *lines, self._unread = self._unread.split(b"\n")
            for line in lines:
                report = Report(**orjson.loads(line))
                if report not in self._reports and len(self._reports) < MAX_REPORTS:
                    self._reports.append(report)
            return list(self._reports)

    @property
    def gone(self) -> bool:
        """Whether the proxy has died. Another one takes the next who register; this process has no way out any more."""
        self.reports()
        return self._gone

    def _read(self) -> None:
        try:
            while data := self._registration.recv(65536):
                self._unread += data
            self._gone = True
        except BlockingIOError:
            pass
        except OSError:
            self._gone = True

    def forget(self) -> None:
        """Forget what it has not done so far: whatever is asked next is another matter."""
        self.reports()
        with self._turn:
            self._reports.clear()

    def refusals(self) -> list[str]:
        """Why it refused something, each reason once: with any of these a download ends as `refused`."""
        return [report.reason for report in self.reports() if report.what == "refused"]


def confine_network(registration_path: str, *, namespace: bool = True, landlock: bool = True) -> Confined:
    """Give up the network but for the egress proxy that takes registrations at `registration_path`.

    Called once, before any thread is started and before anything hostile is touched; it may come
    after `processors.children.limits.confine`. Raises ConfinementError: then nothing may be fetched, and
    this process must end. `namespace` and `landlock`: False is for trying what holds without.
    """
    isolated = namespace and enter_own_network()
    token = secrets.token_urlsafe(24)
    registration, port, begun = _registered(registration_path, token)
    stand = (isolated, keep_those_about_files(), landlock and connect_only_to(port), forbid_ways_out())
    proxy = f"http://{USER}:{token}@127.0.0.1:{port}"
    confined = Confined(registration, proxy, begun, tuple(name for name, one in zip(WALLS, stand, strict=True) if one))
    os.environ.update(confined.environment)
    sys.addaudithook(_Hook(port))
    return confined


def walls_here() -> tuple[str, ...]:
    """Which of the walls this machine permits: tried out in a fork, which then ends. While there is one thread."""
    trial = os.fork()
    if trial == 0:
        stand = (enter_own_network(), keep_those_about_files(), connect_only_to(1), forbid_ways_out())
        os._exit(sum(1 << number for number, one in enumerate(stand) if one))
    _, status = os.waitpid(trial, 0)
    return tuple(name for number, name in enumerate(WALLS) if os.waitstatus_to_exitcode(status) >> number & 1)


def _registered(path: str, token: str) -> tuple[socket.socket, int, bytes]:
    """The connection to the proxy, the port that it serves for us, and what it has said by now.

    It may just be started again: there are several tries.
    """
    deadline = time.monotonic() + REGISTER
    while True:
        registration = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        registration.settimeout(REGISTER)
        try:
            registration.connect(path)
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen(128)
                port: int = listener.getsockname()[1]
                socket.send_fds(registration, [orjson.dumps({"token": token})], [listener.fileno()])
            begun = _begun(registration)
            registration.setblocking(False)  # noqa: FBT003 - its name says it
            return registration, port, begun
        except OSError as error:
            registration.close()
            if time.monotonic() > deadline:
                told = error.strerror or str(error)
                raise ConfinementError(f"the egress proxy of downloads cannot be reached: {told}") from error
            time.sleep(0.05)


def _begun(registration: socket.socket) -> bytes:
    """Wait until the proxy serves us; what it has said beyond that."""
    answer = b""
    while b"\n" not in answer:
        data = registration.recv(MAX_MESSAGE)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "it hung up")
        answer += data
    return answer.partition(b"\n")[2]


class _Hook:
    """Says no to Python code. Cannot be removed once it is added."""

    def __init__(self, port: int) -> None:
        self._proxy = ("127.0.0.1", port)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if not event.startswith("socket."):
            return
        if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
            allowed = args[1] == self._proxy or (event == "socket.sendmsg" and args[1] is None)
        elif event == "socket.getaddrinfo":
            allowed = args[0] == self._proxy[0] and str(args[1]) == str(self._proxy[1])
        else:
            allowed = event not in {
                "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "socket.bind"
            }  # fmt: skip
        if not allowed:
            asked = args[0] if event == "socket.getaddrinfo" else args[-1]
            raise PermissionError(errno.EPERM, f"{event} {asked!r}: the only way out is the egress proxy")
