"""What the Drive emulator keeps: files, upload sessions, settings, a journal; all of it in one folder.

Everything is written before it is answered, so that `kill -9` and a new start go on where it stood.
Nothing is fsynced: the page cache survives a killed process, and tests cut no power.

    configuration.json   what tests set (see `DEFAULTS`)
    files/<id>.json      a file's metadata; it names its content
    uploads/<id>.json    an upload session, `uploads/<id>.bin` the bytes that it has so far
    journal.jsonl        one line for each request

A finished upload's bytes stay where they are: writing the file's metadata is the one step that
makes it a file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

GRANULE = 262_144
"""Drive takes chunks in multiples of this, and keeps what it has of a broken one likewise."""

FOLDER = "application/vnd.google-apps.folder"

DEFAULTS: dict[str, Any] = {
    "secret": "",
    "public_key": "",
    "client_email": "spoolhouse@tests.iam.gserviceaccount.com",
    "user_email": "someone@example.com",
    "client_id": "1234567890-abc.apps.googleusercontent.com",
    "client_secret": "GOCSPX-not-a-secret",
    "refresh_token": "1//refresh-token-of-a-test",
    "folder_id": "",
    "shared_drive_id": "",
    "shared_drive_folder_id": "",
    "token_lifetime": 3600,
    "token_generation": 1,
    "invalid_grant": None,
    "refresh_scope": "https://www.googleapis.com/auth/drive",
    "service_account_quota": 0,
    "user_quota": 15 * 2**30,
    "shared_drive_quota": None,
    "hidden": [],
    "readonly": [],
    "forbidden_audiences": [],
    "session_lifetime": 7 * 86400,
    "list_lag": 0.0,
    "page_size": 1000,
    "md5_missing": 0,
}
"""`token_generation`: raise it, and every access token is void. `invalid_grant`: a text that every
request for a token is refused with. Quotas: bytes, None for no limit. `hidden`: ids that nobody sees
(a folder that was not shared). `readonly`: folders into which nothing may be put.
`forbidden_audiences`: types of permission (`anyone`, `domain`) that the organisation forbids.
`list_lag`: seconds until a new file is found by files.list. `md5_missing`: how many times a whole
file is shown without md5Checksum, as while Drive computes it."""


class DriveError(Exception):
    """An answer in Google's form of an error."""

    def __init__(
        self, status: int, reason: str, message: str, *, domain: str = "global", location: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.domain, self.location = status, reason, message, domain, location

    def body(self) -> dict[str, Any]:
        """`{"error": {"code", "message", "errors": [{"domain", "reason", "message"}]}}`."""
        one = {"message": self.message, "domain": self.domain, "reason": self.reason}
        if self.location:
            one |= {"location": self.location, "locationType": "header" if self.location[0].isupper() else "parameter"}
        return {"error": {"code": self.status, "message": self.message, "errors": [one]}}


def not_found(file_id: str) -> DriveError:
    """What Drive says of files that are not there, and of those that one may not see."""
    return DriveError(404, "notFound", f"File not found: {file_id}.", location="fileId")


@dataclass
class Upload:
    """A resumable session."""

    id: str
    metadata: dict[str, Any]
    """What the file will be."""
    size: int | None
    """As declared when it began; None: not known yet."""
    began: float
    replaces: bool = False
    """Whether it brings new content for a file that is there."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    md5: Any = None
    hashed: int = 0
    """How many of the bytes `md5` has seen."""


class State:
    """All of it. Methods that change something hold `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.files: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, Upload] = {}
        self._by_property: dict[tuple[str, str], set[str]] = {}
        self._sums: dict[tuple[str, int, int], str] = {}
        for name in ("files", "uploads"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.configuration = DEFAULTS | json.loads((folder / "configuration.json").read_text())
        self._journal = os.open(folder / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for path in sorted((folder / "files").glob("*.json")):
            self._index(json.loads(path.read_text()))
        for path in (folder / "uploads").glob("*.json"):
            told = json.loads(path.read_text())
            self.uploads[told["id"]] = Upload(**told)
        self._first_folders()

    # ------------------------------------------------------------ configuration and journal

    def configure(self, changes: dict[str, Any]) -> None:
        """Change settings, for good."""
        unknown = set(changes) - set(DEFAULTS)
        if unknown:
            raise DriveError(400, "invalid", f"no such settings: {sorted(unknown)}")
        with self.lock:
            self.configuration |= changes
            self._write(self.folder / "configuration.json", self.configuration)

    def note(self, **told: Any) -> None:
        """Add a line to the journal."""
        os.write(self._journal, json.dumps(told).encode() + b"\n")

    def journal(self) -> list[dict[str, Any]]:
        """Every request so far, over all starts."""
        return [json.loads(line) for line in (self.folder / "journal.jsonl").read_text().splitlines()]

    # ------------------------------------------------------------ ids

    def new_id(self) -> str:
        """An id of Drive's form that `is_ours` knows again, whatever was restarted."""
        salt = secrets.token_bytes(16)
        return "1" + base64.urlsafe_b64encode(salt + self._mac(salt)).decode()

    def is_ours(self, file_id: str) -> bool:
        """Whether generateIds gave this id."""
        try:
            raw = base64.b64decode(file_id[1:], altchars=b"-_", validate=True)
        except ValueError:
            return False
        return len(file_id) == 33 and file_id[0] == "1" and hmac.compare_digest(raw[16:], self._mac(raw[:16]))

    def _mac(self, salt: bytes) -> bytes:
        return hmac.new(self.configuration["secret"].encode(), salt, hashlib.sha256).digest()[:8]

    # ------------------------------------------------------------ files

    def get(self, file_id: str) -> dict[str, Any]:
        """A file's record; DriveError 404."""
        record = self.files.get(file_id)
        if record is None or file_id in self.configuration["hidden"]:
            raise not_found(file_id)
        return record

    def with_property(self, key: str, value: str) -> list[dict[str, Any]]:
        """The files whose appProperties say so."""
        with self.lock:
            return [self.files[one] for one in sorted(self._by_property.get((key, value), ()))]

    def save(self, record: dict[str, Any]) -> None:
        """Write a record, new or changed."""
        with self.lock:
            self._write(self.folder / "files" / f"{record['id']}.json", record)
            self._forget(record["id"])
            self._index(record)

    def remove(self, file_id: str) -> None:
        """Delete a file and, of a folder, all that lies in it."""
        with self.lock:
            record = self.files[file_id]
            for child in [one for one in self.files.values() if file_id in one["parents"]]:
                self.remove(child["id"])
            (self.folder / "files" / f"{file_id}.json").unlink()
            self._forget(file_id)
            if record["content"]:
                self.content(record).unlink(missing_ok=True)
                self.expire(record["upload"])

    def make(self, metadata: dict[str, Any], **more: Any) -> dict[str, Any]:
        """A new record of what a client sent, in the folder it named; not saved yet."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        parents = metadata.get("parents") or ["root"]
        above = self.files.get(parents[0], {})
        return {
            "id": metadata.get("id") or self.new_id(),
            "name": metadata.get("name", "Untitled"),
            "mimeType": metadata.get("mimeType", "application/octet-stream"),
            "description": metadata.get("description", ""),
            "parents": parents,
            "appProperties": metadata.get("appProperties", {}),
            "properties": metadata.get("properties", {}),
            "trashed": False,
            "size": None,
            "md5Checksum": None,
            "content": None,
            "driveId": above.get("driveId"),
            "owner": "",
            "createdTime": now,
            "modifiedTime": now,
            "made": time.time(),
            "permissions": [],
            "upload": None,
            "by_app": True,
        } | more

    def content(self, record: dict[str, Any]) -> Path:
        """Where a file's bytes lie."""
        return self.folder / record["content"]

    def sha256(self, record: dict[str, Any]) -> str:
        """Of a file's bytes, as they lie on disk now."""
        path = self.content(record)
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_mtime_ns)
        if key not in self._sums:
            with path.open("rb") as file:
                self._sums[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._sums[key]

    def usage(self) -> int:
        """Bytes in My Drive."""
        with self.lock:
            return sum(one["size"] or 0 for one in self.files.values() if one["driveId"] is None)

    def corrupt(self, file_id: str) -> None:
        """Change a file's content behind everyone's back, as another program would: MD5 follows."""
        with self.lock:
            record = dict(self.files[file_id])
            with self.content(record).open("r+b") as file:
                first = file.read(1) or b"\0"
                file.seek(0)
                file.write(bytes([first[0] ^ 0xFF]))
            with self.content(record).open("rb") as file:
                record["md5Checksum"] = hashlib.file_digest(file, "md5").hexdigest()
            self.save(record | {"size": self.content(record).stat().st_size})

    # ------------------------------------------------------------ upload sessions

    def open_upload(self, metadata: dict[str, Any], size: int | None, *, replaces: bool) -> Upload:
        """Begin a session."""
        upload = Upload(secrets.token_urlsafe(32), metadata, size, time.time(), replaces)
        with self.lock:
            self.upload_path(upload).touch()
            self._write(
                self.folder / "uploads" / f"{upload.id}.json",
                {"id": upload.id, "metadata": metadata, "size": size, "began": upload.began, "replaces": replaces},
            )
            self.uploads[upload.id] = upload
        return upload

    def find_upload(self, upload_id: str) -> Upload:
        """A session that still lives; DriveError 404."""
        upload = self.uploads.get(upload_id)
        if upload is None or upload.began + self.configuration["session_lifetime"] < time.time():
            raise DriveError(404, "notFound", "Not Found")
        return upload

    def expire(self, upload_id: str) -> None:
        """End a session; what it brought is lost unless it was finished."""
        with self.lock:
            upload = self.uploads.pop(upload_id, None)
            if upload is None:
                return
            (self.folder / "uploads" / f"{upload.id}.json").unlink()
            if self.finished(upload) is None:
                self.upload_path(upload).unlink(missing_ok=True)

    def finished(self, upload: Upload) -> dict[str, Any] | None:
        """The file that a session made, where it is finished."""
        record = self.files.get(upload.metadata["id"])
        return record if record is not None and record["upload"] == upload.id else None

    def upload_path(self, upload: Upload) -> Path:
        """Where its bytes lie."""
        return self.folder / "uploads" / f"{upload.id}.bin"

    def received(self, upload: Upload) -> int:
        """How many bytes a session that is not finished has: whole granules only."""
        size = self.upload_path(upload).stat().st_size
        return size - size % GRANULE

    def finish(self, upload: Upload, size: int) -> dict[str, Any]:
        """Make the bytes of a session a file. DriveError 409 where another was faster."""
        path = self.upload_path(upload)
        os.truncate(path, size)
        sums = {
            "size": size,
            "md5Checksum": self.md5_so_far(upload, size).hexdigest(),
            "content": str(path.relative_to(self.folder)),
            "upload": upload.id,
        }
        with self.lock:
            there = self.files.get(upload.metadata["id"])
            if upload.replaces:
                if there is None:
                    raise not_found(upload.metadata["id"])
                record = there | upload.metadata | sums
            elif there is not None:
                raise DriveError(409, "fileIdInUse", "A file already exists with the provided ID.")
            else:
                record = upload.metadata | sums
            self.save(record)
            return record

    def md5_so_far(self, upload: Upload, size: int) -> Any:
        """The running MD5 over the first `size` bytes; read again after a restart."""
        if upload.md5 is None or upload.hashed != size:
            upload.md5, upload.hashed = hashlib.md5(usedforsecurity=False), 0
            with self.upload_path(upload).open("rb") as file:
                while upload.hashed < size and (data := file.read(min(2**20, size - upload.hashed))):
                    upload.md5.update(data)
                    upload.hashed += len(data)
        return upload.md5

    # ------------------------------------------------------------ below

    def _first_folders(self) -> None:
        told = self.configuration
        for key, name, drive in (
            ("folder_id", "Videos", None),
            ("shared_drive_folder_id", "Shared videos", told["shared_drive_id"]),
        ):
            if told[key] and told[key] not in self.files:
                metadata = {"id": told[key], "name": name, "mimeType": FOLDER, "parents": [drive or "root"]}
                self.save(self.make(metadata, driveId=drive, owner=told["user_email"], by_app=False))

    def _index(self, record: dict[str, Any]) -> None:
        self.files[record["id"]] = record
        for pair in record["appProperties"].items():
            self._by_property.setdefault(pair, set()).add(record["id"])

    def _forget(self, file_id: str) -> None:
        former = self.files.pop(file_id, None)
        for pair in former["appProperties"].items() if former else ():
            with contextlib.suppress(KeyError):
                self._by_property[pair].discard(file_id)

    def _write(self, path: Path, told: Any) -> None:
        making = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        making.write_text(json.dumps(told))
        making.replace(path)
