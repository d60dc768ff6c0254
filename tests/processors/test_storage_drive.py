"""Google Drive behind its port, through Google's client library, against a server that keeps Google's protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from processors.ports import Drive, DriveFile, DriveFileExistsError, DriveSessionExpiredError
from processors.storage import drive_account, drive_client
from processors.storage.drive import open_drive
from streams.errors import DependencyDownError, TransientError
from streams.settings import Settings
from tests.drive_server import DriveServer, Kind
from tests.processors.drive_world import CHUNK, bytes_sent, content

FILM = content(3 * CHUNK + 1000)
VIDEO = {"video": "0b7f5c1e-7a52-4f2b-9c52-55b0d3a7a001", "revision": "1"}

MakeSettings = Callable[..., Settings]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between tries."""
    monkeypatch.setattr(drive_client, "FIRST_PAUSE", 0.005)


def of(server: DriveServer, make_settings: MakeSettings, kind: Kind = "service_account", **overrides: Any) -> Settings:
    """Settings for the folder in the shared drive; for a user, that in My Drive."""
    folder = server.shared_drive_folder_id if kind == "service_account" else server.folder_id
    told = {
        "drive_folder_id": folder,
        "drive_credentials": server.credentials(server.folder / f"{kind}.json", kind),
        "drive_endpoint": server.url,
        "drive_timeout": 20.0,
    }
    return make_settings(**{**told, **overrides})


@pytest.fixture
async def drive(drive_server: DriveServer, make_settings: MakeSettings) -> AsyncIterator[Drive]:
    """Drive, as a service account in a shared drive."""
    async with open_drive(of(drive_server, make_settings)) as opened:
        yield opened


async def opened(drive: Drive, data: bytes = FILM) -> tuple[str, str]:
    """A file id and an upload session for it."""
    file_id = await drive.new_file_id()
    return file_id, await drive.open_session(file_id, "film.mp4", "video/mp4", len(data), VIDEO)


async def send_all(drive: Drive, uri: str, data: bytes = FILM, offset: int = 0) -> DriveFile:
    """Send what is missing, in chunks; whatever Drive keeps of each."""
    while True:
        answer = await drive.send(uri, data[offset : offset + CHUNK], offset, len(data))
        if isinstance(answer, DriveFile):
            return answer
        assert answer > offset
        offset = answer


def only(server: DriveServer, data: bytes = FILM) -> dict[str, Any]:
    """The one file there is, with these bytes."""
    [file] = server.files()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    return file


# ---------------------------------------------------------------- what works


@pytest.mark.parametrize("kind", ["service_account", "authorized_user", "token"])
async def test_each_kind_of_credentials_uploads(
    drive_server: DriveServer, make_settings: MakeSettings, kind: Kind
) -> None:
    """In chunks, under the id that was asked for, into the folder; tokens come from the file's own token_uri."""
    settings = of(drive_server, make_settings, kind)
    async with open_drive(settings) as drive:
        file_id, uri = await opened(drive)
        assert await drive.send(uri, FILM[:CHUNK], 0, len(FILM)) == CHUNK
        assert await drive.received(uri, len(FILM)) == CHUNK
        file = await send_all(drive, uri, offset=CHUNK)
        md5 = hashlib.md5(FILM).hexdigest()
        link = f"https://drive.google.com/file/d/{file_id}/view"
        assert file == DriveFile(file_id, "film.mp4", len(FILM), md5, trashed=False, link=link)
        assert await drive.received(uri, len(FILM)) == file
    told = only(drive_server)
    assert (told["id"], told["parents"], told["mimeType"]) == (file_id, [settings.drive_folder_id], "video/mp4")
    assert told["appProperties"] == VIDEO


async def test_files_are_found_read_shared_and_removed(drive: Drive, drive_server: DriveServer) -> None:
    """By id, and by video and revision."""
    file_id, uri = await opened(drive)
    assert await drive.find(VIDEO["video"], 1) is None
    assert await drive.get(file_id) is None
    file = await send_all(drive, uri)
    assert await drive.get(file_id) == await drive.find(VIDEO["video"], 1) == file
    assert await drive.find(VIDEO["video"], 2) is None
    assert await drive.find("it's \\ another", 1) is None
    assert await drive.download(file_id, 0, 10) == FILM[:10]
    assert await drive.download(file_id, CHUNK, CHUNK) == FILM[CHUNK : 2 * CHUNK]
    assert await drive.download(file_id, len(FILM) - 5, 100) == FILM[-5:]
    assert await drive.download(file_id, len(FILM), 100) == await drive.download(file_id, 0, 0) == b""
    for _ in range(2):
        await drive.share(file_id, "anyone")
        await drive.share(file_id, "example.com")
    permissions = [(one["type"], one["role"], one.get("domain")) for one in drive_server.files()[0]["permissions"]]
    assert sorted(permissions[-2:]) == [("anyone", "reader", None), ("domain", "reader", "example.com")]
    await drive.delete(file_id)
    await drive.delete(file_id)
    assert await drive.get(file_id) is None
    assert await drive.find(VIDEO["video"], 1) is None


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 1])
async def test_any_size_arrives(drive: Drive, drive_server: DriveServer, size: int) -> None:
    """Also nothing at all, and chunks that are just full."""
    data = content(size)
    _, uri = await opened(drive, data)
    file = await send_all(drive, uri, data)
    assert (file.size, file.md5) == (size, hashlib.md5(data).hexdigest())
    only(drive_server, data)


async def test_a_file_of_my_drive_is_found(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """Where there is no shared drive; the folder may be given by its whole address."""
    address = f"https://drive.google.com/drive/folders/{drive_server.folder_id}?usp=sharing"
    async with open_drive(of(drive_server, make_settings, "token", drive_folder_id=address)) as drive:
        assert drive.folder_id == drive_server.folder_id
        file_id, uri = await opened(drive)
        await send_all(drive, uri)
        found = await drive.find(VIDEO["video"], 1)
        assert found is not None
        assert found.id == file_id


async def test_many_calls_at_once_share_one_token(drive: Drive, drive_server: DriveServer) -> None:
    """Each thread has its own connection, all of them one token."""
    ids = await asyncio.gather(*(drive.new_file_id() for _ in range(30)))
    assert len(set(ids)) == 30
    assert sum(one["path"].startswith("/token") for one in drive_server.requests()) == 1


async def test_a_token_that_became_void_is_replaced(drive: Drive, drive_server: DriveServer) -> None:
    """Without anyone noticing."""
    _, uri = await opened(drive)
    drive_server.configure(token_generation=2)
    await send_all(drive, uri)
    only(drive_server)


async def test_a_steady_upload_may_take_longer_than_the_timeout(
    drive_server: DriveServer, make_settings: MakeSettings
) -> None:
    """The timeout is for what does not move."""
    data = content(18 * 2**20)
    async with open_drive(of(drive_server, make_settings, drive_timeout=2.7)) as drive:
        _, uri = await opened(drive, data)
        drive_server.inject("^PUT /upload", "slow", seconds=0.0, seconds_per_mib=0.18)
        began = time.monotonic()
        answer = await drive.send(uri, data, 0, len(data))
        assert isinstance(answer, DriveFile)
        assert time.monotonic() - began > 2.7
    only(drive_server, data)


# ---------------------------------------------------------------- faults that pass


PASSING: list[tuple[str, dict[str, Any]]] = [
    ("status", {"status": 403, "reason": "userRateLimitExceeded"}),
    ("status", {"status": 403, "reason": "rateLimitExceeded"}),
    ("status", {"status": 429}),
    ("status", {"status": 500}),
    ("status", {"status": 503, "retry_after": 0}),
    ("drop_before", {}),
    ("drop_after", {}),
    ("drop_middle", {}),
    ("short", {}),
    ("short", {"fraction": 0.0}),
]


@pytest.mark.parametrize(("action", "told"), PASSING, ids=str)
async def test_a_chunk_is_sent_through_what_passes(
    drive: Drive, drive_server: DriveServer, action: str, told: dict[str, Any]
) -> None:
    """Drive is asked what it has, and only the rest is sent: nothing twice, nothing missing."""
    data = content(4 * CHUNK)
    _, uri = await opened(drive, data)
    drive_server.inject("^PUT /upload", action, times=2, after=1, **told)
    offset: int | DriveFile = 0
    tries = 0
    while not isinstance(offset, DriveFile):
        tries += 1
        assert tries < 10
        offset = await drive.send(uri, data[offset : offset + 2 * CHUNK], offset, len(data))
    only(drive_server, data)
    assert bytes_sent(drive_server) <= len(data) + 4 * CHUNK


@pytest.mark.parametrize(("action", "told"), [PASSING[0], PASSING[3], PASSING[6]], ids=str)
async def test_other_requests_get_through_what_passes(
    drive: Drive, drive_server: DriveServer, action: str, told: dict[str, Any]
) -> None:
    """All of them, twice in a row."""
    drive_server.inject("generateIds|uploadType=resumable$|permissions|[?&]q=|DELETE", action, times=2, **told)
    _, uri = await opened(drive)
    drive_server.clear()
    file = await send_all(drive, uri)
    for match in ("^GET .*[?&]q=", "^GET /drive/v3/files/", "^POST .*permissions", "^DELETE"):
        drive_server.inject(match, action, times=2, **told)
    found = await drive.find(VIDEO["video"], 1)
    assert found == await drive.get(file.id) == file
    await drive.share(file.id, "anyone")
    assert await drive.download(file.id, 0, len(FILM)) == FILM
    await drive.delete(file.id)
    assert not drive_server.files()


async def test_a_lost_reply_to_the_last_chunk(drive: Drive, drive_server: DriveServer) -> None:
    """The file is there: the session says so, and its id cannot be used twice."""
    file_id, uri = await opened(drive)
    drive_server.inject(r"^PUT /upload", "drop_after", after=3)
    file = await send_all(drive, uri)
    assert file.id == file_id
    with pytest.raises(DriveFileExistsError):
        await drive.open_session(file_id, "film.mp4", "video/mp4", len(FILM), VIDEO)
    only(drive_server)


async def test_an_expired_session_is_told(drive: Drive, drive_server: DriveServer) -> None:
    """Whether one asks or sends; the same id then goes with another."""
    file_id, uri = await opened(drive)
    await drive.send(uri, FILM[:CHUNK], 0, len(FILM))
    drive_server.expire_sessions()
    with pytest.raises(DriveSessionExpiredError):
        await drive.received(uri, len(FILM))
    with pytest.raises(DriveSessionExpiredError):
        await drive.send(uri, FILM[CHUNK:], CHUNK, len(FILM))
    again = await drive.open_session(file_id, "film.mp4", "video/mp4", len(FILM), VIDEO)
    assert (await send_all(drive, again)).id == file_id


async def test_a_session_of_another_server_gets_no_token(drive: Drive, drive_server: DriveServer) -> None:
    """It counts as expired, before anything is sent."""
    before = len(drive_server.requests())
    elsewhere = f"http://localhost:{drive_server.port}/upload/drive/v3/files?upload_id=x"
    for call in (drive.received(elsewhere, 5), drive.send(elsewhere, b"12345", 0, 5)):
        with pytest.raises(DriveSessionExpiredError):
            await call
    assert len(drive_server.requests()) == before


async def test_an_id_of_another_account_is_not_used(drive: Drive) -> None:
    """As after the credentials were changed."""
    with pytest.raises(DriveFileExistsError):
        await drive.open_session("1" + "x" * 32, "film.mp4", "video/mp4", 5, VIDEO)


# ---------------------------------------------------------------- faults that stay


async def test_a_rate_limit_that_stays_is_this_uploads_failure(drive: Drive, drive_server: DriveServer) -> None:
    """After five tries, where others are served meanwhile."""
    await drive.new_file_id()
    drive_server.inject(r"GET /drive/v3/files\?", status=403, reason="rateLimitExceeded", times=50)
    with pytest.raises(TransientError, match="rateLimitExceeded") as caught:
        await drive.find("a video", 1)
    assert caught.value.retry_after is not None
    assert 10 <= caught.value.retry_after <= 30
    assert drive_server.state()["faults"][0]["hits"] == 5
    drive_server.clear()
    drive_server.inject(r"GET /drive/v3/files\?", status=429, retry_after=3600, times=50)
    with pytest.raises(TransientError) as caught:
        await drive.find("a video", 1)
    assert caught.value.retry_after == 3600
    assert drive_server.state()["faults"][0]["hits"] == 1, "whoever is told to come back in an hour does not ask on"


async def test_a_drive_that_serves_nobody_pauses_everything(drive: Drive, drive_server: DriveServer) -> None:
    """Given 503 to everyone for longer than it is waited for, then it is no video's failure."""
    drive_server.inject("drive/v3", "status", status=503, times=1000)
    with pytest.raises(DependencyDownError, match="503") as caught:
        await drive.new_file_id()
    assert caught.value.retry_after


async def test_limits_of_the_day_and_full_drives_pause_everything(drive: Drive, drive_server: DriveServer) -> None:
    """Said in words, with when to try again; nothing is tried in vain."""
    drive_server.inject("uploadType=resumable", status=403, reason="dailyLimitExceeded")
    with pytest.raises(DependencyDownError, match="limit for today") as caught:
        await opened(drive)
    assert caught.value.retry_after == 3600
    assert not str(caught.value).startswith("Google Drive is unreachable")
    drive_server.inject(
        "uploadType=resumable", status=403, reason="userRateLimitExceeded", message="User rate limit exceeded.", times=9
    )
    with pytest.raises(DependencyDownError, match="750 GB a day") as caught:
        await opened(drive)
    assert caught.value.retry_after == 3600
    drive_server.clear()
    drive_server.configure(shared_drive_quota=10)
    with pytest.raises(DependencyDownError, match="there is no room"):
        await opened(drive)


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"status": 403, "reason": "accessNotConfigured"}, "the Drive API is switched off"),
    ({"status": 403, "reason": "insufficientPermissions"}, "sign in again with the scope"),
    ({"status": 403, "reason": "insufficientFilePermissions"}, "share the folder with spoolhouse@tests"),
    ({"status": 404, "reason": "notFound"}, "check DRIVE_FOLDER_ID"),
    ({"status": 401}, "does not accept the token"),
]


@pytest.mark.parametrize(("told", "words"), REFUSALS, ids=lambda value: str(value)[:40])
async def test_what_a_person_must_mend_is_said(
    drive: Drive, drive_server: DriveServer, told: dict[str, Any], words: str
) -> None:
    """Drive answers, so it is not called unreachable; and no attempt of a video is spent."""
    drive_server.inject("uploadType=resumable", times=9, **told)
    with pytest.raises(DependencyDownError, match=words) as caught:
        await opened(drive)
    assert "unreachable" not in str(caught.value)


async def test_service_accounts_have_no_room(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """Outside shared drives; and a folder that nobody shared is not visible."""
    settings = of(drive_server, make_settings, drive_folder_id=drive_server.folder_id)
    async with open_drive(settings) as drive:
        with pytest.raises(DependencyDownError, match="no storage quota of their own: use a folder in a shared drive"):
            await opened(drive)
        drive_server.configure(hidden=[drive_server.folder_id])
        with pytest.raises(DependencyDownError, match="share the folder with spoolhouse@tests"):
            await opened(drive)


async def test_sharing_that_is_forbidden_is_this_files_failure(drive: Drive, drive_server: DriveServer) -> None:
    """Others may still be uploaded."""
    drive_server.configure(forbidden_audiences=["anyone"])
    _, uri = await opened(drive)
    file = await send_all(drive, uri)
    with pytest.raises(TransientError, match="publishOutNotPermitted"):
        await drive.share(file.id, "anyone")


async def test_a_hanging_drive_is_given_up(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """After the timeout, once: whoever waits is told."""
    async with open_drive(of(drive_server, make_settings, drive_timeout=0.5)) as drive:
        await drive.new_file_id()
        drive_server.inject("generateIds", "hang", times=9)
        began = time.monotonic()
        with pytest.raises(DependencyDownError, match="Google Drive is unreachable: no answer in time"):
            await drive.new_file_id()
        assert time.monotonic() - began < 10
        drive_server.clear()
        assert await drive.new_file_id()


async def test_a_drive_that_is_gone_is_unreachable(drive: Drive, drive_server: DriveServer) -> None:
    """Whether it was there before or never; it is used again once it is back."""
    _, uri = await opened(drive)
    drive_server.kill()
    with pytest.raises(DependencyDownError, match="Google Drive is unreachable: connection refused") as caught:
        await drive.send(uri, FILM[:CHUNK], 0, len(FILM))
    assert caught.value.retry_after is None
    drive_server.start()
    assert isinstance(await send_all(drive, uri), DriveFile)
    only(drive_server)


async def test_closing_does_not_wait_for_what_hangs(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """A worker that has to stop is not held up for a whole timeout."""
    async with open_drive(of(drive_server, make_settings, drive_timeout=60.0)) as drive:
        await drive.new_file_id()
        drive_server.inject("generateIds", "hang")
        asking = asyncio.ensure_future(drive.new_file_id())
        while not drive_server.state()["faults"][0]["hits"]:
            await asyncio.sleep(0.01)
        asking.cancel()
        began = time.monotonic()
    assert time.monotonic() - began < 10
    with pytest.raises(asyncio.CancelledError):
        await asking


# ---------------------------------------------------------------- credentials


BROKEN: list[tuple[str, str]] = [
    ("not json at all", "is not JSON"),
    ('["a list"]', "holds no credentials"),
    ("{}", "neither a service account's key nor a user's OAuth token"),
    ('{"installed": {"client_secret": "s3cret"}}', "is an OAuth client's secret"),
    ('{"type": "service_account", "client_email": "a@b.c"}', "lacks private_key, token_uri"),
    (
        '{"type": "service_account", "client_email": "a@b.c", "token_uri": "http://x", "private_key": "s3cret"}',
        "the private key in",
    ),
    ('{"refresh_token": "s3cret", "client_id": ""}', "lacks client_id, client_secret"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN, ids=lambda value: str(value)[:30])
async def test_unusable_credentials_are_said_and_mended_in_place(
    drive_server: DriveServer, make_settings: MakeSettings, tmp_path: Path, text: str, words: str
) -> None:
    """Every method says what is wrong with the file, never what is in it; a person mends it, and it works."""
    path = tmp_path / "elsewhere.json"
    path.write_text(text)
    async with open_drive(of(drive_server, make_settings, drive_credentials=path)) as drive:
        for call in (drive.new_file_id(), drive.find("video", 1), drive.received(f"{drive_server.url}/upload", 1)):
            with pytest.raises(DependencyDownError, match=words) as caught:
                await call
            assert str(caught.value).startswith("Google Drive: Could not initialize Drive service: ")
            assert "s3cret" not in str(caught.value)
        drive_server.credentials(path)
        assert await drive.new_file_id()


async def test_missing_settings_are_said(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """One without the other, and a file that is not there."""
    for overrides, words in (
        ({"drive_folder_id": None}, "DRIVE_FOLDER_ID is not set"),
        ({"drive_credentials": None}, "there is no credentials.json"),
        ({"drive_credentials": Path("/nowhere/credentials.json")}, "cannot be read: No such file"),
    ):
        async with open_drive(of(drive_server, make_settings, **overrides)) as drive:
            with pytest.raises(DependencyDownError, match=f"Could not initialize Drive service: .*{words}"):
                await drive.new_file_id()


@pytest.mark.parametrize(
    ("kind", "advice"), [("token", "testing mode live 7 days"), ("service_account", "the clock of this machine")]
)
async def test_refused_credentials_make_no_storm(
    drive_server: DriveServer, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, kind: Kind, advice: str
) -> None:
    """Google is asked once; then not before a minute is over or the file changes."""
    settings = of(drive_server, make_settings, kind)
    drive_server.refuse_credentials()
    async with open_drive(settings) as drive:
        for _ in range(20):
            with pytest.raises(DependencyDownError, match="invalid_grant: Token has been expired or revoked") as caught:
                await drive.new_file_id()
            assert advice in str(caught.value)
            assert caught.value.retry_after == 5
        assert len(drive_server.requests()) == 1
        drive_server.refuse_credentials(None)
        assert settings.drive_credentials is not None
        os.utime(settings.drive_credentials, (1, 1))
        assert await drive.new_file_id()
        drive_server.refuse_credentials()
        with pytest.raises(DependencyDownError):
            await drive.new_file_id()
        drive_server.refuse_credentials(None)
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + drive_account.ASK_AGAIN)
        assert await drive.new_file_id()


async def test_no_secret_is_ever_said(drive: Drive, drive_server: DriveServer) -> None:
    """Not the session's address, whatever goes wrong with it."""
    _, uri = await opened(drive)
    secret = uri.rpartition("upload_id=")[2]
    for told in ({"status": 403}, {"status": 500}, {"status": 400}, {"status": 418}):
        drive_server.inject("^PUT", times=99, **told)
        with pytest.raises((TransientError, DependencyDownError)) as caught:
            await drive.send(uri, FILM[:CHUNK], 0, len(FILM))
        drive_server.clear()
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in repr(error) + str(error)
            assert error.__suppress_context__ or error.__context__ is None
            error = error.__cause__


# ---------------------------------------------------------------- diagnosis


async def test_all_is_well(drive: Drive) -> None:
    """Each thing on the way is looked at."""
    findings = await drive.diagnose()
    assert [one.subject for one in findings] == ["credentials", "token", "folder", "rights", "quota", "sharing"]
    assert all(one.ok for one in findings), findings
    assert findings[0].told == "readable: service account spoolhouse@tests.iam.gserviceaccount.com"


async def test_what_is_not_well_is_found(drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """With what to do next."""

    @asynccontextmanager
    async def looked(kind: Kind = "service_account", **overrides: Any) -> AsyncIterator[dict[str, str]]:
        async with open_drive(of(drive_server, make_settings, kind, **overrides)) as drive:
            yield {one.subject: f"{one.told}. {one.advice}" for one in await drive.diagnose() if not one.ok}

    async with looked(drive_folder_id=drive_server.folder_id) as found:
        assert set(found) == {"quota"}
        assert "service accounts have no storage quota of their own" in found["quota"]
    async with looked("token", drive_folder_id="1" + "x" * 32) as found:
        assert "share the folder with" in found["folder"]
    async with looked(drive_credentials=Path("/nowhere.json")) as found:
        assert "Could not initialize Drive service" in found["credentials"]
    async with looked(drive_endpoint="http://127.0.0.1:9") as found:
        assert set(found) == {"token"} or set(found) == {"folder"}
        assert "check the network" in "".join(found.values())
    drive_server.configure(readonly=[drive_server.shared_drive_folder_id], user_quota=0)
    async with looked() as found:
        assert set(found) == {"rights"}
        assert "share the folder with spoolhouse@tests" in found["rights"]
    async with looked("token") as found:
        assert set(found) == {"quota"}
        assert "make room" in found["quota"]
    drive_server.refuse_credentials()
    async with looked("token") as found:
        assert set(found) == {"token"}
        assert "invalid_grant" in found["token"]


async def test_a_file_is_no_folder(drive: Drive, drive_server: DriveServer, make_settings: MakeSettings) -> None:
    """People copy the wrong address."""
    file_id, uri = await opened(drive)
    await send_all(drive, uri)
    async with open_drive(of(drive_server, make_settings, drive_folder_id=file_id)) as other:
        found = {one.subject: one for one in await other.diagnose()}
    assert found["folder"].told.endswith("is not a folder")
    assert json.dumps([one.told for one in found.values()]).count("private") == 0
