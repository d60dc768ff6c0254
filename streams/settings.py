"""All settings: read once, from the environment and `.env`, typed, checked together.

Every setting is `SPOOLHOUSE_<NAME>`; the names that users of the systems we replace have in their
`.env` files are aliases. Folders of ours lie below `data` unless set apart.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettingError

from streams.download_checks import checked_cookies, checked_language, checked_template
from streams.errors import SettingsError
from streams.events import Door
from streams.inner_hosts import InnerHosts
from streams.inner_hosts import parsed as parsed_hosts
from streams.presets import Preset, all_presets

GIB = 2**30

NOTIFIER_REQUIRED = (
    "LOG_BASE_DIRECTORY",
    "MYSQL_USER",
    "MYSQL_PASS",
    "MYSQL_HOST",
    "MYSQL_DB_NAME",
    "CLIENT_VIDEO_DIR",
    "INTERNAL_VIDEO_FOLDER_PATH",
    "NGINX_BASE_URL",
    "BASE_PATH",
)
"""What a `.env` of the watched-folder notifier must hold, once it is recognised as one."""

NOTIFIER_MARKS = (
    "LOG_BASE_DIRECTORY",
    "CLIENT_VIDEO_DIR",
    "INTERNAL_VIDEO_FOLDER_PATH",
    "NGINX_BASE_URL",
    "NGINX_INTERNAL_PATH",
    "NGINX_SERVE_DIRECTORY",
    "BASE_PATH",
    "FOLDER_POLL_INTERVAL",
    "STORAGE_PC_VIDEO_DIR",
    "STORAGE_PC_BASE_URL",
)
"""The names by which it is recognised: no one else uses them."""


REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+unix")
STORAGE_PAIR = "STORAGE_PC_VIDEO_DIR and STORAGE_PC_BASE_URL go together: set both or neither"


def _also(name: str, *others: str) -> Any:
    return AliasChoices(f"SPOOLHOUSE_{name}", *others)


class Settings(BaseSettings):
    """What can be set. Build it with `load_settings`, which words the errors for people."""

    model_config = SettingsConfigDict(
        env_prefix="SPOOLHOUSE_",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    data: Path = Path("data")
    """Everything that Spoolhouse keeps lies below this folder."""
    host: str = "127.0.0.1"
    """Address to listen on; loopback unless told otherwise."""
    port: Annotated[tuple[int, ...], NoDecode] = (8000,)
    """TCP ports of the API, a list (`8000,5000`)."""
    redis_url: SecretStr | None = None
    """Unset: a private Redis is started, its data below `data/redis`."""
    catalogue_url: SecretStr | None = None
    """`mysql://user:password@host/db`; unset: MYSQL_* where they are set, else SQLite below `data`."""
    partitions: int = Field(16, ge=1, le=1024)
    """Fixed when the log is first created."""
    namespace: str = Field("spoolhouse", pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")
    """First part of every key in Redis."""

    watch: Annotated[tuple[Path, ...], NoDecode] = Field((), validation_alias=_also("WATCH", "CLIENT_VIDEO_DIR"))
    """Watched roots, comma-separated; unset: `data/inbox`."""
    watch_extensions: Annotated[frozenset[str], NoDecode] = frozenset({".mp4", ".avi", ".mov", ".mkv"})
    watch_poll_interval: float = Field(5.0, gt=0, validation_alias=_also("WATCH_POLL_INTERVAL", "FOLDER_POLL_INTERVAL"))
    """Seconds between looks at roots that cannot be watched (network file systems, inotify limits)."""
    watch_rescan_interval: float = Field(300.0, gt=0)
    """Seconds between full rescans of roots that are watched: watchers drop events."""
    watch_still_after: float = Field(10.0, gt=0)
    """Seconds without change after which a file is complete, where leases are refused."""
    watch_force_polling: bool = False

    upload_dir: Path | None = None
    """Unset: `data/uploaded_videos`."""
    log_dir: Path | None = None
    """Unset: `data/logs`."""
    max_upload: int = Field(20 * GIB, gt=0)
    """Bytes; more than that is answered with 413."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ("*",)
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Host names by which the API may be called besides localhost and addresses (`*`: any)."""

    notifier_log_dir: Path | None = Field(None, validation_alias=_also("NOTIFIER_LOG_DIR", "LOG_BASE_DIRECTORY"))
    """Unset: `log_dir`."""
    working_dir: Path | None = Field(None, validation_alias=_also("WORKING_DIR", "INTERNAL_VIDEO_FOLDER_PATH"))
    """Unset: `data/work`."""
    base_url: str | None = Field(None, validation_alias=_also("BASE_URL", "NGINX_BASE_URL"))
    """First part of `des_url`; unset: `http://<host>:<port>`."""
    base_path: Path | None = Field(None, validation_alias=_also("BASE_PATH", "BASE_PATH"))
    """Folder that `base_url` stands for; unset: the watched root itself."""
    served_dir: Path | None = Field(
        None, validation_alias=_also("SERVED_DIR", "NGINX_INTERNAL_PATH", "NGINX_SERVE_DIRECTORY")
    )
    """What the web server in front serves: a registered file outside it is warned about."""
    storage_dir: Path | None = Field(None, validation_alias=_also("STORAGE_DIR", "STORAGE_PC_VIDEO_DIR"))
    storage_url: str | None = Field(None, validation_alias=_also("STORAGE_URL", "STORAGE_PC_BASE_URL"))
    """Base URL of files below `storage_dir`."""
    mysql_host: str | None = Field(None, validation_alias="MYSQL_HOST")
    mysql_port: int = Field(3306, validation_alias="MYSQL_PORT", ge=1, le=65535)
    mysql_user: str | None = Field(None, validation_alias="MYSQL_USER")
    mysql_pass: SecretStr | None = Field(None, validation_alias="MYSQL_PASS")
    mysql_db_name: str | None = Field(None, validation_alias="MYSQL_DB_NAME")

    worker: str | None = Field(None, pattern=r"^[A-Za-z0-9_.:-]{1,100}$")
    """This worker's name, kept over restarts; no two may share one. Unset: a new name at each start."""
    concurrency: int = Field(16, ge=1)
    """Videos that one processor works on side by side."""
    attempts: int = Field(5, ge=1)
    """How often a processor tries before it parks an event."""
    drain: float = Field(30.0, ge=0)
    """Seconds that running work gets to finish on SIGTERM."""
    lease_ttl: float = Field(10.0, ge=0.2)
    """Seconds after which a silent worker's partitions go to another."""
    stall_after: float = Field(60.0, gt=0)
    """Seconds of lag without progress or heartbeat that count as a stall."""
    probe_timeout: float = Field(60.0, gt=0)

    s3_endpoint: str | None = None
    """`https://host:port` of an S3-compatible store, or `file:///mnt/other-disk`: a directory on another disk.

    Unset: Amazon's, where `s3_bucket` is set; with neither nothing is copied. Credentials are the standard
    AWS variables (or files, or roles).
    """
    s3_bucket: str | None = None
    """Unset: `videos`, where `s3_endpoint` is set. Made when missing."""
    s3_region: str | None = Field(None, validation_alias=_also("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"))
    """Unset: `us-east-1`."""
    s3_timeout: float = Field(30.0, gt=0)
    """Seconds without any progress after which a request to the store is given up."""
    s3_connect_timeout: float = Field(3.0, gt=0)
    """Seconds that the store gets to take a connection."""
    chunk_size: int = Field(10_485_760, ge=1024, le=512 * 2**20)
    """Bytes of a chunk in the object store. A stream keeps the size that it began with."""
    chunks_in_flight: int = Field(4, ge=1, le=64)
    """Chunks of one video that are sent side by side; each takes its size of memory."""
    replicate_concurrency: int = Field(4, ge=1)
    """Videos that are copied to the object store side by side; each takes `chunks_in_flight` × `chunk_size` of memory."""
    growing_behind: int = Field(10_485_760, ge=0)
    """Bytes by which the copy of a file that is still being written stays behind its writer."""

    drive_folder_id: str | None = Field(None, validation_alias=_also("DRIVE_FOLDER_ID", "DRIVE_FOLDER_ID"))
    """The Google Drive folder that videos are copied to."""
    drive_credentials: Path | None = None
    """Service account key or OAuth user token. Unset: `credentials.json` here or in `data`, where there is one."""
    drive_endpoint: str | None = None
    """Base URL of another server that speaks Drive v3; unset: Google's."""
    drive_share: str = "anyone"
    """Who may see a file: `anyone` with the link, a domain such as `example.com`, or `nobody` else."""
    drive_wait: float = Field(540.0, ge=0)
    """Seconds that an upload's answer waits for Drive."""
    drive_chunk_size: int = Field(10_485_760, ge=262_144)
    """Bytes that are sent to Drive in one request; a multiple of 262,144."""
    drive_timeout: float = Field(60.0, gt=0)
    """Seconds after which a request to Drive that does not move is given up."""

    retention_days: float | None = Field(None, ge=0)
    """Local copies older than this are given up once every copy elsewhere was verified; unset: never by itself."""
    days_to_keep: float = Field(30.0, ge=0, validation_alias=_also("DAYS_TO_KEEP", "DAYS_TO_KEEP"))
    """What `spoolhouse retention` takes for `--days` unless told."""
    retention_interval: float = Field(3600.0, gt=0)
    """Seconds between two looks for what may be given up."""
    retention_watch: Annotated[tuple[Path, ...], NoDecode] = ()
    """Watched roots whose originals may be given up as well, comma-separated. Unset: none, ever."""
    disk_low: int = Field(5 * GIB, ge=0)
    """Bytes: below that much free space there are warnings."""
    disk_hard: int = Field(GIB // 2, ge=0)
    """Bytes: below that uploads are refused (507) and watching pauses."""

    enhance: Literal["auto", "always", "off"] = "auto"
    """`auto`: what every browser plays already is not encoded again. `off`: nothing is made but on request."""
    enhance_doors: Annotated[frozenset[Door], NoDecode] = frozenset()
    """Doors (`upload`, `watch`, `download`) whose videos are all enhanced; what came by `POST /upload` always is."""
    enhance_preset: str = "web"
    """The preset that is used unless another one is asked for."""
    presets: dict[str, dict[str, Any]] = {}
    """More presets, or changes to those that are there, as JSON: `{"web": {"crf": 23}}`. See `streams/presets.py`."""
    enhance_concurrency: int = Field(1, ge=1)
    """Videos that are enhanced side by side: one keeps all cores busy."""
    media_threads: int = Field(0, ge=0)
    """Threads of a decoder and of an encoder; 0: as many as there are cores."""
    media_nice: int = Field(10, ge=0, le=19)
    """Niceness of the processes that work on pictures."""
    media_memory: int = Field(4 * GIB, ge=2 * GIB)
    """Bytes of address space that such a process may have."""
    media_timeout: float = Field(12 * 3600.0, gt=0)
    """Seconds that making one rendition may take."""
    media_stall: float = Field(120.0, gt=0)
    """Seconds without a picture done after which it counts as hung."""
    previews: bool = True
    """A poster and a sheet of small pictures for every video."""
    hls: bool = False
    """A ladder for adaptive streaming of everything that is enhanced."""
    hls_ladder: Annotated[tuple[int, ...], NoDecode] = (1080, 720, 480)
    """Heights of its rungs; those above the source's are left out."""
    hls_segment: float = Field(6.0, ge=1, le=30)
    """Seconds of one segment, about."""
    replicate_renditions: bool = True
    """Renditions are copied elsewhere like the videos that they were made of."""
    metadata_gps: bool = False
    """Where a video was recorded is kept, where it says so."""
    media_root: Path | None = None
    """Where downloads lie, in folders that media servers read. Unset: `data/media`."""
    unfinished_dir: Path | None = None
    """Where what is still coming in lies: on the file system of `media_root`, outside it. Unset: `data/unfinished`,
    or beside `media_root` where that is on another file system."""
    cookies_dir: Path | None = None
    """Where files with cookies for sites lie. Unset: `data/cookies`."""
    download_format: str = Field("bv*+ba/b", min_length=1, max_length=500)
    """A yt-dlp format selector."""
    download_max_height: int | None = Field(None, ge=16, le=8640)
    """Pixels: the quality ceiling."""
    download_subtitles: Annotated[tuple[str, ...], NoDecode] = ()
    """Languages of subtitles that are fetched too (`en,de`)."""
    download_playlist_limit: int = Field(100, ge=1, le=10_000)
    """Entries of a playlist or channel that are taken unless more are asked for."""
    download_concurrency: int = Field(1, ge=1, le=16)
    """Downloads side by side."""
    download_per_host: int = Field(0, ge=0, le=16)
    """Of those, from one host; 0: no limit of its own."""
    download_sleep: float = Field(0.0, ge=0, le=3600)
    """Seconds between two downloads from one host, and between two requests of one download."""
    download_rate_limit: int | None = Field(None, ge=1024)
    """Bytes a second, of each download."""
    download_template: str = "{title} ({year})/{title} ({year}) [{id}]"
    """Folder and name of what comes down, without its extension."""
    download_cookies: str | None = None
    """Name of a file in `cookies_dir`."""
    download_wait_for_live: bool = False
    """Streams that are live, or have not begun, are waited for and recorded."""
    download_allow: Annotated[tuple[str, ...], NoDecode] = ()
    """Inner hosts that downloads may reach all the same: `nas.local`, `nas.local:8080`, `192.168.1.0/24`."""
    download_proxy: SecretStr | None = None
    """`http://user:password@host:port` or `socks5://…`: through which downloads go out. Names are looked up here, all
    the same: an inner address is refused before the proxy hears of it."""
    download_extractor_args: dict[str, dict[str, list[str]]] = {}
    """yt-dlp's own, as JSON: `{"youtube": {"player_client": ["web"]}}`."""
    download_max_size: int = Field(50 * GIB, gt=0)
    """Bytes of one file."""
    download_timeout: float = Field(12 * 3600.0, gt=0)
    """Seconds that one attempt may take."""
    download_stall: float = Field(90.0, gt=0)
    """Seconds without a byte after which an attempt counts as hung."""
    download_attempts: int = Field(8, ge=1)
    """How often a download that may do better later is tried."""
    download_retry: float = Field(10.0, gt=0)
    """Seconds until the second attempt; each further one waits twice as long, an hour at the most."""
    download_memory: int = Field(2 * GIB, ge=GIB // 2)
    """Bytes of memory (heap, not address space: engines for JavaScript reserve far more) of a process that fetches."""
    subscription_interval: float = Field(3600.0, gt=0)
    """Seconds between two looks at a subscription's list, unless another interval is asked for."""
    subscription_min_interval: float = Field(60.0, gt=0)
    """The shortest interval that may be asked for."""
    subscription_entries: int = Field(100, ge=1, le=500)
    """Entries of a list that a look reads, from its beginning: a list that grows at its end needs as many as it has."""
    ws_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of web pages that may open WebSockets besides our own (`https://example.com`; `*`: any)."""
    log_level: str = "INFO"
    log_format: str = Field("auto", pattern="^(auto|json|console)$")

    @field_validator(
        *("port", "watch", "watch_extensions", "cors_origins", "allowed_hosts", "retention_watch"),
        *("enhance_doors", "hls_ladder", "ws_origins", "download_subtitles", "download_allow"),
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return [value] if isinstance(value, (int, Path)) else value

    @field_validator("hls_ladder")
    @classmethod
    def _real_heights(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(16 <= height <= 4320 and height % 2 == 0 for height in value):
            raise ValueError("heights are even numbers between 16 and 4320")
        return tuple(sorted(set(value), reverse=True))

    @model_validator(mode="after")
    def _real_presets(self) -> Self:
        if self.enhance_preset not in self.all_presets:
            raise ValueError(
                f"SPOOLHOUSE_ENHANCE_PRESET: there is no preset {self.enhance_preset!r}; "
                f"there are {', '.join(sorted(self.all_presets))}"
            )
        return self

    @cached_property
    def all_presets(self) -> dict[str, Preset]:
        """Every preset by its name: those that are built in, as changed and added to by `presets`."""
        return all_presets(self.presets)

    @field_validator("watch_extensions")
    @classmethod
    def _dotted(cls, value: frozenset[str]) -> frozenset[str]:
        return frozenset("." + extension.lower().lstrip(".") for extension in value)

    @field_validator("port")
    @classmethod
    def _real_ports(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(0 <= port <= 65535 for port in value):
            raise ValueError("ports lie between 1 and 65535 (0: any free one)")
        return value

    @field_validator("base_url", "storage_url", "drive_endpoint")
    @classmethod
    def _real_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.netloc:
                raise ValueError(f"{value!r} is not an http:// or https:// URL")
        return value

    @field_validator("redis_url", "catalogue_url")
    @classmethod
    def _readable_url(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """What is wrong is said without the value: it holds a password."""
        if value is None:
            return None
        example = (
            "redis://user:password@host:6379/0" if info.field_name == "redis_url" else "mysql://user:password@host/name"
        )
        try:
            parts = urlsplit(value.get_secret_value())
            named = bool(parts.hostname or parts.path) and parts.port != 0  # reading the port may fail, too
        except ValueError:
            named = False
        if not named or not parts.scheme:
            raise ValueError(
                f"it is no URL like {example} (what is special in a password is written as %40 and the like)"
            )
        if info.field_name == "redis_url" and parts.scheme not in REDIS_SCHEMES:
            raise ValueError(f"it begins with {parts.scheme}://, and not with one of {', '.join(REDIS_SCHEMES)}")
        return value

    @field_validator(
        *("data", "upload_dir", "log_dir", "notifier_log_dir", "working_dir"),
        *("base_path", "served_dir", "storage_dir", "drive_credentials"),
        *("media_root", "unfinished_dir", "cookies_dir"),
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(value).expanduser().absolute()

    @field_validator("download_template")
    @classmethod
    def _real_template(cls, value: str) -> str:
        if not 1 <= len(value) <= 300:
            raise ValueError("a naming template has 1 to 300 characters")
        return checked_template(value)

    @field_validator("download_cookies")
    @classmethod
    def _real_cookies(cls, value: str | None) -> str | None:
        return None if value is None else checked_cookies(value)

    @field_validator("download_subtitles")
    @classmethod
    def _real_languages(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > 50:
            raise ValueError("at most 50 languages of subtitles are fetched")
        return tuple(checked_language(one) for one in value)

    @field_validator("download_allow")
    @classmethod
    def _real_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parsed_hosts(value)
        return value

    @field_validator("download_proxy")
    @classmethod
    def _real_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        """What is wrong is said without the value: it may hold a password."""
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            whole = bool(parts.scheme in {"http", "socks5"} and parts.hostname and parts.port)
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(
                "it is no URL like http://host:8080 or socks5://user:password@host:1080 "
                "(what is special in a password is written as %40 and the like)"
            )
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _real_store(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            directory = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
            if parts.username or parts.password:
                raise ValueError("it holds a user name; credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            if not directory and (parts.scheme not in {"http", "https"} or not parts.hostname):
                raise ValueError(f"{value!r} is neither https://host:port nor file:///folder")
        return value

    @field_validator("s3_bucket")
    @classmethod
    def _real_bucket(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
            raise ValueError(f"{value!r} is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens")
        return value

    @field_validator("drive_share")
    @classmethod
    def _real_audience(cls, value: str) -> str:
        value = value.strip().lower()
        if value not in {"anyone", "nobody"} and not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", value):
            raise ValueError(f"{value!r} is neither anyone, nobody nor a domain such as example.com")
        return value

    @field_validator("drive_chunk_size")
    @classmethod
    def _in_quarters(cls, value: int) -> int:
        if value % 262_144:
            raise ValueError("it must be a multiple of 262144: Drive takes nothing else")
        return value

    @model_validator(mode="after")
    def _marks(self) -> Self:
        if self.disk_hard > self.disk_low and "disk_hard" in self.model_fields_set:
            raise ValueError("SPOOLHOUSE_DISK_HARD lies above SPOOLHOUSE_DISK_LOW: warnings come before refusals")
        return self

    @field_validator("watch", "retention_watch")
    @classmethod
    def _all_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        # Named twice is named once: two watchers of one root would take it from each other for ever.
        return tuple(dict.fromkeys(Path(os.path.normpath(Path(path).expanduser().absolute())) for path in value))

    @model_validator(mode="after")
    def _storage_pair(self) -> Self:
        if (self.storage_dir is None) != (self.storage_url is None):
            raise ValueError(STORAGE_PAIR)
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        """A file that two doors see would be two videos."""
        places = [(f"the watched folder {path}", os.path.realpath(path)) for path in self.watch_roots]
        places.append((f"the folder for uploads {self.uploads}", os.path.realpath(self.uploads)))
        places.append((f"the media root {self.downloads}", os.path.realpath(self.downloads)))
        if self.unfinished_dir is not None:
            name = f"the folder for unfinished downloads {self.unfinished_dir}"
            places.append((name, os.path.realpath(self.unfinished_dir)))
        for (one, here), (other, there) in combinations(places, 2):
            inner, outer = (one, other) if here.startswith(there.rstrip("/") + "/") else (other, one)
            if os.path.commonpath((here, there)) in {here, there}:
                raise ValueError(
                    f"{inner} lies in {outer}: every file there would be taken in twice. Name folders that lie apart"
                )
        return self

    @cached_property
    def watch_roots(self) -> tuple[Path, ...]:
        """The roots to watch."""
        return self.watch or (self.data / "inbox",)

    @cached_property
    def uploads(self) -> Path:
        """Where stored uploads lie."""
        return self.upload_dir or self.data / "uploaded_videos"

    def home_of(self, door: Door) -> Path | None:
        """The folder of ours in which files of a door lie; None where there is no one folder."""
        return {"upload": self.uploads, "rendition": self.processed, "download": self.downloads}.get(door)

    @cached_property
    def logs(self) -> Path:
        """Where `video_uploads.log` lies."""
        return self.log_dir or self.data / "logs"

    @cached_property
    def notifier_logs(self) -> Path:
        """Where the notifier's daily files lie."""
        return self.notifier_log_dir or self.logs

    @cached_property
    def working(self) -> Path:
        """Our own working folder."""
        return self.working_dir or self.data / "work"

    @cached_property
    def processed(self) -> Path:
        """Where renditions lie, and below it the metadata documents."""
        return self.data / "processed_videos"

    @cached_property
    def downloads(self) -> Path:
        """The media root: where downloads lie."""
        return self.media_root or self.data / "media"

    @cached_property
    def cookies(self) -> Path:
        """Where files with cookies lie."""
        return self.cookies_dir or self.data / "cookies"

    @cached_property
    def download_requests(self) -> Path:
        """Where requests for downloads are kept, a small file each, in case the log loses them."""
        return self.data / "downloads"

    @cached_property
    def subscription_requests(self) -> Path:
        """Where what was said of subscriptions is kept, a small file each."""
        return self.data / "subscriptions"

    @cached_property
    def inner_hosts(self) -> InnerHosts:
        """`download_allow`, as it is understood."""
        return parsed_hosts(self.download_allow)

    @cached_property
    def metadata_documents(self) -> Path:
        """Where `<video id>.json` lies."""
        return self.processed / "metadata"

    @cached_property
    def previews_folder(self) -> Path:
        """Where posters and sheets lie, a folder for each video."""
        return self.data / "previews"

    @cached_property
    def sidecars(self) -> Path:
        """Where the sidecar manifests of stored videos lie."""
        return self.data / "sidecars"

    @cached_property
    def s3_configured(self) -> bool:
        """Whether there is an object store to copy to."""
        return self.s3_endpoint is not None or self.s3_bucket is not None

    @cached_property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.s3_bucket or "videos"

    @cached_property
    def hard_mark(self) -> int:
        """Bytes of free space below which nothing is taken in; never above the mark of the warnings."""
        return min(self.disk_hard, self.disk_low)

    @property
    def drive_credentials_file(self) -> Path | None:
        """Where Drive's credentials lie: as set, else a `credentials.json` here or in `data`, else None."""
        if self.drive_credentials is not None:
            return self.drive_credentials
        found = (Path("credentials.json").absolute(), self.data / "credentials.json")
        return next((path for path in found if path.is_file()), None)

    @property
    def drive_configured(self) -> bool:
        """Whether Drive is meant to be used: one of folder and credentials is there. With one only, it fails."""
        return self.drive_folder_id is not None or self.drive_credentials_file is not None

    @cached_property
    def public_url(self) -> str:
        """What `des_url` begins with, without a final slash."""
        return (self.base_url or f"http://{self.host}:{self.port[0]}").rstrip("/")

    @cached_property
    def sqlalchemy_url(self) -> str:
        """The catalogue's URL as SQLAlchemy takes it (holds the password)."""
        if self.catalogue_url is not None:
            url = self.catalogue_url.get_secret_value()
            scheme, _, rest = url.partition("://")
            drivers = {"mysql": "mysql+aiomysql", "mariadb": "mysql+aiomysql", "sqlite": "sqlite+aiosqlite"}
            return f"{drivers.get(scheme, scheme)}://{rest}"
        if self.mysql_host and self.mysql_user and self.mysql_db_name:
            password = quote(self.mysql_pass.get_secret_value(), safe="") if self.mysql_pass else ""
            user = quote(self.mysql_user, safe="")
            return f"mysql+aiomysql://{user}:{password}@{self.mysql_host}:{self.mysql_port}/{self.mysql_db_name}"
        return f"sqlite+aiosqlite:///{self.data / 'catalogue.sqlite3'}"


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment, `.env` and `overrides` (which win).

    Raises SettingsError naming everything that is wrong or missing, all at once.
    """
    faults: list[str] = []
    present = _present()
    settings: Settings | None = None
    try:
        settings = Settings(**overrides)
    except UnreadableSettingError as error:  # neither JSON nor anything else that the setting takes
        named = re.search(r'field "(\w+)"', str(error))
        where = _shown_name(named[1], present) if named else "a setting"
        faults.append(f"{where}: it is no JSON like the documentation shows ({error.__cause__})")
    except ValidationError as error:
        for fault in error.errors():
            where = f"{_shown_name(str(fault['loc'][0]), present)}: " if fault["loc"] else ""
            faults.append(where + fault["msg"].removeprefix("Value error, "))
        if ("STORAGE_PC_VIDEO_DIR" in present) != ("STORAGE_PC_BASE_URL" in present) and STORAGE_PAIR not in faults:
            faults.append(STORAGE_PAIR)
    faults.extend(_missing_of_notifier(present))
    if settings is None or faults:
        raise SettingsError("Spoolhouse cannot start with these settings:\n" + "\n".join(f"  - {f}" for f in faults))
    return settings


def _present() -> set[str]:
    """The names that are set, in the environment or in `.env`."""
    return {name for name, value in {**dotenv_values(".env"), **os.environ}.items() if value}


def _shown_name(where: str, present: set[str]) -> str:
    """A setting by the name under which it was set: an alias, where that is what the user's `.env` has."""
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names = alias.choices if isinstance(alias, AliasChoices) else [alias or f"SPOOLHOUSE_{name.upper()}"]
        if where == name or where in names:
            return next((str(one) for one in names if one in present), str(names[0]))
    return where


def _missing_of_notifier(present: set[str]) -> list[str]:
    """What a notifier's environment lacks, where this is one."""
    marks = [name for name in NOTIFIER_MARKS if name in present]
    if not marks:
        return []
    because = f"required since {marks[0]} is set"
    missing = [f"{name}: missing ({because})" for name in NOTIFIER_REQUIRED if name not in present]
    if not present & {"NGINX_INTERNAL_PATH", "NGINX_SERVE_DIRECTORY"}:
        missing.append(f"NGINX_INTERNAL_PATH or NGINX_SERVE_DIRECTORY: missing ({because})")
    return missing
