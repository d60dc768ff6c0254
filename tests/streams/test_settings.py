"""Settings: read once, typed, told about all at once, and never telling a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import SettingsError
from streams.settings import NOTIFIER_REQUIRED, Settings, load_settings

NOTIFIER_ENV = """\
# Logging Configuration
LOG_BASE_DIRECTORY={0}/logs  # Directory where logs will be stored

# MySQL Database Configuration
MYSQL_USER=your_mysql_user
MYSQL_PASS=your#mysql:p@ss/word
MYSQL_HOST=mysql_host
MYSQL_PORT=3307
MYSQL_DB_NAME=your_database_name

# Video Directories
CLIENT_VIDEO_DIR={0}/monitor/videos  # Directory to monitor for new videos
INTERNAL_VIDEO_FOLDER_PATH={0}/internal/videos  # Internal directory for processing

# URL Configuration
NGINX_BASE_URL=http://your-server-ip  # Base URL for video access
NGINX_INTERNAL_PATH={0}/served/by/nginx  # Internal path served by Nginx
BASE_PATH={0}/base  # Base path for URL construction

# Optional Configuration
FOLDER_POLL_INTERVAL=7  # Polling interval in seconds (default: 5)
STORAGE_PC_VIDEO_DIR={0}/storage  # Optional storage path
STORAGE_PC_BASE_URL=http://storage-server  # Optional storage base URL
"""


def env_file(folder: Path, text: str) -> None:
    """Write `.env` where we are."""
    (folder / ".env").write_text(text.replace("{0}", str(folder)), "utf-8")


def test_nothing_set_is_enough(clean_env: Path) -> None:
    """The embedded defaults: everything below `data`, loopback only."""
    settings = load_settings()
    assert settings.data == clean_env / "data"
    assert settings.watch_roots == (clean_env / "data" / "inbox",)
    assert settings.uploads == clean_env / "data" / "uploaded_videos"
    assert settings.logs == settings.notifier_logs == clean_env / "data" / "logs"
    assert (settings.host, settings.port, settings.partitions) == ("127.0.0.1", (8000,), 16)
    assert settings.sqlalchemy_url == f"sqlite+aiosqlite:///{clean_env}/data/catalogue.sqlite3"
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.redis_url is None


def test_notifiers_env_works_as_it_stands(clean_env: Path) -> None:
    """With its inline comments; every name means what it meant."""
    env_file(clean_env, NOTIFIER_ENV)
    settings = load_settings()
    assert settings.notifier_logs == clean_env / "logs"
    assert settings.watch_roots == (clean_env / "monitor/videos",)
    assert settings.working == clean_env / "internal/videos"
    assert settings.public_url == "http://your-server-ip"
    assert settings.served_dir == clean_env / "served/by/nginx"
    assert settings.base_path == clean_env / "base"
    assert settings.watch_poll_interval == 7
    assert (settings.storage_dir, settings.storage_url) == (clean_env / "storage", "http://storage-server")
    assert (
        settings.sqlalchemy_url
        == "mysql+aiomysql://your_mysql_user:your%23mysql%3Ap%40ss%2Fword@mysql_host:3307/your_database_name"
    )


def test_only_the_required_names_are_required(clean_env: Path) -> None:
    """Port, interval and storage have defaults; either NGINX_ folder will do."""
    optional = ("MYSQL_PORT", "FOLDER_POLL_INTERVAL", "STORAGE_PC")
    lines = [line for line in NOTIFIER_ENV.splitlines() if not line.startswith(optional)]
    env_file(clean_env, "\n".join(lines).replace("NGINX_INTERNAL_PATH", "NGINX_SERVE_DIRECTORY"))
    settings = load_settings()
    assert settings.mysql_port == 3306
    assert settings.watch_poll_interval == 5
    assert settings.served_dir == clean_env / "served/by/nginx"


@pytest.mark.parametrize("name", [*NOTIFIER_REQUIRED, "NGINX_INTERNAL_PATH"])
def test_missing_name_is_named(clean_env: Path, name: str) -> None:
    lines = [line for line in NOTIFIER_ENV.splitlines() if not line.startswith(name + "=")]
    env_file(clean_env, "\n".join(lines))
    with pytest.raises(SettingsError, match=f"{name}.*missing") as refused:
        load_settings()
    assert str(refused.value).count("missing") == 1


def test_one_mark_of_a_notifier_asks_for_all(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other required name is told, once, in one message; empty counts as missing."""
    monkeypatch.setenv("NGINX_BASE_URL", "http://here")
    monkeypatch.setenv("MYSQL_USER", "")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    told = str(refused.value)
    for name in set(NOTIFIER_REQUIRED) - {"NGINX_BASE_URL"}:
        assert told.count(f"{name}: missing") == 1
    assert "NGINX_INTERNAL_PATH or NGINX_SERVE_DIRECTORY: missing" in told


def test_mysql_alone_asks_for_nothing_else(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MYSQL_* are no marks of a notifier: others have them too."""
    for name, value in (("HOST", "h"), ("USER", "u"), ("DB_NAME", "d")):
        monkeypatch.setenv(f"MYSQL_{name}", value)
    assert load_settings().sqlalchemy_url == "mysql+aiomysql://u:@h:3306/d"


def test_all_faults_are_told_at_once_under_the_users_own_names(clean_env: Path) -> None:
    """Malformed, out of range, half a pair, missing: one message, no secret in it."""
    env_file(
        clean_env,
        "FOLDER_POLL_INTERVAL=often # seconds\nMYSQL_PORT=99999\nSPOOLHOUSE_PARTITIONS=0\n"
        "SPOOLHOUSE_NAMESPACE=Bad Name\nSPOOLHOUSE_PORT=8000,x\nNGINX_BASE_URL=ftp://x\nSTORAGE_PC_VIDEO_DIR=/a\n"
        "SPOOLHOUSE_LOG_FORMAT=xml\nMYSQL_PASS=topsecret\nSPOOLHOUSE_REDIS_URL=redis://:topsecret@host/0\n",
    )
    with pytest.raises(SettingsError) as refused:
        load_settings()
    told = str(refused.value)
    for name in (
        *("FOLDER_POLL_INTERVAL", "MYSQL_PORT", "SPOOLHOUSE_PARTITIONS", "SPOOLHOUSE_NAMESPACE", "SPOOLHOUSE_PORT"),
        *("NGINX_BASE_URL", "SPOOLHOUSE_LOG_FORMAT", "LOG_BASE_DIRECTORY", "MYSQL_USER", "BASE_PATH"),
    ):
        assert f"  - {name}: " in told
    assert "STORAGE_PC_VIDEO_DIR and STORAGE_PC_BASE_URL go together" in told
    assert "topsecret" not in told
    assert refused.value.__cause__ is None


def test_our_own_names_win_over_aliases(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file(clean_env, NOTIFIER_ENV)
    monkeypatch.setenv("SPOOLHOUSE_WATCH", "/one,/two")
    assert load_settings().watch_roots == (Path("/one"), Path("/two"))


def test_environment_wins_over_env_file_and_overrides_over_both(
    clean_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file(clean_env, "SPOOLHOUSE_PARTITIONS=2\nSPOOLHOUSE_ATTEMPTS=2\nSPOOLHOUSE_CONCURRENCY=2\n")
    monkeypatch.setenv("SPOOLHOUSE_ATTEMPTS", "3")
    monkeypatch.setenv("SPOOLHOUSE_CONCURRENCY", "3")
    settings = load_settings(concurrency=4)
    assert (settings.partitions, settings.attempts, settings.concurrency) == (2, 3, 4)


@pytest.mark.parametrize(
    ("name", "value", "field", "seen"),
    [
        ("SPOOLHOUSE_PORT", "8000,5000", "port", (8000, 5000)),
        ("SPOOLHOUSE_PORT", " 8000 , 5000, ", "port", (8000, 5000)),
        ("SPOOLHOUSE_PORT", "0", "port", (0,)),
        ("SPOOLHOUSE_WATCH", "/a, /b c", "watch", (Path("/a"), Path("/b c"))),
        ("SPOOLHOUSE_WATCH_EXTENSIONS", "MP4, .Mov,webm", "watch_extensions", frozenset({".mp4", ".mov", ".webm"})),
        ("SPOOLHOUSE_CORS_ORIGINS", "https://a, https://b", "cors_origins", ("https://a", "https://b")),
        ("SPOOLHOUSE_ALLOWED_HOSTS", "videos.example", "allowed_hosts", ("videos.example",)),
    ],
)
def test_lists_are_comma_separated(
    clean_env: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, seen: object
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), field) == seen


def test_relative_folders_are_made_absolute(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a path in an event means the same wherever the process runs."""
    for name in ("DATA", "UPLOAD_DIR", "LOG_DIR", "WORKING_DIR", "WATCH"):
        monkeypatch.setenv(f"SPOOLHOUSE_{name}", f"some/{name}")
    settings = load_settings()
    for folder in (settings.data, settings.uploads, settings.logs, settings.working, *settings.watch_roots):
        assert folder.is_absolute()
        assert folder.is_relative_to(clean_env / "some")


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("mysql://u:p@h/d", "mysql+aiomysql://u:p@h/d"),
        ("mariadb://u:p@h:1/d", "mysql+aiomysql://u:p@h:1/d"),
        ("sqlite:////var/c.sqlite3", "sqlite+aiosqlite:////var/c.sqlite3"),
        ("mysql+aiomysql://u@h/d", "mysql+aiomysql://u@h/d"),
    ],
)
def test_catalogue_urls_name_their_driver(clean_env: Path, url: str, seen: str) -> None:
    assert load_settings(catalogue_url=url).sqlalchemy_url == seen


def test_secrets_are_never_shown(clean_env: Path) -> None:
    """Neither by repr nor by str nor in a dump."""
    settings = load_settings(
        redis_url="redis://:topsecret@h/0", catalogue_url="mysql://u:topsecret@h/d", mysql_pass="topsecret"
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert "topsecret" not in shown
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://:topsecret@h/0"


def test_settings_are_fixed_once_read(clean_env: Path) -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 3


@pytest.mark.parametrize("name", ["redis_url", "catalogue_url"])
@pytest.mark.parametrize("rest", ["h:1x/0", "[h:1/0", "h:99999/0"])
def test_urls_that_cannot_be_read_are_told_without_their_passwords(clean_env: Path, name: str, rest: str) -> None:
    """One message, no traceback later, and nothing secret in it."""
    scheme = "redis" if name == "redis_url" else "mysql"
    with pytest.raises(SettingsError, match=f"SPOOLHOUSE_{name.upper()}: it is no URL like") as told:
        load_settings(**{name: f"{scheme}://u:topsecret@{rest}"})
    assert "topsecret" not in str(told.value)
    with pytest.raises(SettingsError, match="it begins with http://"):
        load_settings(redis_url="http://u:topsecret@h")


def test_a_root_named_twice_is_watched_once(clean_env: Path) -> None:
    """Two watchers of one root would take it from each other."""
    assert load_settings(watch="/one,/one/,/two/../one").watch_roots == (Path("/one"),)


@pytest.mark.parametrize(
    "watch", ["/one,/one/two", "/one/two,/one", "{0}/real,{0}/link", "{0}/real/sub,{0}/link", "{0}"]
)
def test_folders_that_overlap_are_refused(clean_env: Path, watch: str) -> None:
    """A file in both would be two videos; links are seen through, and uploads are a folder, too."""
    (clean_env / "real").mkdir()
    (clean_env / "link").symlink_to(clean_env / "real")
    with pytest.raises(SettingsError, match="taken in twice"):
        load_settings(watch=watch.format(clean_env))


def test_every_setting_has_its_name(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SPOOLHOUSE_<NAME>` sets each of them, aliases or not; MYSQL_* are as they are."""
    for name, field in Settings.model_fields.items():
        if name.startswith("mysql_"):
            continue
        for other in Settings.model_fields:
            monkeypatch.delenv(f"SPOOLHOUSE_{other.upper()}", raising=False)
        text = {"log_format": "json", "base_url": "http://x", "storage_url": "http://x", "storage_dir": "/x"}
        text |= {"redis_url": "redis://x", "catalogue_url": "mysql://x/y", "drive_share": "nobody"}
        text |= {"s3_endpoint": "http://x", "s3_bucket": "films", "drive_endpoint": "http://x"}
        text |= {"chunk_size": "4096", "drive_chunk_size": "524288", "media_memory": str(2**31)}
        text |= {"enhance": "always", "enhance_doors": "watch", "enhance_preset": "small", "hls_ladder": "240"}
        text |= {"presets": '{"mine": {}}', "previews": "false", "replicate_renditions": "false"}
        text |= {"download_max_height": "720", "download_rate_limit": "4096", "download_memory": str(2**30)}
        text |= {"download_template": "{uploader}/{id}", "download_extractor_args": '{"youtube": {"a": ["b"]}}'}
        text |= {"download_proxy": "socks5://x:1", "download_allow": "nas.local", "download_subtitles": "en,de"}
        text |= {"download_sleep": "1.5", "download_cookies": "cookies.txt"}
        monkeypatch.setenv(f"SPOOLHOUSE_{name.upper()}", text.get(name, "7"))
        if name.startswith("storage_"):
            monkeypatch.setenv("SPOOLHOUSE_STORAGE_DIR", "/x")
            monkeypatch.setenv("SPOOLHOUSE_STORAGE_URL", "http://x")
        if "bool" in str(field.annotation) and name not in text:
            monkeypatch.setenv(f"SPOOLHOUSE_{name.upper()}", "true")
        default = field.get_default()
        assert getattr(load_settings(), name) != default, name


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SPOOLHOUSE_S3_ENDPOINT", "minio:9000", "neither https://host:port nor file:///folder"),
        ("SPOOLHOUSE_S3_ENDPOINT", "http://key:secret@minio:9000", "SPOOLHOUSE_S3_ENDPOINT"),
        ("SPOOLHOUSE_S3_BUCKET", "My Videos", "bucket name"),
        ("SPOOLHOUSE_DRIVE_SHARE", "everyone", "neither anyone, nobody nor a domain"),
        ("SPOOLHOUSE_DRIVE_CHUNK_SIZE", "300000", "multiple of 262144"),
        ("SPOOLHOUSE_DISK_HARD", "99999999999", "SPOOLHOUSE_DISK_LOW"),
    ],
)
def test_settings_of_copies_are_checked(
    clean_env: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """What is wrong is said at start, not at the first video."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load_settings()


def test_where_copies_go_unless_told(clean_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied until someone says where to; half a Drive configuration counts as one, and fails."""
    assert not load_settings().s3_configured
    assert not load_settings().drive_configured
    monkeypatch.setenv("SPOOLHOUSE_S3_ENDPOINT", "file:///mnt/other")
    assert load_settings().s3_configured
    assert load_settings().bucket == "videos"
    (clean_env / "credentials.json").write_text("{}")
    assert load_settings().drive_configured
    assert load_settings().drive_credentials_file == clean_env / "credentials.json"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TEMPLATE", "{title}", "must name {id}"),
        ("TEMPLATE", "../{id}", "begins with a dot"),
        ("TEMPLATE", "{id}/{colour}", "there is no {colour}; there are {title}"),
        ("TEMPLATE", "{id", "no partner"),
        ("TEMPLATE", "{id}" * 100, "300 characters"),
        ("COOKIES", "../cookies.txt", "name of a file in the folder for cookies"),
        ("SUBTITLES", "en,no such language", "'no such language' is no language"),
        ("CONCURRENCY", "17", "less than or equal to 16"),
        ("CONCURRENCY", "0", "greater than or equal to 1"),
        ("PLAYLIST_LIMIT", "0", "greater than or equal to 1"),
        ("RATE_LIMIT", "1", "greater than or equal to 1024"),
        ("MAX_HEIGHT", "7", "greater than or equal to 16"),
        ("SLEEP", "-1", "greater than or equal to 0"),
        ("EXTRACTOR_ARGS", "youtube:a=b", "EXTRACTOR_ARGS"),
        ("FORMAT", "x" * 501, "at most 500"),
    ],
)
def test_settings_of_downloads_are_checked(
    clean_env: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """What is wrong is said at start, by its name, not at the first download."""
    monkeypatch.setenv(f"SPOOLHOUSE_DOWNLOAD_{name}", value)
    with pytest.raises(SettingsError, match=told) as refused:
        load_settings()
    assert f"SPOOLHOUSE_DOWNLOAD_{name}" in str(refused.value)


def test_downloads_lie_below_data_unless_told(clean_env: Path) -> None:
    """And no other door sees them."""
    settings = load_settings()
    assert settings.downloads == clean_env / "data" / "media"
    assert settings.home_of("download") == settings.downloads
    assert settings.cookies == clean_env / "data" / "cookies"
    with pytest.raises(SettingsError, match="the media root"):
        load_settings(media_root=settings.watch_roots[0])
