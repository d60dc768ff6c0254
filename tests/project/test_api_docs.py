"""What `scripts/generate_api_docs` writes: kept up to date, true, and good for use."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.api_docs import sample
from scripts.api_docs.__main__ import POSTMAN, texts, whole_document, write_pages
from streams.settings import Settings
from tests.api.running import running_api
from tests.browser import chromium, page_of
from tests.videos import make_video

ROOT = Path(__file__).resolve().parents[2]


def test_kept_documents_are_what_the_handlers_say() -> None:
    """Whoever changes a route runs scripts/generate_api_docs."""
    for path, text in texts(whole_document()).items():
        assert path.read_text("utf-8") == text, f"{path.name} is stale: run scripts/generate_api_docs"


def test_examples_are_what_the_prober_says_of_a_real_video() -> None:
    """Sizes and bit rates apart, which encoders of other machines make a little different."""
    kept = json.loads(sample.TARGET.read_bytes())
    assert sample.same(kept, json.loads(sample.as_bytes(sample.probe()))), "run scripts/generate_api_docs"
    assert not sample.same(kept, {**kept, "duration": 1.0})


async def test_pages_work_behind_any_web_server(tmp_path: Path) -> None:
    """In a browser, from Python's own; nothing is fetched from elsewhere."""
    write_pages(whole_document(), tmp_path)
    program = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), "0"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().split(' port ')[1].split()[0]}"
            async with chromium() as browser:
                for name in ("index.html", "redoc.html"):
                    async with page_of(browser) as (page, seen):
                        await page.goto(f"{url}/{name}")
                        shown = page.get_by_text("Take one video in").locator("visible=true")
                        await shown.first.wait_for(timeout=60_000)
                        assert seen.complaints == []
                        assert [one for one in seen.requested if not one.startswith(url + "/")] == []
        finally:
            server.terminate()
            server.wait(20)


async def test_the_postman_collection_keeps_the_id_of_an_upload(
    make_settings: Callable[..., Settings], redis_url: str, tmp_path: Path
) -> None:
    """Its scripts run in a browser; what uses `{{file_id}}` then finds that video."""
    kept = json.loads(POSTMAN.read_text("utf-8"))
    items = [item for folder in kept["item"] for item in folder["item"]]
    uploads = [item for item in items if "event" in item]
    users = [item for item in items if "{{file_id}}" in item["request"]["url"]["raw"]]
    assert uploads
    assert users
    async with running_api(make_settings(redis_url=redis_url)) as api, chromium() as browser:
        clip = make_video(tmp_path / "clip.mp4", 0.5)
        for upload in uploads:
            name = next(f["key"] for f in upload["request"]["body"]["formdata"] if f["type"] == "file")
            with clip.open("rb") as file:
                answer = await api.ask("POST", path_of(upload, {}), data={name: file})
            assert answer.status == 200
            async with page_of(browser) as (page, _):
                variables = await page.evaluate(_run(upload["event"][0]["script"]["exec"]), answer.body)
            assert variables["file_id"] in {answer.body.get("file_id"), answer.body.get("id")}
            await api.settled()
            for item in users:
                if item["request"]["method"] == "GET":
                    status = (await api.get(path_of(item, variables))).status
                    assert status in {200, 409}, item["name"]


def test_the_collection_has_every_request(told: dict[str, Any]) -> None:
    """Of the document; all but WebSockets, which a collection cannot hold."""
    kept = json.loads(POSTMAN.read_text("utf-8"))
    assert kept["info"]["schema"].endswith("/v2.1.0/collection.json")
    operations = [one for methods in told["paths"].values() for one in methods.values()]
    assert sum(len(folder["item"]) for folder in kept["item"]) == sum(
        "101" not in one["responses"] for one in operations
    )


def test_all_services_are_started_by_the_name_that_users_know(tmp_path: Path) -> None:
    """start_services.sh is the `up` beside it, with the same options."""
    shutil.copy(ROOT / "scripts" / "start_services.sh", tmp_path)
    (tmp_path / "up").write_text('#!/bin/sh\necho "up $*"\n')
    (tmp_path / "up").chmod(0o755)
    told = subprocess.run(
        [tmp_path / "start_services.sh", "--demo"], capture_output=True, text=True, timeout=30, check=True
    )
    assert told.stdout == "up --demo\n"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document."""
    return whole_document()


def path_of(item: dict[str, Any], variables: dict[str, str]) -> str:
    """The path that an item asks for, as Postman fills it in."""
    raw: str = item["request"]["url"]["raw"].removeprefix("{{baseUrl}}")
    for name, value in variables.items():
        raw = raw.replace("{{" + name + "}}", value)
    for variable in item["request"]["url"].get("variable", ()):
        raw = raw.replace(f":{variable['key']}", variable["value"] or "x")
    return raw


def _run(lines: list[str]) -> str:
    """A collection's script, with as much of Postman around it as it needs."""
    return _POSTMAN.replace("SCRIPT", "\n".join(lines))


_POSTMAN = """answer => {
    const variables = {};
    const pm = {
        response: {code: 200, json: () => answer},
        test: (name, check) => check(),
        expect: value => ({to: {be: {a: kind => { if (typeof value !== kind) throw Error(typeof value); }}}}),
        collectionVariables: {set: (key, value) => { variables[key] = value; }},
    };
    SCRIPT
    return variables;
}"""
