"""`spoolhouse streams`: how every reader of the log stands, and the log itself as it grows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click
import orjson

from api.connecting import redis_url
from api.showing import AS_JSON, ago, console, plain, print_json, run, table
from streams.codec import Recorded, encode, recorded
from streams.entries import Entry
from streams.errors import UndecodableError
from streams.inspecting import GroupPartition, group_partitions, totals
from streams.keys import partition_of
from streams.log import Log, open_log
from streams.settings import load_settings

BATCH = 500
"""Entries that are read at once from each partition."""


@click.group(invoke_without_command=True)
@click.option("--partitions", is_flag=True, help="Each partition by itself.")
@AS_JSON
@click.pass_context
def streams(ctx: click.Context, *, partitions: bool, as_json: bool) -> None:
    """Show how far every group has read, what is pending, delayed and parked, and who works on it."""
    if ctx.invoked_subcommand is not None:
        return
    rows = run(_rows())
    if as_json:
        print_json(
            [{**asdict(row), "lag": row.lag} for row in rows] if partitions else [asdict(t) for t in totals(rows)]
        )
        return
    numbers = ("part.", "position", "lag", "pending", "oldest", "delayed", "parked")
    if partitions:
        shown = table(
            "group", "part.", "position", "lag", "pending", "oldest", "age", "delayed", "parked", "owner",
            right=(*numbers, "age"),
        )  # fmt: skip
        for row in rows:
            shown.add_row(
                *_plain(row.group, f"{row.partition:02d}", row.position, row.lag, row.pending),
                *_plain(row.oldest_pending, ago(row.oldest_pending_at), row.delayed, row.parked, row.owner),
            )
    else:
        shown = table("group", "position", "lag", "pending", "oldest", "delayed", "parked", "owners", right=numbers)
        for total in totals(rows):
            shown.add_row(
                *_plain(total.group, total.position, total.lag, total.pending, ago(total.oldest_pending_at)),
                *_plain(total.delayed, total.parked, ", ".join(total.owners)),
            )
    console().print(shown if rows else "No group has read from this log yet: start a worker (spoolhouse worker).")


@streams.command()
@click.option("--subject", help="Of this video (or other subject) only.")
@click.option("--type", "types", multiple=True, help="Of this event type only (may be repeated).")
@click.option("--from-start", is_flag=True, help="Everything since the log began, not just what comes.")
@click.option("--no-follow", is_flag=True, help="End at the end of the log.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each event.")
def tail(subject: str | None, types: tuple[str, ...], *, from_start: bool, no_follow: bool, as_json: bool) -> None:
    """Show events as they are appended, until Ctrl-C."""
    run(_tail(subject, frozenset(types), from_start=from_start, follow=not no_follow, as_json=as_json))


async def _rows() -> list[GroupPartition]:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        return await group_partitions(log)


async def _tail(subject: str | None, types: frozenset[str], *, from_start: bool, follow: bool, as_json: bool) -> None:
    settings = load_settings()
    async with open_log(settings, redis_url(settings)) as log:
        wanted = range(log.partitions) if subject is None else [partition_of(subject, log.partitions)]
        heads = await log.heads()
        reached = {partition: 0 if from_start else heads[partition] for partition in wanted}
        while True:
            read_all = False
            while not read_all:
                found: list[Entry] = []
                read_all = True
                for partition, after in reached.items():
                    entries = await log.read(partition, after=after, count=BATCH)
                    found += entries
                    read_all = read_all and len(entries) < BATCH
                    if entries:
                        reached[partition] = entries[-1].pos
                for entry in sorted(
                    found, key=lambda entry: (entry.fields.get(b"time", b""), entry.partition, entry.pos)
                ):
                    _print(entry, subject, types, as_json=as_json)
            if not follow:
                return
            await _news(log, reached)


async def _news(log: Log, reached: dict[int, int]) -> None:
    await log.wait_beyond([reached.get(partition, 2**63) for partition in range(log.partitions)], timeout=30.0)


def _print(entry: Entry, subject: str | None, types: frozenset[str], *, as_json: bool) -> None:
    try:
        event: Recorded[Any] = recorded(entry.partition, entry.pos, entry.fields)
    except UndecodableError as error:
        if subject is None and not types:
            click.echo(orjson.dumps({"error": str(error)}).decode() if as_json else click.style(str(error), fg="red"))
        return
    if (subject is not None and event.subject != subject) or (types and event.type not in types):
        return
    data = encode(event.event).decode()
    if as_json:
        click.echo(
            orjson.dumps(
                {
                    "partition": event.partition,
                    "pos": event.pos,
                    "time": event.time.isoformat(),
                    "subject": event.subject,
                    "ver": event.ver,
                    "type": event.type,
                    "source": event.source,
                    "id": event.id,
                    "data": orjson.Fragment(data),
                }
            ).decode()
        )
        return
    at = event.time.astimezone().strftime("%H:%M:%S.%f")[:-3]
    place = f"{event.partition:02d}/{event.pos}"
    click.echo(
        f"{at}  {place:>9}  {click.style(event.subject, fg='cyan')} {event.ver}  "
        f"{click.style(event.type, bold=True)}  {data}"
    )


def _plain(*values: object) -> list[Any]:
    return [plain(value) for value in values]
