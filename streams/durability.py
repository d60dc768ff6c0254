"""Does this Redis keep what it acknowledged? Said at start, in words that tell what to set."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streams.connections import told_plainly

WANTED = {
    "appendonly": ("yes", "without the append-only file a crash loses everything since the last snapshot"),
    "appendfsync": ("always", "acknowledged events of the last second are lost with the machine's power"),
    "maxmemory-policy": ("noeviction", "Redis may throw away parts of the log when memory is short"),
}


async def durability_warnings(redis: Redis) -> list[str]:
    """What is not as durable as promised; empty when all is well."""
    with told_plainly():
        try:
            found: dict[Any, Any] = {}
            for name in WANTED:  # one by one: Redis 6.2 takes no more
                found |= await redis.config_get(name)
        except ResponseError:
            return ["CONFIG GET is refused here: make sure of " + ", ".join(f"{k} {v}" for k, (v, _) in WANTED.items())]
        version = str((await redis.info("server")).get("redis_version", "0"))
    warnings = [
        f"{name} is {found[name]!r}: {reason}. Set {name} {value}."
        for name, (value, reason) in WANTED.items()
        if name in found and found[name] != value
    ]
    if tuple(int(part) for part in version.split(".")[:2]) < (6, 2):
        warnings.append(f"Redis {version} is older than 6.2, which Spoolhouse needs. Upgrade it.")
    return warnings
