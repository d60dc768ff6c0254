"""A Google Drive for tests: the part of the Drive v3 protocol that copying videos needs, over HTTP.

`python drive_server_process.py FOLDER PORT`. Written from Google's published protocol: OAuth tokens,
about, generateIds, files, resumable uploads, permissions and shared drives, with Google's errors.
`tests/drive_server.py` starts it, and describes what tests can ask of it; `/__…` is not Drive's but ours.

A thread for each connection, blocking reads into one large buffer: a fast client is not held up.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from drive_server_state import FOLDER, GRANULE, DriveError, State, Upload, not_found

BUFFER = 2**20
SCOPE = "https://www.googleapis.com/auth/drive"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

MESSAGES = {
    "userRateLimitExceeded": ("usageLimits", "User Rate Limit Exceeded"),
    "rateLimitExceeded": ("usageLimits", "Rate Limit Exceeded"),
    "dailyLimitExceeded": ("usageLimits", "Daily Limit Exceeded"),
    "quotaExceeded": ("usageLimits", "The user has exceeded their upload quota."),
    "storageQuotaExceeded": ("global", "The user's Drive storage quota has been exceeded."),
    "insufficientFilePermissions": (
        "global",
        "The user does not have sufficient permissions for this file.",
    ),
    "accessNotConfigured": (
        "usageLimits",
        "Access Not Configured. The API (Google Drive API) is not enabled for your project.",
    ),
    "backendError": ("global", "Backend Error"),
    "internalError": ("global", "Internal Error"),
    "authError": ("global", "Invalid Credentials"),
    "notFound": ("global", "Not Found"),
}
"""Reason → (domain, message) of errors that tests inject."""

REASONS = {401: "authError", 403: "userRateLimitExceeded", 404: "notFound", 429: "rateLimitExceeded"}


class HangUpError(Exception):
    """Close the connection without a word."""


@dataclass
class Rule:
    """What shall go wrong, where, and how often."""

    match: re.Pattern[str]
    told: dict[str, Any]
    times: int
    after: int = 0
    """How many matching requests pass unharmed before."""
    hits: int = 0


@dataclass
class Faults:
    """The rules in force, in order."""

    rules: list[Rule] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def add(self, told: dict[str, Any]) -> None:
        """A rule from a test."""
        with self.lock:
            self.released = threading.Event()
            self.rules.append(
                Rule(re.compile(told.pop("match")), told, int(told.pop("times", 1)), int(told.pop("after", 0)))
            )

    def clear(self) -> None:
        """Forget them all, and let go what hangs."""
        with self.lock:
            self.rules.clear()
            self.released.set()

    def next(self, request: str) -> dict[str, Any]:
        """What shall go wrong with this request; empty: nothing."""
        with self.lock:
            for rule in self.rules:
                if not rule.match.search(request):
                    continue
                if rule.after > 0:
                    rule.after -= 1
                elif rule.times > 0:
                    rule.times -= 1
                    rule.hits += 1
                    return rule.told
        return {}


# ---------------------------------------------------------------- partial answers: `fields`


def selected(told: Any, fields: str | None) -> Any:
    """The part of an answer that `fields` names: `id,files(id,name),user/emailAddress`, `*` for all."""
    if not fields or fields == "*":
        return told
    wanted, rest = _fields(fields, 0)
    if rest != len(fields):
        raise DriveError(400, "invalidParameter", f"Invalid field selection {fields}", location="fields")
    return _pick(told, wanted)


def _fields(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(text):
        name = re.compile(r"\s*([\w*]+)\s*").match(text, at)
        if name is None:
            raise DriveError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")
        at, below = name.end(), None
        if text[at : at + 1] == "/":
            one = re.compile(r"[\w*/]+").match(text, at + 1)
            below, _ = _fields(one[0] if one else "", 0)
            at = one.end() if one else at + 1
        elif text[at : at + 1] == "(":
            below, at = _fields(text, at + 1)
            if text[at : at + 1] != ")":
                raise DriveError(400, "invalidParameter", f"Invalid field selection {text}", location="fields")
            at += 1
        found[name[1]] = (found.get(name[1]) or {}) | below if below else None
        if text[at : at + 1] != ",":
            break
        at += 1
    return found, at


def _pick(told: Any, wanted: dict[str, Any]) -> Any:
    if isinstance(told, list):
        return [_pick(one, wanted) for one in told]
    if not isinstance(told, dict) or "*" in wanted:
        return told
    return {key: _pick(value, wanted[key]) if wanted[key] else value for key, value in told.items() if key in wanted}


# ---------------------------------------------------------------- searches: `q`

TERM = re.compile(
    r"\s*(?:"
    r"'(?P<parent>(?:[^'\\]|\\.)*)'\s+in\s+parents"
    r"|trashed\s*(?P<unlike>!?)=\s*(?P<trashed>true|false)"
    r"|(?P<kind>appProperties|properties)\s+has\s*\{\s*key\s*=\s*'(?P<key>(?:[^'\\]|\\.)*)'"
    r"\s+and\s+value\s*=\s*'(?P<value>(?:[^'\\]|\\.)*)'\s*\}"
    r"|(?P<field>name|mimeType)\s*(?P<differs>!?)=\s*'(?P<text>(?:[^'\\]|\\.)*)'"
    r")\s*(?P<more>and\b|$)"
)


def searched(state: State, q: str) -> list[dict[str, Any]]:
    """The files that a search finds: terms joined by `and`. DriveError 400 for what is not understood."""
    terms, at = [], 0
    while at < len(q):
        term = TERM.match(q, at)
        if term is None:
            raise DriveError(400, "invalid", f"Invalid Value: {q[at:]}", location="q")
        terms.append({key: _plain(value) for key, value in term.groupdict().items() if value is not None})
        at = term.end()
        if (term["more"] == "and") == (at == len(q)):
            raise DriveError(400, "invalid", "Invalid Value", location="q")
    first = next((term for term in terms if term.get("kind") == "appProperties"), None)
    with state.lock:
        found = state.with_property(first["key"], first["value"]) if first else list(state.files.values())
    for term in terms:
        if "parent" in term and term["parent"] != "root":
            state.get(term["parent"])
    return [record for record in found if all(_fits(record, term) for term in terms)]


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _fits(record: dict[str, Any], term: dict[str, str]) -> bool:
    if "parent" in term:
        return term["parent"] in record["parents"]
    if "trashed" in term:
        return (record["trashed"] == (term["trashed"] == "true")) != (term["unlike"] == "!")
    if "kind" in term:
        return bool(record[term["kind"]].get(term["key"]) == term["value"])
    return (record[term["field"]] == term["text"]) != (term["differs"] == "!")


# ---------------------------------------------------------------- one connection


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: DriveHTTPServer

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 # the names that http.server looks for

    def log_message(self, *_: Any) -> None:
        """The journal says all."""

    # ------------------------------------------------------------ what all requests share

    def _answer(self) -> None:
        self.state, self.taken, self.status = self.server.state, 0, 0
        self.left = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        self.at = unquote(parts.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.at.startswith("/__"):
            self._admin()
            return
        self.fault = self.server.faults.next(f"{self.command} {self.path}")
        try:
            self._faulty()
        except HangUpError:
            self.status, self.close_connection = self.status or -1, True
        except (ConnectionError, TimeoutError):
            self.status, self.close_connection = -1, True
        finally:
            upload = self.query.get("upload_id")
            self.state.note(
                time=time.time(),
                method=self.command,
                path=self.at,
                range=self.headers.get("Content-Range"),
                status=self.status,
                bytes=self.taken,
                **({"upload": upload} if upload else {}),
            )

    def _faulty(self) -> None:
        """Do what was asked, or what a test wants to go wrong with it."""
        told, action = self.fault, self.fault.get("action")
        if action == "drop_before":
            self._drain()
            raise HangUpError
        if action == "hang":
            self._hang(float(told.get("seconds", 3600)))
            raise HangUpError
        if action == "slow":
            time.sleep(float(told.get("seconds", 1.0)))
        if action == "expire":
            self.state.expire(self.query.get("upload_id", ""))
        if action == "status":
            self._drain()
            status = int(told["status"])
            reason = told.get("reason") or REASONS.get(status, "backendError")
            domain, message = MESSAGES.get(reason, ("global", reason))
            error = DriveError(status, reason, told.get("message") or message, domain=domain)
            extra = {"Retry-After": str(told["retry_after"])} if "retry_after" in told else {}
            self._reply(status, error.body(), extra)
            return
        try:
            self._route()
        except DriveError as error:
            self._drain()
            extra = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'} if error.status == 401 else {}
            self._reply(error.status, error.body(), extra)

    def _hang(self, seconds: float) -> None:
        """Say nothing until the client goes away, the test lets go, or the time is up."""
        released = self.server.faults.released
        deadline = time.monotonic() + seconds
        self.connection.settimeout(0.05)
        while time.monotonic() < deadline and not released.is_set():
            try:
                if not self.connection.recv(65536):
                    return
            except TimeoutError:
                continue

    def _reply(self, status: int, told: Any = None, headers: dict[str, str] | None = None) -> None:
        self.status = status
        if self.fault.get("action") == "drop_after":
            raise HangUpError
        data = b"" if told is None else json.dumps(told).encode()
        self._head(status, len(data), {"Content-Type": "application/json; charset=UTF-8"} | (headers or {}))
        self.wfile.write(data)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        phrase = "Resume Incomplete" if status == 308 else HTTPStatus(status).phrase
        self.send_response(status, phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self) -> bytes:
        data = self.rfile.read(self.left)
        self.taken += len(data)
        self.left -= len(data)
        return data

    def _json(self) -> dict[str, Any]:
        try:
            told = json.loads(self._body() or b"{}")
        except ValueError as error:
            raise DriveError(400, "parseError", "Parse Error") from error
        if not isinstance(told, dict):
            raise DriveError(400, "parseError", "Parse Error")
        return told

    def _drain(self) -> None:
        """Read what the client is still sending: it listens only afterwards."""
        buffer = memoryview(bytearray(min(self.left, BUFFER)))
        while self.left and (count := self.rfile.readinto1(buffer[: min(self.left, len(buffer))])):
            self.left -= count
            self.taken += count

    # ------------------------------------------------------------ routes

    def _route(self) -> None:
        if (self.command, self.at) == ("POST", "/token"):
            self._token()
            return
        session = self.query.get("upload_id")
        # The address of a session is a secret of its own: Google wants no token with it.
        if not session or self.headers.get("Authorization"):
            self._authorise()
        if session and self.command == "PUT":
            self._chunk(self.state.find_upload(session))
            return
        for method, pattern, name in ROUTES:
            found = re.fullmatch(pattern, self.at)
            if found and method == self.command:
                getattr(self, name)(*found.groups())
                return
        raise DriveError(404, "notFound", "Not Found")

    def _flag(self, name: str) -> bool:
        return self.query.get(name, "false").lower() == "true"

    def _file(self, file_id: str) -> dict[str, Any]:
        """A file that this caller can see with these parameters."""
        record = self.state.get(file_id)
        if record["driveId"] and not (self._flag("supportsAllDrives") or self._flag("supportsTeamDrives")):
            raise not_found(file_id)
        if not self._may_see(record):
            raise not_found(file_id)
        return record

    def _may_see(self, record: dict[str, Any]) -> bool:
        return SCOPE in self.scopes or bool(record["by_app"])

    # ------------------------------------------------------------ tokens

    def _token(self) -> None:
        told, now = self.state.configuration, time.time()
        form = {key: values[-1] for key, values in parse_qs(self._body().decode()).items()}
        if told["invalid_grant"]:
            self._reply(400, {"error": "invalid_grant", "error_description": told["invalid_grant"]})
            return
        grant, scope = form.get("grant_type"), told["refresh_scope"]
        if grant == JWT_GRANT:
            claims = self._claims(form.get("assertion", ""))
            if claims is None or claims.get("iss") != told["client_email"]:
                self._reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
                return
            if not float(claims.get("iat", 0)) - 300 <= now < float(claims.get("exp", 0)):
                description = (
                    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
                )
                self._reply(400, {"error": "invalid_grant", "error_description": description})
                return
            if not claims.get("scope"):
                self._reply(400, {"error": "invalid_scope", "error_description": "Empty or missing scope not allowed."})
                return
            who, scope = told["client_email"], claims["scope"]
        elif grant == "refresh_token":
            if (form.get("client_id"), form.get("client_secret")) != (told["client_id"], told["client_secret"]):
                self._reply(401, {"error": "invalid_client", "error_description": "The OAuth client was not found."})
                return
            if form.get("refresh_token") != told["refresh_token"]:
                description = "Token has been expired or revoked."
                self._reply(400, {"error": "invalid_grant", "error_description": description})
                return
            who = told["user_email"]
        else:
            self._reply(400, {"error": "unsupported_grant_type", "error_description": f"Invalid grant_type: {grant}"})
            return
        lifetime = told["token_lifetime"]
        token = self._signed({"sub": who, "scope": scope, "exp": now + lifetime, "gen": told["token_generation"]})
        self._reply(200, {"access_token": token, "expires_in": int(lifetime), "token_type": "Bearer", "scope": scope})

    def _claims(self, assertion: str) -> dict[str, Any] | None:
        """What a JWT says, where the service account's key signed it."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding

        key: Any = serialization.load_pem_public_key(self.state.configuration["public_key"].encode())
        try:
            head, claims, signature = assertion.split(".")
            key.verify(_unpadded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
            told: dict[str, Any] = json.loads(_unpadded(claims))
        except (InvalidSignature, ValueError):
            return None
        return told

    def _signed(self, told: dict[str, Any]) -> str:
        text = base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
        return f"ya29.{text}.{self._mac(text)}"

    def _mac(self, text: str) -> str:
        return hmac.new(self.state.configuration["secret"].encode(), text.encode(), "sha256").hexdigest()[:32]

    def _authorise(self) -> None:
        """Who asks; DriveError 401."""
        kind, _, token = (self.headers.get("Authorization") or "").partition(" ")
        name, _, rest = token.partition(".")
        text, _, mac = rest.partition(".")
        invalid = DriveError(401, "authError", "Invalid Credentials", location="Authorization")
        if kind != "Bearer" or name != "ya29" or not hmac.compare_digest(mac, self._mac(text)):
            raise invalid
        told = json.loads(_unpadded(text))
        if told["exp"] <= time.time() or told["gen"] != self.state.configuration["token_generation"]:
            raise invalid
        self.caller: str = told["sub"]
        self.scopes: list[str] = told["scope"].split()
        if not any(scope.startswith(SCOPE) for scope in self.scopes):
            raise DriveError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")

    # ------------------------------------------------------------ about, ids, shared drives

    def _about(self) -> None:
        if "fields" not in self.query:
            raise DriveError(400, "required", "The 'fields' parameter is required for this method.", location="fields")
        limit = self._limit()
        usage = self.state.usage()
        quota = {"usage": str(usage), "usageInDrive": str(usage), "usageInDriveTrash": "0"}
        told = {
            "kind": "drive#about",
            "user": {
                "kind": "drive#user",
                "displayName": self.caller.split("@")[0],
                "me": True,
                "permissionId": "00000000000000000001",
                "emailAddress": self.caller,
            },
            "storageQuota": quota | ({} if limit is None else {"limit": str(limit)}),
            "canCreateDrives": True,
        }
        self._reply(200, selected(told, self.query["fields"]))

    def _limit(self) -> int | None:
        told = self.state.configuration
        limit: int | None = told["service_account_quota" if self.caller == told["client_email"] else "user_quota"]
        return limit

    def _generate_ids(self) -> None:
        count = int(self.query.get("count", "10"))
        if not 1 <= count <= 1000:
            raise DriveError(400, "invalidParameter", f"Invalid value '{count}'", location="count")
        ids = [self.state.new_id() for _ in range(count)]
        self._reply(200, selected({"kind": "drive#generatedIds", "space": "drive", "ids": ids}, self._fields()))

    def _fields(self) -> str | None:
        return self.query.get("fields")

    def _drive(self, drive_id: str) -> None:
        if drive_id != self.state.configuration["shared_drive_id"]:
            raise DriveError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        told = {
            "kind": "drive#drive",
            "id": drive_id,
            "name": "Films of the house",
            "capabilities": {"canAddChildren": True, "canEdit": True, "canListChildren": True, "canShare": True},
            "restrictions": {
                "domainUsersOnly": "anyone" in self.state.configuration["forbidden_audiences"],
                "driveMembersOnly": False,
            },
        }
        self._reply(200, selected(told, self._fields() or "kind,id,name"))

    # ------------------------------------------------------------ files

    def _resource(self, record: dict[str, Any], default: str = "kind,id,name,mimeType") -> Any:
        """A file as Drive shows it, as far as `fields` names it."""
        folder = record["mimeType"] == FOLDER
        writable = record["id"] not in self.state.configuration["readonly"]
        file_id = record["id"]
        view = "folders/{}" if folder else "file/d/{}/view?usp=drivesdk"
        told = {
            "kind": "drive#file",
            "webViewLink": ("https://drive.google.com/" + ("drive/" if folder else "") + view).format(file_id),
            "capabilities": {
                "canAddChildren": folder and writable,
                "canEdit": writable,
                "canDelete": writable,
                "canTrash": writable,
                "canShare": writable,
                "canDownload": True,
                "canListChildren": folder,
            },
            "shared": bool(record["permissions"]),
            "ownedByMe": record["owner"] == self.caller,
        }
        shown = ("id", "name", "mimeType", "description", "parents", "appProperties", "properties", "trashed")
        told |= {key: record[key] for key in (*shown, "createdTime", "modifiedTime")}
        if record["driveId"]:
            told["driveId"] = record["driveId"]
        else:
            told["owners"] = [{"kind": "drive#user", "emailAddress": record["owner"]}]
            told["permissions"] = record["permissions"]
        if not folder:
            told |= {"size": str(record["size"] or 0), "originalFilename": record["name"]}
            told["webContentLink"] = f"https://drive.google.com/uc?id={file_id}&export=download"
            if record["md5Checksum"] and not self._md5_is_late():
                told["md5Checksum"] = record["md5Checksum"]
        return selected(told, self._fields() or default)

    def _md5_is_late(self) -> bool:
        with self.state.lock:
            late: int = self.state.configuration["md5_missing"]
            if late > 0:
                self.state.configuration["md5_missing"] = late - 1
        return late > 0

    def _list(self) -> None:
        everywhere = self._flag("includeItemsFromAllDrives") or self._flag("includeTeamDriveItems")
        supports = self._flag("supportsAllDrives") or self._flag("supportsTeamDrives")
        corpora, drive = self.query.get("corpora", "user"), self.query.get("driveId")
        if everywhere and not supports:
            message = "The supportsAllDrives parameter must be true where includeItemsFromAllDrives is."
            raise DriveError(403, "teamDrivesNotSupported", message, location="supportsAllDrives")
        if (corpora == "drive") != (drive is not None):
            raise DriveError(400, "invalid", "corpora 'drive' and driveId go together", location="driveId")
        if corpora in {"drive", "allDrives"} and not everywhere:
            message = f"The value '{corpora}' of corpora needs includeItemsFromAllDrives."
            raise DriveError(403, "teamDrivesIncludeItemsRequired", message, location="includeItemsFromAllDrives")
        found = searched(self.state, self.query.get("q", ""))
        told = self.state.configuration
        found = [
            record
            for record in found
            if (everywhere or not record["driveId"])
            and (drive is None or record["driveId"] == drive)
            and record["made"] + told["list_lag"] <= time.time()
            and record["id"] not in told["hidden"]
            and self._may_see(record)
        ]
        found.sort(key=lambda record: (record["made"], record["id"]), reverse=True)
        try:
            start = int(self.query.get("pageToken") or 0)
        except ValueError as error:
            raise DriveError(400, "invalid", "Invalid Value", location="pageToken") from error
        size = min(int(self.query.get("pageSize", "100")), told["page_size"])
        fields, self.query["fields"] = self._fields(), "*"
        page = {
            "kind": "drive#fileList",
            "incompleteSearch": False,
            "files": [self._resource(record) for record in found[start : start + size]],
        }
        if start + size < len(found):
            page["nextPageToken"] = str(start + size)
        default = "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)"
        self._reply(200, selected(page, fields or default))

    def _get(self, file_id: str) -> None:
        record = self._file(file_id)
        if self.query.get("alt") == "media":
            self._download(record)
            return
        self._reply(200, self._resource(record))

    def _download(self, record: dict[str, Any]) -> None:
        if not record["content"]:
            message = "Only files with binary content can be downloaded."
            raise DriveError(403, "fileNotDownloadable", message)
        path, size = self.state.content(record), record["size"]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first, last = (int(asked[1]), int(asked[2] or size - 1)) if asked else (0, size - 1)
        last = min(last, size - 1)
        if asked and first >= size:
            self._reply(416, None, {"Content-Range": f"bytes */{size}"})
            return
        headers = {"Content-Type": record["mimeType"], "Accept-Ranges": "bytes"}
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.status = 206 if asked else 200
        self._head(self.status, last - first + 1, headers)
        with path.open("rb") as file:
            left = last - first + 1
            if self.fault.get("action") == "short":
                left //= 2
            file.seek(first)
            while left and (data := file.read(min(BUFFER, left))):
                self.wfile.write(data)
                left -= len(data)
        if self.fault.get("action") in {"short", "drop_after"}:
            raise HangUpError

    def _update(self, file_id: str) -> None:
        record, told = dict(self._file(file_id)), self._json()
        self._writable(file_id)
        for key in ("name", "mimeType", "description", "trashed"):
            if key in told:
                record[key] = told[key]
        for key in ("appProperties", "properties"):
            merged = record[key] | told.get(key, {})
            record[key] = {name: value for name, value in merged.items() if value is not None}
        for moved in filter(None, self.query.get("removeParents", "").split(",")):
            record["parents"] = [one for one in record["parents"] if one != moved]
        for moved in filter(None, self.query.get("addParents", "").split(",")):
            record["parents"] = [*record["parents"], self._file(moved)["id"]]
        self.state.save(record)
        self._reply(200, self._resource(record))

    def _writable(self, file_id: str) -> None:
        if file_id in self.state.configuration["readonly"]:
            domain, message = MESSAGES["insufficientFilePermissions"]
            raise DriveError(403, "insufficientFilePermissions", message, domain=domain)

    def _delete(self, file_id: str) -> None:
        self._file(file_id)
        self._writable(file_id)
        self.state.remove(file_id)
        self._reply(204)

    def _create(self) -> None:
        record = self._new(self._json(), 0)
        self.state.save(record)
        self._reply(200, self._resource(record))

    def _new(self, metadata: dict[str, Any], size: int) -> dict[str, Any]:
        """The record of a file to be; DriveError where Drive would not have it."""
        if (wished := metadata.get("id")) is not None:
            if wished in self.state.files:
                raise DriveError(409, "fileIdInUse", "A file already exists with the provided ID.")
            if not self.state.is_ours(wished):
                raise DriveError(400, "invalid", "The provided file ID is not usable.", location="file.id")
        if len(parents := metadata.get("parents") or ["root"]) > 1:
            message = "A shared drive item must have exactly one parent."
            raise DriveError(400, "cannotAddParent", message)
        if parents != ["root"]:
            self._file(parents[0])
            self._writable(parents[0])
        for key, value in metadata.get("appProperties", {}).items():
            if len(f"{key}{value}".encode()) > 124:
                raise DriveError(400, "propertyLimitExceeded", "The property is longer than 124 bytes.")
        record = self.state.make(metadata, owner=self.caller)
        told = self.state.configuration
        limit, used = (told["shared_drive_quota"], 0) if record["driveId"] else (self._limit(), self.state.usage())
        if limit is not None and used + size > limit and record["mimeType"] != FOLDER:
            domain, message = MESSAGES["storageQuotaExceeded"]
            if self.caller == told["client_email"] and not record["driveId"]:
                message = (
                    "Service Accounts do not have storage quota. Leverage shared drives"
                    " (https://developers.google.com/workspace/drive/api/guides/about-shareddrives), "
                    "or use OAuth delegation instead."
                )
            raise DriveError(403, "storageQuotaExceeded", message, domain=domain)
        return record

    # ------------------------------------------------------------ resumable uploads

    def _open(self, file_id: str | None = None) -> None:
        if self.query.get("uploadType") != "resumable":
            raise DriveError(400, "badRequest", "This emulator knows uploadType=resumable only.", location="uploadType")
        metadata = self._json()
        declared = self.headers.get("X-Upload-Content-Length")
        size = None if declared is None else int(declared)
        if (kind := self.headers.get("X-Upload-Content-Type")) and "mimeType" not in metadata:
            metadata["mimeType"] = kind
        record = dict(self._file(file_id)) | metadata if file_id else self._new(metadata, size or 0)
        upload = self.state.open_upload(record, size, replaces=file_id is not None)
        query = "&".join(f"{key}={value}" for key, value in self.query.items() if key != "upload_id")
        address = f"http://{self.headers['Host']}{self.at}?{query}&upload_id={upload.id}"
        self._reply(200, None, {"Location": address, "X-GUploader-UploadID": upload.id})

    def _chunk(self, upload: Upload) -> None:
        """A PUT to a session's address: bytes, or a question how many there are."""
        if not upload.lock.acquire(timeout=10.0):
            raise DriveError(503, "backendError", "Another request of this session is still running.")
        try:
            self._take(upload)
        finally:
            upload.lock.release()

    def _take(self, upload: Upload) -> None:
        if (record := self.state.finished(upload)) is not None:
            self._drain()
            self._finished(record)
            return
        received = self.state.received(upload)
        stated = self.headers.get("Content-Range")
        asked = re.fullmatch(r"bytes \*/(\d+|\*)", stated or "")
        if asked and asked[1] != "0":
            self._drain()
            self._incomplete(received)
            return
        if stated is None or asked:
            start, end, total = 0, self.left, self.left
        else:
            start, end, total = self._stated_range(stated, upload, received)
        if self.fault.get("action") == "drop_middle":
            end, total = start + (end - start) // 2, -1
        if self.fault.get("action") == "short":
            kept = int((end - start) * float(self.fault.get("fraction", 0.5)))
            end, total = start + kept - kept % GRANULE, -1
        self._receive(upload, start, end - start)
        if self.fault.get("action") == "drop_middle":
            raise HangUpError
        if end == total:
            self._finished(self.state.finish(upload, total))
        else:
            self._drain()
            self._incomplete(self.state.received(upload))

    def _stated_range(self, stated: str, upload: Upload, received: int) -> tuple[int, int, int]:
        """(first byte, the byte after the last, size or -1) of a chunk; DriveError 400 where it does not fit."""
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", stated)
        if found is None:
            raise DriveError(400, "badRequest", "Failed to parse Content-Range header.")
        start, end = int(found[1]), int(found[2]) + 1
        total = -1 if found[3] == "*" else int(found[3])
        if end - start != self.left:
            raise DriveError(400, "badRequest", "The Content-Length does not match the Content-Range.")
        if start != received:
            message = f"Invalid request. The session has {received} bytes; the chunk begins at {start}."
            raise DriveError(400, "badRequest", message)
        if total >= 0 and (end > total or (upload.size is not None and total != upload.size)):
            raise DriveError(400, "badRequest", "Invalid request. The size differs from the one that was declared.")
        if end != total and self.left % GRANULE:
            message = f"Invalid request. There were {self.left} bytes; chunks are multiples of {GRANULE}."
            raise DriveError(400, "badRequest", message)
        return start, end, total

    def _receive(self, upload: Upload, start: int, length: int) -> None:
        """Write so many bytes of the body at `start`; what came before a broken connection stays."""
        md5 = self.state.md5_so_far(upload, start)
        buffer = memoryview(bytearray(min(max(length, 1), BUFFER)))
        out = os.open(self.state.upload_path(upload), os.O_WRONLY)
        try:
            os.ftruncate(out, start)
            os.lseek(out, start, os.SEEK_SET)
            pause = float(self.fault["seconds_per_mib"]) if "seconds_per_mib" in self.fault else 0.0
            while length:
                count = self.rfile.readinto1(buffer[: min(length, len(buffer))])
                if not count:
                    raise HangUpError
                if self.fault.get("action") == "corrupt" and start == upload.hashed:
                    buffer[0] ^= 0xFF
                written = 0
                while written < count:
                    written += os.write(out, buffer[written:count])
                md5.update(buffer[:count])
                upload.hashed += count
                self.taken += count
                self.left -= count
                length -= count
                if pause:
                    time.sleep(pause * count / 2**20)
        finally:
            os.close(out)

    def _incomplete(self, received: int) -> None:
        self._reply(308, None, {"Range": f"bytes=0-{received - 1}"} if received else {})

    def _finished(self, record: dict[str, Any]) -> None:
        self.caller = getattr(self, "caller", record["owner"])
        self._reply(200, self._resource(record))

    # ------------------------------------------------------------ permissions

    def _share(self, file_id: str) -> None:
        record, told = dict(self._file(file_id)), self._json()
        kind, role = told.get("type"), told.get("role")
        if kind not in {"anyone", "domain", "user", "group"}:
            raise DriveError(400, "invalid", "The permission type field is required.", location="permission.type")
        if role not in {"reader", "commenter", "writer", "owner", "organizer", "fileOrganizer"}:
            raise DriveError(400, "invalid", "The permission role field is required.", location="permission.role")
        if (kind == "domain" and not told.get("domain")) or (
            kind in {"user", "group"} and not told.get("emailAddress")
        ):
            raise DriveError(400, "invalid", f"A permission of type {kind} names its {kind}.", location="permission")
        if kind in self.state.configuration["forbidden_audiences"]:
            message = "The organisation's policy does not allow sharing this item outside of it."
            raise DriveError(403, "publishOutNotPermitted", message)
        whom = told.get("domain") or told.get("emailAddress")
        permission = {
            "kind": "drive#permission",
            "id": "anyoneWithLink" if kind == "anyone" else str(abs(hash_of(f"{kind}/{whom}"))),
            "type": kind,
            "role": role,
            "allowFileDiscovery": bool(told.get("allowFileDiscovery", False)),
        } | {key: told[key] for key in ("domain", "emailAddress") if key in told}
        others = [one for one in record["permissions"] if one["id"] != permission["id"]]
        self.state.save(record | {"permissions": [*others, permission]})
        self._reply(200, selected(permission, self._fields() or "kind,id,type,role"))

    def _permissions(self, file_id: str) -> None:
        found = self._file(file_id)["permissions"]
        told = {"kind": "drive#permissionList", "permissions": found}
        self._reply(200, selected(told, self._fields() or "kind,nextPageToken,permissions(kind,id,type,role)"))

    def _unshare(self, file_id: str, permission_id: str) -> None:
        record = dict(self._file(file_id))
        kept = [one for one in record["permissions"] if one["id"] != permission_id]
        if len(kept) == len(record["permissions"]):
            raise DriveError(404, "notFound", f"Permission not found: {permission_id}.", location="permissionId")
        self.state.save(record | {"permissions": kept})
        self._reply(204)

    # ------------------------------------------------------------ what tests ask

    def _admin(self) -> None:
        told, self.fault = self._json(), {}
        match self.at:
            case "/__inject":
                self.server.faults.add(told)
            case "/__clear":
                self.server.faults.clear()
            case "/__configure":
                self.state.configure(told)
            case "/__corrupt":
                self.state.corrupt(told["id"])
            case "/__expire":
                for upload in list(self.state.uploads):
                    self.state.expire(upload)
            case "/__state":
                self._reply(200, self._everything())
                return
            case "/__alive":
                pass
            case _:
                self._reply(404, {"error": self.at})
                return
        self._reply(200, {})

    def _everything(self) -> dict[str, Any]:
        state, counts = self.state, dict[str, int]()
        journal = state.journal()
        for one in journal:
            key = one["method"] + " " + re.sub(r"/1[\w-]{32}", "/{id}", one["path"])
            counts[key] = counts.get(key, 0) + 1
        with state.lock:
            uploads = [(one, state.finished(one) is not None) for one in state.uploads.values()]
            return {
                "files": [
                    record | {"sha256": state.sha256(record), "path": str(state.content(record))}
                    for record in state.files.values()
                    if record["content"]
                ],
                "sessions": [
                    {
                        "id": one.id,
                        "file_id": one.metadata["id"],
                        "size": one.size,
                        "received": one.size if done else state.received(one),
                        "finished": done,
                    }
                    for one, done in uploads
                ],
                "requests": counts,
                "bytes_received": sum(one["bytes"] for one in journal if one["path"].startswith(("/upload", "/resum"))),
                "faults": [
                    {"match": r.match.pattern, "left": r.times, "hits": r.hits} for r in self.server.faults.rules
                ],
            }


def hash_of(text: str) -> int:
    """The same at every start."""
    return int.from_bytes(hmac.new(b"permission", text.encode(), "sha256").digest()[:8])


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


ROUTES = (
    ("GET", "/drive/v3/about", "_about"),
    ("GET", "/drive/v3/files/generateIds", "_generate_ids"),
    ("GET", "/drive/v3/files", "_list"),
    ("POST", "/drive/v3/files", "_create"),
    ("GET", "/drive/v3/files/([^/]+)", "_get"),
    ("PATCH", "/drive/v3/files/([^/]+)", "_update"),
    ("DELETE", "/drive/v3/files/([^/]+)", "_delete"),
    ("POST", "/drive/v3/files/([^/]+)/permissions", "_share"),
    ("GET", "/drive/v3/files/([^/]+)/permissions", "_permissions"),
    ("DELETE", "/drive/v3/files/([^/]+)/permissions/([^/]+)", "_unshare"),
    ("GET", "/drive/v3/drives/([^/]+)", "_drive"),
    ("POST", "(?:/resumable)?/upload/drive/v3/files", "_open"),
    ("PATCH", "(?:/resumable)?/upload/drive/v3/files/([^/]+)", "_open"),
)


class DriveHTTPServer(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.state, self.faults = State(folder), Faults()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until SIGTERM."""
    server = DriveHTTPServer(Path(sys.argv[1]), int(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
