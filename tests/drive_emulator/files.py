"""about, generateIds, shared drives, files."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.drive_emulator.answering import BUFFER
from tests.drive_emulator.faults import MESSAGES, HangUpError
from tests.drive_emulator.selecting import searched, selected
from tests.drive_emulator.state import FOLDER, DriveError, not_found
from tests.drive_emulator.tokens import SCOPE, Tokens

ORDERS = {"createdTime": "made", "name": "name", "modifiedTime": "modifiedTime"}
"""What lists can be ordered by, and where it stands in a record."""


class Files(Tokens):
    """Everything but content on its way up, and permissions."""

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
        order, _, descending = self.query.get("orderBy", "createdTime desc").partition(" ")
        if order not in ORDERS:
            raise DriveError(400, "invalid", f"Invalid Value: {order}", location="orderBy")
        found.sort(key=lambda record: (record[ORDERS[order]], record["id"]), reverse=bool(descending))
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
