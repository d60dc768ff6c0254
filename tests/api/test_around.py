"""What surrounds every answer: ids, CORS, host names, headers, the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.settings import Settings
from tests.api.running import Api, running_api, until


async def test_request_ids(api: Api) -> None:
    """A sane one is kept, any other is replaced; errors carry it, too."""
    assert (await api.get("/healthz", headers={"X-Request-ID": "abc-1"})).headers["X-Request-ID"] == "abc-1"
    for bad in ("", "x" * 200, "a b", "<script>"):
        given = (await api.get("/nothing", headers={"X-Request-ID": bad})).headers["X-Request-ID"]
        assert re.fullmatch(r"[0-9a-f]{32}", given)


@pytest.mark.parametrize(
    "path", ["/api/upload-video", "/api/videos/list", "/api/videos/storage-stats", "/api/video-info/a", "/api/videos/x"]
)
async def test_cors_with_preflight_on_every_route(api: Api, path: str) -> None:
    """Any origin by default."""
    headers = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, x-request-id",
    }
    answer = await api.ask("OPTIONS", path, headers=headers)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"] == "content-type, x-request-id"
    plain = await api.get(path, headers={"Origin": "https://app.example"})
    assert plain.headers["Access-Control-Allow-Origin"] == "*"


async def test_cors_can_be_narrowed(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """Origins by setting; no one else is let in, and caches are told."""
    settings = make_settings(redis_url=redis_url, cors_origins="https://a.example, https://b.example")
    async with running_api(settings, projections=False) as api:
        allowed = await api.get("/healthz", headers={"Origin": "https://b.example"})
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://b.example"
        assert allowed.headers["Vary"] == "Origin"
        other = await api.get("/healthz", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


async def test_strange_host_names_are_refused_on_loopback(api: Api) -> None:
    """DNS rebinding: a name that is not ours does not get in; addresses and localhost do."""
    for host in ("localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.1.5", "localhost."):
        assert (await api.get("/healthz", headers={"Host": host})).status == 200, host
    answer = await api.get("/healthz", headers={"Host": "evil.example:8000"})
    assert answer.status == 403
    assert "SPOOLHOUSE_ALLOWED_HOSTS" in answer.body["error"]


async def test_host_names_can_be_allowed(make_settings: Callable[..., Settings], redis_url: str) -> None:
    """By setting; `*` is any."""
    for allowed, host, status in (
        ("media.example", "Media.Example:80", 200),
        ("media.example", "other.example", 403),
        ("*", "other.example", 200),
    ):
        settings = make_settings(redis_url=redis_url, allowed_hosts=allowed)
        async with running_api(settings, projections=False) as api:
            assert (await api.get("/healthz", headers={"Host": host})).status == status


async def test_the_page_takes_nothing_from_elsewhere(api: Api) -> None:
    """Its own three files, a strict policy, no HTML made of text."""
    page = await api.get("/")
    assert page.status == 200
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "http:" not in page.body
    assert "https:" not in page.body
    for link in re.findall(r'(?:src|href)="(/[^"]+)"', page.body):
        part = await api.get(link)
        assert part.status == 200, link
        again = await api.get(link, headers={"If-None-Match": part.headers["ETag"]})
        assert again.status == 304
    script = (await api.get("/static/page.js")).body
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)


async def test_metrics(api: Api, clip: Path) -> None:
    """In Prometheus' format: uploads by result, bytes, storage, lag."""
    await api.upload(clip)
    await api.upload(b"no video at all" * 100)
    await api.settled()

    async def told() -> bool:
        return 'spoolhouse_group_lag{group="projection.catalogue"} 0.0' in (await api.get("/metrics")).body

    await until(told)
    text = (await api.get("/metrics")).body
    assert 'spoolhouse_uploads_total{result="stored"} 1.0' in text
    assert 'spoolhouse_uploads_total{result="refused"} 1.0' in text
    assert f"spoolhouse_upload_bytes_total {float(clip.stat().st_size)}" in text
    assert "spoolhouse_stored_videos 1.0" in text
    assert "spoolhouse_storage_free_bytes" in text
