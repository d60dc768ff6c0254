"""The Drive that tests use keeps Google's protocol, as Google's own client sees it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_auth_httplib2
import httplib2
import pytest
from google.auth.exceptions import RefreshError
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR
from googleapiclient.errors import HttpError, ResumableUploadError
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload

from tests.drive_server import DriveServer

CHUNK = 262_144
SCOPES = ["https://www.googleapis.com/auth/drive"]


@pytest.fixture
def open_client() -> Iterator[Callable[..., Any]]:
    """`open_client(server, kind, scopes)`: Google's client for it, closed afterwards."""
    opened: list[httplib2.Http] = []

    def make(
        server: DriveServer, kind: str = "service_account", scopes: list[str] = SCOPES, timeout: float = 10
    ) -> Any:
        path = server.credentials(server.folder / f"for-a-client-{kind}.json", kind)
        told = json.loads(path.read_text())
        if kind == "service_account":
            found: Any = service_account.Credentials.from_service_account_info(told, scopes=scopes)
        else:
            found = user_credentials.Credentials(
                None,
                refresh_token=told["refresh_token"],
                token_uri=told["token_uri"],
                client_id=told["client_id"],
                client_secret=told["client_secret"],
            )
        plain = httplib2.Http(timeout=timeout)
        plain.redirect_codes = plain.redirect_codes - {308}
        opened.append(plain)
        document = json.loads(Path(DISCOVERY_DOC_DIR, "drive.v3.json").read_text())
        document |= {"rootUrl": server.url + "/", "baseUrl": server.url + "/drive/v3/"}
        document.pop("mtlsRootUrl", None)
        return build_from_document(document, http=google_auth_httplib2.AuthorizedHttp(found, http=plain))

    yield make
    for http in opened:
        http.close()


@pytest.fixture
def client(drive_server: DriveServer, open_client: Callable[..., Any]) -> Any:
    """A service account's client."""
    return open_client(drive_server)


def upload_of(client: Any, data: bytes, folder: str, **metadata: Any) -> Any:
    """A resumable upload, chunk by chunk, that has not begun."""
    media = MediaIoBaseUpload(io.BytesIO(data), "video/mp4", chunksize=CHUNK, resumable=True)
    body = {"name": "film.mp4", "parents": [folder], **metadata}
    return client.files().create(
        body=body, media_body=media, supportsAllDrives=True, fields="id,name,size,md5Checksum,webViewLink,driveId"
    )


def resumed(client: Any, uri: str, data: bytes, folder: str) -> Any:
    """The same upload in another process, which knows nothing but the session's address."""
    request = upload_of(client, data, folder)
    request.resumable_uri, request._in_error_state = uri, True
    return request


def finish(request: Any) -> Any:
    """Send chunks until the file is there."""
    done = None
    while done is None:
        _, done = request.next_chunk(num_retries=0)
    return done


def reason(error: HttpError) -> tuple[int, str]:
    """(status, reason) of Google's error."""
    return error.resp.status, json.loads(error.content)["error"]["errors"][0]["reason"]


def test_a_file_goes_up_in_chunks_and_comes_down_again(
    drive_server: DriveServer, client: Any, rng: random.Random
) -> None:
    """Size, MD5, link and bytes are right; ranges can be had."""
    data = rng.randbytes(CHUNK * 3 + 1234)
    [wished] = client.files().generateIds(count=1, space="drive").execute()["ids"]

    made = finish(upload_of(client, data, drive_server.shared_drive_folder_id, id=wished))

    assert made["id"] == wished
    assert int(made["size"]) == len(data)
    assert made["md5Checksum"] == hashlib.md5(data).hexdigest()
    assert made["driveId"] == drive_server.shared_drive_id
    assert wished in made["webViewLink"]
    back = io.BytesIO()
    download = MediaIoBaseDownload(back, client.files().get_media(fileId=wished, supportsAllDrives=True), CHUNK)
    done = False
    while not done:
        _, done = download.next_chunk()
    assert back.getvalue() == data
    [kept] = drive_server.files()
    assert kept["sha256"] == hashlib.sha256(data).hexdigest()
    state = drive_server.state()
    assert state["bytes_received"] >= len(data)
    assert state["requests"]["PUT /upload/drive/v3/files"] == 4


def test_an_empty_file_is_a_file(drive_server: DriveServer, client: Any) -> None:
    """Google's client sends no Content-Range then."""
    made = finish(upload_of(client, b"", drive_server.shared_drive_folder_id))

    assert (made["size"], made["md5Checksum"]) == ("0", hashlib.md5(b"").hexdigest())


def test_an_upload_goes_on_after_the_server_was_killed(
    drive_server: DriveServer, open_client: Callable[..., Any], rng: random.Random
) -> None:
    """The session, the token and the bytes outlive kill -9; nothing is sent twice."""
    data = rng.randbytes(CHUNK * 4)
    first = upload_of(open_client(drive_server), data, drive_server.shared_drive_folder_id)
    first.next_chunk()
    first.next_chunk()

    drive_server.restart(kill=True)
    made = finish(resumed(open_client(drive_server), first.resumable_uri, data, "unused"))

    assert made["md5Checksum"] == hashlib.md5(data).hexdigest()
    assert drive_server.state()["bytes_received"] < len(data) + 1000
    # Whoever asks once more, since the reply was lost, gets the file.
    _, again = resumed(open_client(drive_server), first.resumable_uri, data, "unused").next_chunk()
    assert again["id"] == made["id"]


def test_an_id_makes_one_file_only(drive_server: DriveServer, client: Any) -> None:
    """409 at the start, and for the slower of two sessions; 400 for an id that Drive did not give."""
    folder = drive_server.shared_drive_folder_id
    [wished] = client.files().generateIds(count=1).execute()["ids"]
    slower = upload_of(client, b"x" * CHUNK * 2, folder, id=wished)
    slower.next_chunk()
    finish(upload_of(client, b"one", folder, id=wished))

    with pytest.raises(HttpError) as late:
        slower.next_chunk()
    with pytest.raises((ResumableUploadError, HttpError)) as again:
        finish(upload_of(client, b"two", folder, id=wished))
    with pytest.raises(HttpError) as invented:
        finish(upload_of(client, b"three", folder, id="1" + "A" * 32))

    assert reason(late.value) == (409, "fileIdInUse")
    assert reason(again.value) == (409, "fileIdInUse")
    assert reason(invented.value) == (400, "invalid")
    assert len(drive_server.files()) == 1


@pytest.mark.parametrize(
    ("stated", "length"),
    [
        (f"bytes {CHUNK}-{2 * CHUNK - 1}/{4 * CHUNK}", CHUNK),  # not where the session stands
        ("bytes 0-999/1048576", 1000),  # no multiple of 256 KiB
        (f"bytes 0-{CHUNK - 1}/{4 * CHUNK}", 1000),  # not as long as it says
        (f"bytes 0-{CHUNK - 1}/{5 * CHUNK}", CHUNK),  # not of the size that was declared
        ("bytes 0 to 9", 10),
    ],
)
def test_chunks_that_do_not_fit_are_refused(drive_server: DriveServer, client: Any, stated: str, length: int) -> None:
    """400, and the session stands where it stood."""
    request = upload_of(client, b"x" * CHUNK * 4, drive_server.shared_drive_folder_id)
    drive_server.inject("PUT", status=503)
    with pytest.raises(HttpError):
        request.next_chunk()
    http = httplib2.Http()
    http.redirect_codes = http.redirect_codes - {308}

    refused, _ = http.request(request.resumable_uri, "PUT", b"x" * length, {"Content-Range": stated})
    answer, _ = http.request(request.resumable_uri, "PUT", b"", {"Content-Range": f"bytes */{CHUNK * 4}"})
    http.close()

    assert refused.status == 400
    assert (answer.status, "range" in answer) == (308, False)


def test_what_is_in_a_shared_drive_is_there_only_for_those_who_ask(drive_server: DriveServer, client: Any) -> None:
    """Without supportsAllDrives it is a 404, without includeItemsFromAllDrives it is not listed."""
    properties = {"video": "it's one", "revision": "1"}
    made = finish(upload_of(client, b"film", drive_server.shared_drive_folder_id, appProperties=properties))
    asked = {
        "q": f"'{drive_server.shared_drive_folder_id}' in parents and trashed = false"
        " and appProperties has { key='video' and value='it\\'s one' }"
        " and appProperties has { key='revision' and value='1' }",
        "fields": "files(id,appProperties),nextPageToken",
    }
    everywhere = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}

    assert client.files().list(**asked, **everywhere).execute() == {
        "files": [{"id": made["id"], "appProperties": properties}]
    }
    assert client.files().list(**asked, **everywhere, corpora="allDrives").execute()["files"]
    drive = {"corpora": "drive", "driveId": drive_server.shared_drive_id}
    assert client.files().list(**asked, **everywhere, **drive).execute()["files"]
    assert client.files().list(**asked).execute() == {"files": []}
    with pytest.raises(HttpError) as hidden:
        client.files().get(fileId=made["id"]).execute()
    assert reason(hidden.value) == (404, "notFound")
    client.files().update(fileId=made["id"], body={"trashed": True}, supportsAllDrives=True).execute()
    assert client.files().list(**asked, **everywhere).execute() == {"files": []}
    client.files().delete(fileId=made["id"], supportsAllDrives=True).execute()
    assert drive_server.files(trashed=True) == []


def test_lists_come_in_pages(drive_server: DriveServer, client: Any) -> None:
    """NextPageToken leads through all of them."""
    folder = drive_server.shared_drive_folder_id
    for number in range(5):
        body = {"name": f"{number}", "parents": [folder], "mimeType": "application/vnd.google-apps.folder"}
        client.files().create(body=body, supportsAllDrives=True).execute()
    everywhere = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
    request = client.files().list(q=f"'{folder}' in parents", pageSize=2, **everywhere)
    names = []
    while request is not None:
        page = request.execute()
        names += [file["name"] for file in page["files"]]
        request = client.files().list_next(request, page)

    assert sorted(names) == ["0", "1", "2", "3", "4"]


def test_a_service_account_has_no_room_of_its_own(
    drive_server: DriveServer, client: Any, open_client: Callable[..., Any]
) -> None:
    """In a user's folder it may not store a byte; the user may."""
    with pytest.raises(HttpError) as refused:
        finish(upload_of(client, b"film", drive_server.folder_id))

    assert reason(refused.value) == (403, "storageQuotaExceeded")
    assert "Service Accounts do not have storage quota" in refused.value.content.decode()
    user = open_client(drive_server, "authorized_user")
    assert finish(upload_of(user, b"film", drive_server.folder_id))["size"] == "4"
    about = user.about().get(fields="user/emailAddress,storageQuota(limit,usage)").execute()
    assert about["storageQuota"] == {"limit": str(15 * 2**30), "usage": "4"}


def test_links_are_shared_as_far_as_the_organisation_allows(drive_server: DriveServer, client: Any) -> None:
    """Twice is once; what is forbidden is a 403."""
    file_id = finish(upload_of(client, b"film", drive_server.shared_drive_folder_id))["id"]
    for _ in range(2):
        client.permissions().create(
            fileId=file_id, body={"type": "anyone", "role": "reader"}, supportsAllDrives=True
        ).execute()
    drive_server.configure(forbidden_audiences=["domain"])

    with pytest.raises(HttpError) as refused:
        client.permissions().create(
            fileId=file_id, body={"type": "domain", "role": "reader", "domain": "example.com"}, supportsAllDrives=True
        ).execute()

    assert refused.value.resp.status == 403
    listed = client.permissions().list(fileId=file_id, supportsAllDrives=True).execute()["permissions"]
    assert [(one["type"], one["role"]) for one in listed] == [("anyone", "reader")]


def test_tokens_are_wanted_checked_and_run_out(
    drive_server: DriveServer, client: Any, open_client: Callable[..., Any]
) -> None:
    """Nobody without; an unknown key, an ended grant and a void token are refused as Google does it."""
    with pytest.raises(urllib.error.HTTPError) as bare:
        urllib.request.urlopen(f"{drive_server.url}/drive/v3/about?fields=user")
    assert bare.value.code == 401
    bare.value.close()
    # A void token is a 401, upon which the client fetches another by itself.
    client.about().get(fields="user").execute()
    drive_server.refuse_credentials(None)
    assert client.about().get(fields="user/me").execute() == {"user": {"me": True}}
    drive_server.refuse_credentials()
    for kind in ("service_account", "authorized_user", "token"):
        with pytest.raises(RefreshError, match="invalid_grant"):
            open_client(drive_server, kind).about().get(fields="user").execute()
    drive_server.refuse_credentials(None)
    drive_server.configure(client_email="someone@else.example.com")
    with pytest.raises(RefreshError, match="Invalid JWT"):
        open_client(drive_server).about().get(fields="user").execute()


def test_a_program_with_the_narrow_scope_sees_its_own_files_only(
    drive_server: DriveServer, open_client: Callable[..., Any]
) -> None:
    """`drive.file` does not see a folder that someone made by hand."""
    narrow = open_client(drive_server, scopes=["https://www.googleapis.com/auth/drive.file"])

    with pytest.raises(HttpError) as unseen:
        narrow.files().get(fileId=drive_server.shared_drive_folder_id, supportsAllDrives=True).execute()

    assert unseen.value.resp.status == 404


@pytest.mark.parametrize("action", ["short", "drop_before", "drop_after", "drop_middle", "hang", 403, 429, 500, 503])
def test_faults_happen_as_often_as_asked_and_leave_the_session_whole(
    drive_server: DriveServer, open_client: Callable[..., Any], rng: random.Random, action: str | int
) -> None:
    """After each of them the upload goes on from the offset that Drive names, and ends byte-equal."""
    data = rng.randbytes(CHUNK * 6 + 7)
    # httplib2 asks again by itself when a connection drops, but with a stream that is at its end by then:
    # it says how much would come, sends nothing, and waits for an answer.
    client = open_client(drive_server, timeout=10 if isinstance(action, int) else 0.5)
    media = MediaIoBaseUpload(io.BytesIO(data), "video/mp4", chunksize=CHUNK * 2, resumable=True)
    body = {"name": "film.mp4", "parents": [drive_server.shared_drive_folder_id]}
    request = client.files().create(body=body, media_body=media, supportsAllDrives=True)
    told = {"status": action} if isinstance(action, int) else {"action": action}
    # Only chunks, not the question for the offset that follows.
    drive_server.inject("PUT /upload", times=1, after=1, **told)
    faults, done = 0, None

    while done is None:
        try:
            _, done = request.next_chunk(num_retries=0)
        except (HttpError, OSError, httplib2.HttpLib2Error):
            faults += 1
            request._in_error_state = True
            assert faults < 5

    [fault] = drive_server.state()["faults"]
    assert (fault["left"], fault["hits"]) == (0, 1)
    [kept] = drive_server.files()
    assert kept["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_session_that_expired_is_not_there(drive_server: DriveServer, client: Any) -> None:
    """404; the same id may be used by another session."""
    folder = drive_server.shared_drive_folder_id
    [wished] = client.files().generateIds(count=1).execute()["ids"]
    request = upload_of(client, b"x" * CHUNK * 2, folder, id=wished)
    request.next_chunk()
    drive_server.expire_sessions()

    with pytest.raises(HttpError) as gone:
        request.next_chunk()

    assert gone.value.resp.status == 404
    assert finish(upload_of(client, b"x" * CHUNK * 2, folder, id=wished))["id"] == wished


def test_bytes_that_change_on_their_way_show_in_the_checksum(drive_server: DriveServer, client: Any) -> None:
    """And a file that another program changes shows it, too."""
    drive_server.inject("PUT /upload", "corrupt")
    made = finish(upload_of(client, b"film", drive_server.shared_drive_folder_id))
    whole = finish(upload_of(client, b"film", drive_server.shared_drive_folder_id))
    drive_server.corrupt(whole["id"])

    assert made["md5Checksum"] != hashlib.md5(b"film").hexdigest() == whole["md5Checksum"]
    seen = client.files().get(fileId=whole["id"], fields="md5Checksum", supportsAllDrives=True).execute()
    assert seen["md5Checksum"] != whole["md5Checksum"]
