"""Loads the Lua scripts that lie beside this package and runs them by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Text = str | bytes | int | float


class Script:
    """One script of `streams/lua/`, run with EVALSHA and loaded again where Redis forgot it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = files("streams").joinpath("lua", f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, keys: Sequence[Text], args: Sequence[Text]) -> Any:
        """Run it. Loading again and repeating is safe: an unknown script has done nothing."""
        try:
            return await redis.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.source, len(keys), *keys, *args)
