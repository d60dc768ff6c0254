"""What is answered where there is nothing to play (yet): 409, how it stands, and what to do."""

from __future__ import annotations

from aiohttp import web

from api.formats import json_answer
from streams.media import MediaOf, Rendition, Task

NOT_KEPT = {"Cache-Control": "no-store"}


def not_finished(media: MediaOf, task: Task) -> web.Response:
    """409 with the status that the status endpoints show, for work that has not brought forth what is asked for."""
    video, state = media.video, media.tasks.get(task)
    ask = f"`spoolhouse enhance {video}`" if task == "video-enhancement" else f"`spoolhouse show {video}`"
    if state is None:
        words = {
            "video-enhancement": f"Nobody has asked for a playable form of this video: {ask} does.",
            "metadata-extraction": f"Nobody has looked into this video yet: {ask} tells what happened to it.",
            "previews": f"No pictures were made of this video yet: {ask} tells what happened to it.",
        }[task]
        return unplayable(video, "none", words, task=task)
    words = {
        "queued": "It waits for its turn. Ask again in a while.",
        "processing": "It is being worked on. Ask again in a while.",
        "failed": f"It failed: {state.error or state.message}",
        "completed": f"What was made belongs to other content of this video, or is gone: {ask} helps.",
    }[state.status]
    return unplayable(video, state.status, words, task=task, message=state.message)


def not_on_disk(media: MediaOf, rendition: Rendition, *, offloaded: bool) -> web.Response:
    """409 for a rendition that is known, but whose file is not there."""
    if offloaded:
        words = f"It was offloaded, its copies are elsewhere: `spoolhouse restore {rendition.id}` brings it back."
        return unplayable(media.video, "offloaded", words, rendition=rendition.id)
    words = f"Its file is missing: `spoolhouse enhance {media.video}` makes it anew."
    return unplayable(media.video, "missing", words, rendition=rendition.id)


def unplayable(video: str, status: str, error: str, *, message: str = "", **more: object) -> web.Response:
    """409 in the shape of the status endpoints."""
    answer = json_answer(
        {
            "success": False,
            "error": error,
            "file_id": video,
            "status": status,
            "progress": 100 if status == "completed" else 0,
            "message": message or error,
            **more,
        },
        status=409,
    )
    answer.headers.update(NOT_KEPT)
    return answer
