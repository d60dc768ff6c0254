"""Resumable uploads: sessions, chunks, the question how much is there."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from tests.drive_emulator.answering import BUFFER
from tests.drive_emulator.faults import HangUpError
from tests.drive_emulator.files import Files
from tests.drive_emulator.state import GRANULE, DriveError, Upload


class Uploads(Files):
    """Content on its way up."""

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
