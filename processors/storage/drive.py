"""Google Drive (v3) behind `processors.ports.Drive`, driven by Google's own client library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest, MediaUpload
from googleapiclient.model import JsonModel

from processors.ports import Drive, DriveFile, DriveFileExistsError, DriveSessionExpiredError, Finding
from processors.storage.drive_client import Client
from processors.storage.drive_diagnosis import diagnose
from processors.storage.drive_failures import PassingError, RefusedError, refusal
from streams.errors import TransientError
from streams.settings import Settings

FIELDS = "id,name,size,md5Checksum,trashed"


@asynccontextmanager
async def open_drive(settings: Settings) -> AsyncIterator[Drive]:
    """Drive as the settings name it. Never fails: what is missing or wrong is said by each method."""
    client = Client(settings)
    try:
        yield GoogleDrive(client, settings.drive_share)
    finally:
        await client.close()


class GoogleDrive:
    """See `processors.ports.Drive`. `audience`: whom files will be shared with."""

    def __init__(self, client: Client, audience: str) -> None:
        self._client, self._audience = client, audience
        self.folder_id = client.folder_id
        self._shared_drive: str | None = None
        """The shared drive that the folder lies in; empty for none, None while unknown."""

    # ------------------------------------------------------------ files

    async def new_file_id(self) -> str:
        """An id that the next file may be created with."""

        def ask(http: Any) -> str:
            told = self._client.files.generateIds(count=1, space="drive", type="files").execute(http=http)
            return str(told["ids"][0])

        return await self._client.ask(ask, "account")

    async def find(self, video: str, revision: int) -> DriveFile | None:
        """The file in our folder that carries this video and revision in its appProperties; a whole one first."""
        asked = " and ".join(
            (
                f"appProperties has {{ key='video' and value='{_quoted(video)}' }}",
                f"appProperties has {{ key='revision' and value='{revision}' }}",
                f"'{_quoted(self.folder_id)}' in parents",
                "trashed = false",
            )
        )

        def ask(http: Any) -> DriveFile | None:
            where = self._where(http)
            told = self._client.files.list(
                q=asked,
                fields=f"files({FIELDS})",
                orderBy="createdTime",
                pageSize=100,
                supportsAllDrives=True,
                includeItemsFromAllDrives=True,
                **where,
            ).execute(http=http)
            found = [_file(one) for one in told.get("files", ())]
            return next((one for one in found if one.md5), found[0] if found else None)

        return await self._client.ask(ask, "folder")

    async def get(self, file_id: str) -> DriveFile | None:
        """A file by its id; None where there is none."""

        def ask(http: Any) -> DriveFile | None:
            try:
                return _file(
                    self._client.files.get(fileId=file_id, fields=FIELDS, supportsAllDrives=True).execute(http=http)
                )
            except HttpError as error:
                if error.resp.status == 404:
                    return None
                raise

        return await self._client.ask(ask, "file")

    async def share(self, file_id: str, audience: str) -> None:
        """Let `anyone` with the link, or a domain, read it. Harmless to repeat."""
        body: dict[str, Any] = {"role": "reader", "allowFileDiscovery": False, "type": "anyone"}
        if audience != "anyone":
            body |= {"type": "domain", "domain": audience}

        def ask(http: Any) -> None:
            self._client.service.permissions().create(
                fileId=file_id, body=body, supportsAllDrives=True, fields="id"
            ).execute(http=http)

        await self._client.ask(ask, "file")

    async def download(self, file_id: str, offset: int, length: int) -> bytes:
        """Bytes of a file; fewer at its end."""

        def ask(http: Any) -> bytes:
            request = self._client.files.get_media(fileId=file_id, supportsAllDrives=True)
            headers = {**request.headers, "range": f"bytes={offset}-{offset + length - 1}"}
            response, content = http.request(request.uri, headers=headers)
            if response.status == 416:
                return b""
            if response.status not in {200, 206}:
                raise RefusedError(refusal(response, content))
            # Whoever takes no notice of ranges sends it all.
            return bytes(content if response.status == 206 else content[offset : offset + length])

        return await self._client.ask(ask, "file") if length else b""

    async def delete(self, file_id: str) -> None:
        """Remove a file for good, or, where that is not allowed (some shared drives), put it into the trash."""

        def ask(http: Any) -> None:
            try:
                self._client.files.delete(fileId=file_id, supportsAllDrives=True).execute(http=http)
            except HttpError as error:
                if error.resp.status == 404:
                    return
                if refusal(error.resp, error.content).reason != "insufficientFilePermissions":
                    raise
                self._client.files.update(
                    fileId=file_id, body={"trashed": True}, supportsAllDrives=True, fields="id"
                ).execute(http=http)

        await self._client.ask(ask, "file")

    # ------------------------------------------------------------ uploads

    async def open_session(self, file_id: str, name: str, mime: str, size: int, properties: Mapping[str, str]) -> str:
        """Begin a resumable upload into our folder; the session's URI. Raises DriveFileExistsError.

        Also where the id cannot be used (it was given to another account): take another.
        """
        body = {
            "id": file_id,
            "name": name,
            "mimeType": mime,
            "parents": [self.folder_id],
            "appProperties": dict(properties),
        }

        def ask(http: Any) -> str:
            request = self._client.files.create(
                body=body, media_body=_Piece(b"", 0, size, mime), fields=FIELDS, supportsAllDrives=True
            )
            headers = {
                **request.headers,
                "x-upload-content-type": mime,
                "x-upload-content-length": str(size),
                "content-length": str(request.body_size),
            }
            response, content = http.request(request.uri, method=request.method, body=request.body, headers=headers)
            if response.status == 200 and response.get("location"):
                return str(response["location"])
            told = refusal(response, content)
            if told.status == 409 or (told.status == 400 and " ID " in f" {told.message} "):
                raise DriveFileExistsError(file_id)
            raise RefusedError(told)

        return await self._client.ask(ask, "upload")

    async def received(self, uri: str, size: int) -> int | DriveFile:
        """How many bytes a session has, or the file, where it has them all. Raises DriveSessionExpiredError."""
        return await self._client.ask(lambda http: self._received(http, uri, size), "upload")

    async def send(self, uri: str, data: bytes, offset: int, size: int) -> int | DriveFile:
        """Send the bytes at `offset`; how many the session has now, or the file. Raises DriveSessionExpiredError.

        Drive may have kept only some of them, and may even have fewer than before.
        """
        doubtful = False

        def ask(http: Any) -> int | DriveFile:
            nonlocal doubtful
            if doubtful:  # some may have arrived before it broke off
                known = self._received(http, uri, size)
                if known != offset:
                    return known
            doubtful = True
            request = HttpRequest(http, _read, uri, resumable=_Piece(data, offset, size))
            request.resumable_uri, request.resumable_progress = uri, offset
            try:
                _, told = request.next_chunk()
            except HttpError as error:
                raise _session_failure(error.resp, error.content) from None
            return request.resumable_progress if told is None else _file(told)

        self._ours(uri)
        return await self._client.ask(ask, "upload")

    def _received(self, http: Any, uri: str, size: int) -> int | DriveFile:
        self._ours(uri)
        headers = {"content-range": f"bytes */{size}", "content-length": "0"}
        response, content = http.request(uri, method="PUT", headers=headers)
        if response.status in {200, 201}:
            return _file(_read(response, content))
        if response.status != 308:
            raise _session_failure(response, content)
        return int(response["range"].rpartition("-")[2]) + 1 if "range" in response else 0

    def _ours(self, uri: str) -> None:
        """Our token goes with the request: only to where it belongs. Raises DriveSessionExpiredError."""
        asked, ours = urlsplit(uri), urlsplit(self._client.root)
        google = asked.scheme == "https" and (asked.hostname or "").endswith(".googleapis.com")
        if not google and (asked.scheme, asked.netloc) != (ours.scheme, ours.netloc):
            raise DriveSessionExpiredError("the session is of another server")

    # ------------------------------------------------------------ for a person

    async def diagnose(self) -> list[Finding]:
        """Look at everything on the way to a copy in Drive; nothing is raised."""
        return await diagnose(self._client, self._audience)

    def _where(self, http: Any) -> dict[str, str]:
        """Where a search has to look: in the folder's shared drive, or in what is the user's."""
        if self._shared_drive is None:
            told = self._client.files.get(fileId=self.folder_id, fields="id,driveId", supportsAllDrives=True).execute(
                http=http
            )
            self._shared_drive = str(told.get("driveId", ""))
        return {"corpora": "drive", "driveId": self._shared_drive} if self._shared_drive else {"corpora": "user"}


class _Piece(MediaUpload):  # type: ignore[misc]
    """A chunk in memory, as the library wants to see what it sends."""

    def __init__(self, data: bytes, offset: int, size: int, mime: str = "application/octet-stream") -> None:
        self._data, self._offset, self._size, self._mime = data, offset, size, mime

    def chunksize(self) -> int:
        return len(self._data)

    def mimetype(self) -> str:
        return self._mime

    def size(self) -> int:
        return self._size

    def resumable(self) -> bool:
        return True

    def getbytes(self, begin: int, length: int) -> memoryview:
        return memoryview(self._data)[begin - self._offset :][:length]


_read = JsonModel(data_wrapper=False).response


def _session_failure(response: Any, content: bytes) -> Exception:
    if response.status in {404, 410}:
        return DriveSessionExpiredError("the upload session is gone")
    if response.status == 409:  # another session made the file meanwhile: whoever opens one more is told so
        return DriveSessionExpiredError("the session is of no use any more")
    told = refusal(response, content)
    if told.status in {400, 416}:  # it expects other bytes: ask which
        return PassingError(TransientError(f"Drive does not take these bytes: {told}"), wait=0.0)
    return RefusedError(told)


def _file(told: Mapping[str, Any]) -> DriveFile:
    return DriveFile(
        id=str(told["id"]),
        name=str(told.get("name", "")),
        size=int(told.get("size", 0)),
        md5=told.get("md5Checksum"),
        trashed=bool(told.get("trashed", False)),
        link=f"https://drive.google.com/file/d/{told['id']}/view",
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
