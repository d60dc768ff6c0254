"""A real S3 server for tests: OpenStack Swift with its s3api, four processes in a folder of its own.

It checks signatures, digests and part sizes, and what it has acknowledged survives kill -9. It runs
in an environment made from PyPI once for each machine and user: `python -m tests.swift` makes it
beforehand (scripts/test does).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

from tests.servers import START_TIMEOUT, Server, ServerFailedError, ServerMissingError, free_port

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"
READER_KEY, READER_SECRET = "test:reader", "reading"
"""Known to the server, and allowed nothing."""

REQUIREMENTS = Path(__file__).with_name("swift-requirements.txt")
KINDS = ("account", "container", "object")

STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
conn_timeout = 20
node_timeout = 60
container_update_timeout = 60
log_level = WARNING

[pipeline:main]
pipeline = healthcheck {kind}-server

[filter:healthcheck]
use = egg:swift#healthcheck

[app:{kind}-server]
use = egg:swift#{kind}
# A listing tells of an object as soon as it is there, however slow the machine.
container_update_timeout = 60
node_timeout = 60
conn_timeout = 20
"""

PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = WARNING

[pipeline:main]
pipeline = catch_errors healthcheck listing_formats bulk s3api tempauth slo versioned_writes proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
conn_timeout = 20
node_timeout = 60
recoverable_node_timeout = 60
client_timeout = 120
# There is one of each: after an error it is asked again all the same.
error_suppression_limit = 1000000000

[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
# Fewer than the 1000 of S3: listings have several pages soon.
max_bucket_listing = 100
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test_reader = reading
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
"""

RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, *ports = sys.argv[1:]
for kind, port in zip(("account", "container", "object"), map(int, ports)):
    ring = RingBuilder(4, 1, 1)
    ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "disk", "meta": "", "ip": "127.0.0.1",
                  "port": port, "replication_ip": "127.0.0.1", "replication_port": port})
    ring.rebalance()
    ring.get_ring().save(f"{folder}/{kind}.ring.gz")
"""


class SwiftServer(Server):
    """An S3 server: path-style addresses, region us-east-1, one key.

    `stop`, `kill`, `restart` and `frozen` mean all four of its processes; `pid` is that of the one
    that speaks S3.
    """

    name = "swift-proxy"

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        super().__init__(folder, port)
        self._stores = [_Storage(folder, kind) for kind in KINDS]

    @property
    def url(self) -> str:
        """The endpoint, `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which Spoolhouse (or any tool of AWS's) uses it; the bucket is up to the test."""
        return {**credentials(), "SPOOLHOUSE_S3_ENDPOINT": self.url}

    # What lies there: asked of the server itself, past any proxy in between.

    def objects(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Size by key of all that lies in a bucket; nothing where there is no bucket."""
        found: dict[str, int] = {}
        with contextlib.suppress(self.client.exceptions.NoSuchBucket):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found |= {one["Key"]: one["Size"] for one in page.get("Contents", ())}
        return found

    def read(self, bucket: str, key: str) -> bytes:
        """An object's content."""
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object behind Spoolhouse's back."""
        self.client.delete_object(Bucket=bucket, Key=key)

    def overwrite(self, bucket: str, key: str, data: bytes) -> None:
        """Put something else in an object's place."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    @cached_property
    def client(self) -> Any:
        """The client of botocore itself (it blocks): for what else a test wants to do there."""
        import botocore.config
        import botocore.session

        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies={},
            ),
        )

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start all four and wait until they answer."""
        if self.running:
            return self
        (self.folder / "disk").mkdir(parents=True, exist_ok=True)
        first = not (self.folder / "object.ring.gz").exists()
        if first:
            (self.folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_prefix = spoolhouse\n")
        for attempt in (1, 2, 3):
            try:
                self._start_storage(timeout)
                break
            except ServerFailedError:
                # Someone took a free port before us: only ever on the first start.
                if not first or attempt == 3:
                    raise
        if first:
            ports = [str(one.port) for one in self._stores]
            made = _python("-c", RINGS, str(self.folder), *ports)
            subprocess.run(made, check=True, capture_output=True, timeout=120)
        return super().start(timeout)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold all four still (SIGSTOP) within the block: connections stay, answers do not come."""
        with contextlib.ExitStack() as stack:
            for one in self._stores:
                stack.enter_context(one.frozen())
            with super().frozen():
                yield

    def _start_storage(self, timeout: float) -> None:
        try:
            for one in self._stores:
                one.launch()
            for one in self._stores:
                one.wait_until_up(timeout)
        except ServerFailedError:
            for one in self._stores:
                one.kill()
                one.port = free_port()
            raise

    def _command(self) -> Sequence[str]:
        return _daemon(self.folder, "proxy", PROXY, self.port)

    def _answers(self, connection: socket.socket) -> bool:
        return _is_healthy(connection)

    def _end(self, how: signal.Signals, timeout: float) -> None:
        self.__dict__.pop("client", None)
        # The one that takes requests goes first: what it has acknowledged by then is stored.
        super()._end(how, timeout)
        for one in self._stores:
            one._end(how, timeout)

    def _log_end(self) -> str:
        return "\n".join(super(SwiftServer, one)._log_end() if one is self else one._log_end() for one in self._all())

    def _all(self) -> list[Server]:
        return [self, *self._stores]


class _Storage(Server):
    """One of the three behind the proxy."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind
        self.name = f"swift-{kind}"  # type: ignore[misc]

    def launch(self) -> None:
        """Start without waiting: three at a time come up three times as fast."""
        with self.log_file.open("ab") as output:
            self._process = self._spawn(output)

    def wait_until_up(self, timeout: float) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + timeout
        while not self._is_up():
            if not self.running or time.monotonic() > deadline:
                raise ServerFailedError(f"{self.name} did not come up on port {self.port}:\n{self._log_end()}")
            time.sleep(0.01)

    def _command(self) -> Sequence[str]:
        return _daemon(self.folder, self.kind, STORAGE, self.port)

    def _answers(self, connection: socket.socket) -> bool:
        return _is_healthy(connection)


def credentials() -> dict[str, str]:
    """The standard AWS variables of the key that may do all; others of this machine are left out of account."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _daemon(folder: Path, kind: str, text: str, port: int) -> Sequence[str]:
    config = folder / f"{kind}.conf"
    config.write_text(text.format(port=port, user=pwd.getpwuid(os.geteuid()).pw_name, folder=folder, kind=kind))
    module = "obj" if kind == "object" else kind
    return _python("-c", f"import sys; from swift.{module}.server import main; sys.exit(main())", str(config), "-v")


def _is_healthy(connection: socket.socket) -> bool:
    connection.sendall(b"GET /healthcheck HTTP/1.0\r\nHost: localhost\r\n\r\n")
    return b" 200 " in connection.recv(64)


def _python(*arguments: str) -> list[str]:
    return [str(environment()), *arguments]


@cache
def environment() -> Path:
    """The Python of Swift's own environment; made where it is missing (a minute). Raises ServerMissingError."""
    mark = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    place = Path(tempfile.gettempdir(), f"spoolhouse-tests-{os.geteuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    folder = place / f"swift-{mark}-{sys.version_info.major}.{sys.version_info.minor}"
    whole = folder / "whole"
    with (place / "swift.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            install = ("install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(REQUIREMENTS))
            _run(str(folder / "bin" / "python"), "-m", "pip", *install)
            whole.touch()
    return folder / "bin" / "python"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise ServerMissingError(
            "Swift, the S3 server of the tests, could not be installed "
            f"(is there a connection to the package index?):\n{(done.stdout + done.stderr)[-2000:]}"
        )


if __name__ == "__main__":
    try:
        environment()
    except ServerMissingError as error:
        sys.exit(str(error))
