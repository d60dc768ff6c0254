"""A Google Drive on loopback, for tests: a process of its own that speaks Drive v3 as Google publishes it.

    with DriveServer(folder) as drive:
        drive.credentials(tmp_path / "credentials.json")
        drive.inject(r"PUT /upload", status=503, times=2)
        …
        assert [file["name"] for file in drive.files()] == ["film.mp4"]

It is used through the real google-api-python-client. Its state lies in its folder, so it may be killed
and started again: sessions go on, tokens stay valid, files are there. Faults that were injected are
forgotten by a new start.
"""

from __future__ import annotations

import functools
import json
import socket
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from tests.drive_emulator.state import DEFAULTS, State
from tests.servers import START_TIMEOUT, Server

Kind = Literal["service_account", "authorized_user", "token"]
"""What lies in a credentials.json: a service account's key; an OAuth user as gcloud writes it; the
same as Google's quickstart for Python writes it (`token.json`)."""


class DriveServer(Server):
    """A Drive with two folders: one in someone's My Drive, one in a shared drive.

    `configuration`: anything of `drive_emulator.state.DEFAULTS`, e.g. `service_account_quota=2**30`.
    """

    name = "drive"

    def __init__(self, folder: Path, *, port: int | None = None, **configuration: Any) -> None:
        super().__init__(folder, port)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "configuration.json"
        if not self._file.exists():
            first = State.__new__(State)
            first.configuration = told = DEFAULTS | {"secret": "of a test", "public_key": _key()[1]}
            told |= {
                "folder_id": first.new_id(),
                "shared_drive_id": "0A" + first.new_id()[3:20],
                "shared_drive_folder_id": first.new_id(),
            }
            self._file.write_text(json.dumps(told | configuration))
        self._told: dict[str, Any] = json.loads(self._file.read_text())

    @property
    def url(self) -> str:
        """What stands for https://www.googleapis.com."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def folder_id(self) -> str:
        """A folder in a user's My Drive that the service account may write to (but has no quota for)."""
        return str(self._told["folder_id"])

    @property
    def shared_drive_id(self) -> str:
        """A shared drive."""
        return str(self._told["shared_drive_id"])

    @property
    def shared_drive_folder_id(self) -> str:
        """A folder in it."""
        return str(self._told["shared_drive_folder_id"])

    @property
    def environment(self) -> dict[str, str]:
        """What makes Spoolhouse use it: a service account and the folder in the shared drive."""
        return self.settings("service_account", self.shared_drive_folder_id)

    def settings(self, kind: Kind, folder_id: str) -> dict[str, str]:
        """The same for other credentials or another folder."""
        path = self.folder / f"credentials-{kind}.json"
        return {
            "DRIVE_FOLDER_ID": folder_id,
            "SPOOLHOUSE_DRIVE_CREDENTIALS": str(self.credentials(path, kind)),
            "SPOOLHOUSE_DRIVE_ENDPOINT": self.url,
        }

    def credentials(self, path: Path, kind: Kind = "service_account") -> Path:
        """Write a credentials.json whose tokens come from here."""
        token_uri = f"{self.url}/token"
        if kind == "service_account":
            told = {
                "type": "service_account",
                "project_id": "tests",
                "private_key_id": "0123456789abcdef",
                "private_key": _key()[0],
                "client_email": self._told["client_email"],
                "client_id": "100000000000000000001",
                "auth_uri": f"{self.url}/auth",
                "token_uri": token_uri,
            }
        else:
            told = {
                "type": "authorized_user",
                **{key: self._told[key] for key in ("client_id", "client_secret", "refresh_token")},
                "token_uri": token_uri,
            }
            if kind == "token":
                del told["type"]
                told |= {"token": "ya29.long-expired", "expiry": "2020-01-01T00:00:00.000000Z"}
                told |= {"scopes": ["https://www.googleapis.com/auth/drive"], "universe_domain": "googleapis.com"}
        path.write_text(json.dumps(told))
        path.chmod(0o600)
        return path

    def inject(self, match: str, action: str = "status", *, times: int = 1, after: int = 0, **told: Any) -> None:
        """Let the next `times` requests go wrong that `match` (a regex) finds in `"METHOD /path?query"`.

        `after`: so many of them pass before. Actions:

        - `status`: an error, with `status=`, and `reason=`, `message=`, `retry_after=` where wanted
        - `drop_before`, `drop_after`: the connection ends without a reply; nothing, or all of it, was done
        - `drop_middle`: it ends in the middle of a chunk, whose first half arrived
        - `short`: only a `fraction=` of the chunk (half of it) is taken, and 308 says so; a download breaks off
        - `corrupt`: a byte of the chunk is changed on its way to the disk
        - `expire`: the upload session is gone
        - `slow`: it takes `seconds=` longer, or `seconds_per_mib=`
        - `hang`: no answer until the client leaves, `clear()`, or `seconds=` are over
        """
        if "status" in told and action != "status":
            raise ValueError("a status needs the action `status`")
        self._ask("/__inject", {"match": match, "action": action, "times": times, "after": after, **told})

    def clear(self) -> None:
        """No more faults; what hangs is let go."""
        self._ask("/__clear", {})

    def configure(self, **changes: Any) -> None:
        """Change what it is (see `drive_emulator.state.DEFAULTS`), for good."""
        self._ask("/__configure", changes)

    def refuse_credentials(self, words: str | None = "Token has been expired or revoked.") -> None:
        """Answer every request for a token with invalid_grant, and void those that are out; None: no more."""
        generation = int(json.loads(self._file.read_text())["token_generation"]) + 1
        self.configure(invalid_grant=words, token_generation=generation)

    def expire_sessions(self) -> None:
        """Every upload session is gone, as after a week."""
        self._ask("/__expire", {})

    def corrupt(self, file_id: str) -> None:
        """Change a file's content behind everyone's back."""
        self._ask("/__corrupt", {"id": file_id})

    def state(self) -> dict[str, Any]:
        """`files` (their metadata, `sha256`, `path`), `sessions`, `requests` (counts by `"METHOD /path"`),
        `bytes_received` by uploads over all starts, `faults` (with `hits`).
        """
        return self._ask("/__state")

    def files(self, *, trashed: bool = False) -> list[dict[str, Any]]:
        """The files (no folders), oldest first."""
        found = [file for file in self.state()["files"] if file["trashed"] is trashed]
        return sorted(found, key=lambda file: float(file["made"]))

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far, over all starts: `time`, `method`, `path`, `range`, `status`, `bytes`, `upload`.

        A status of -1: it ended without a reply. Can be asked while the server is down.
        """
        journal = self.folder / "journal.jsonl"
        return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []

    def start(self, timeout: float = START_TIMEOUT) -> Self:
        """Start and wait until it answers."""
        super().start(timeout)
        self._told = json.loads(self._file.read_text())
        return self

    def _command(self) -> Sequence[str]:
        program = Path(__file__).with_name("drive_emulator")
        return [sys.executable, str(program), str(self.folder), str(self.port)]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"GET /__alive HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(64)

    def _ask(self, path: str, told: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if told is None else json.dumps(told).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data), timeout=30) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer


@functools.cache
def _key() -> tuple[str, str]:
    """(private, public) RSA key of the service account, PEM: one for a test run."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def wait_until(ready: Any, timeout: float = 30.0) -> None:
    """Wait until `ready()` is true; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)
