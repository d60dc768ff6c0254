"""`/config`: how downloads are made, and what a page wants to be kept."""

from __future__ import annotations

from aiohttp import web

from api.bodies import fields_of
from api.download_shapes import AttributedConfigWish, ConfigWish, ShownConfig
from api.formats import json_answer
from api.handlers.downloads import TAG
from api.openapi.describing import Answer, Body, documented
from api.services import SERVICES
from processors.download_door import CurrentConfig
from streams.download_config import DownloadConfig, configured
from streams.errors import LogUnavailableError, RejectedError

FIELDS = frozenset(DownloadConfig.model_fields)

EXAMPLE = DownloadConfig().model_dump(mode="json") | {"preferences": {"columns": ["title", "status"]}}


@documented(TAG, {200: Answer("What holds.", ShownConfig, example=EXAMPLE)}, refuses=(503,))
async def show_config(request: web.Request) -> web.Response:
    """Show how downloads are made.

    What nobody changed here is as the settings say.
    """
    services = request.app[SERVICES]
    try:
        return _answer(await services.downloads.config())
    except LogUnavailableError:
        saved = await services.catalogue.download_config()
    return json_answer(_told(configured(services.settings, saved.config), dict(saved.preferences)))


@documented(
    TAG,
    {200: Answer("What holds now.", ShownConfig, example=EXAMPLE)},
    refuses=(400, 413, 415, 503),
    body=Body(
        "What is to be changed: flat, or under `attributes`.",
        ConfigWish | AttributedConfigWish,
        example={"max_height": 1080, "concurrency": 2},
    ),
)
async def change_config(request: web.Request) -> web.Response:
    """Change how downloads are made.

    The rest stays as it is. What is under way goes on as it began. `preferences` take the place of what was there, as
    a whole; they are kept for whoever sent them, at most 32 KB, and nothing here reads them.
    """
    patch = await fields_of(request, FIELDS | {"preferences"}, kind="config")
    preferences = patch.pop("preferences", None)
    if preferences is not None and not isinstance(preferences, dict):
        raise RejectedError(400, "preferences: they must be a JSON object.")
    if not patch and preferences is None:
        raise RejectedError(400, f"Nothing is to be changed. There are: {', '.join(sorted(FIELDS))}, preferences.")
    return _answer(await request.app[SERVICES].downloads.change_config(patch, preferences))


def _answer(now: CurrentConfig) -> web.Response:
    return json_answer(_told(now.config, dict(now.preferences)))


def _told(config: DownloadConfig, preferences: dict[str, object]) -> ShownConfig:
    told: ShownConfig = {**config.model_dump(mode="json"), "preferences": preferences}  # type: ignore[typeddict-item]
    return told
