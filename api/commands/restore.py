"""`spoolhouse restore`: get a file back from its copies, with the log or with nothing but the bucket."""

from __future__ import annotations

from pathlib import Path

import click

from api.bootstrap import Recovery, open_recovery
from api.bucket_restoring import restore_all, restore_stream, show_bucket, told
from api.progress import progress
from api.resolving import resolve
from api.showing import run
from processors.copies import Copies, fold
from processors.manifests import BadManifestError
from processors.origins import from_drive, from_stream
from processors.restoring import DamagedCopyError, Telling, Wanted, rebuild
from processors.returning import home_of, put_back
from streams.errors import (
    DependencyDownError,
    LogUnavailableError,
    NotFoundError,
    RejectedError,
    SpoolhouseError,
    StartError,
    TransientError,
)
from streams.events import Replica
from streams.settings import Settings, load_settings

NAMES: dict[Replica, str] = {"s3": "the object store", "drive": "Google Drive"}

NOT_FROM_HERE = (DamagedCopyError, BadManifestError, DependencyDownError, TransientError)
"""Why one copy does not do, and another may."""


@click.command()
@click.argument("video", required=False, metavar="[ID]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to [default: the file's own place].")
@click.option("--from", "origin", type=click.Choice(["s3", "drive"]), help="Which copy first [default: s3].")
@click.option("--force", is_flag=True, help="Take the place of another file.")
@click.option("--bucket", metavar="NAME", help="Without log and catalogue: nothing but this bucket is needed.")
@click.option("--stream", metavar="ID", help="With --bucket: which stream; the first characters will do.")
@click.option("--list", "listing", is_flag=True, help="With --bucket: show what can be restored from it.")
@click.option("--all", "everything", is_flag=True, help="With --bucket: everything, into the folder -o.")
@click.option("--json", "as_json", is_flag=True, help="With --list: for programs.")
def restore(
    video: str | None,
    output: Path | None,
    origin: Replica | None,
    bucket: str | None,
    stream: str | None,
    *,
    force: bool,
    listing: bool,
    everything: bool,
    as_json: bool,
) -> None:
    """Get a video's file back from its copies, whole and compared with its hashes.

    The first characters of an id will do. An interrupted restore goes on where it stopped when it is
    run again. No other file is overwritten.

    \b
    spoolhouse restore 3f2a                          back to its place
    spoolhouse restore 3f2a -o film.mp4              to another one
    spoolhouse restore --bucket videos --list        everything else was lost: what is there?
    spoolhouse restore --bucket videos --stream 9be1 -o film.mp4
    spoolhouse restore --bucket videos --all -o recovered
    """
    if as_json and not (bucket is not None and listing):
        raise click.UsageError("--json goes with --bucket NAME --list.")
    if bucket is None:
        if video is None or stream is not None or listing or everything:
            raise click.UsageError(
                "Name a video by its id, or a bucket with --bucket and one of --stream, --list, --all."
            )
        run(_restore(load_settings(), video, output, origin, force=force))
        return
    if video is not None or origin is not None or (stream is not None) + listing + everything != 1:
        raise click.UsageError("With --bucket goes one of --stream ID, --list and --all, and no video id.")
    settings = load_settings(s3_bucket=bucket)
    if listing:
        run(show_bucket(settings, as_json=as_json))
    elif everything:
        if output is None:
            raise click.UsageError("--all needs a folder: -o FOLDER.")
        if run(restore_all(settings, output, force=force)):
            raise click.exceptions.Exit(1)
    else:
        assert stream is not None
        run(restore_stream(settings, stream.lower(), output, force=force))


async def _restore(settings: Settings, start: str, output: Path | None, origin: Replica | None, *, force: bool) -> None:
    try:
        async with open_recovery(settings) as at_hand:
            video = await resolve(at_hand.catalogue, start)
            facts = fold(await at_hand.log.history(video))
            if facts.door is None or facts.path is None:
                raise NotFoundError(f"Nothing is known of a file of video {video}.{_without_log(settings)}")
            target = home_of(facts, settings) if output is None else _target(output, facts)
            home = output is None or (facts.state == "offloaded" and str(target) == facts.path)
            await _from_any(at_hand, settings, facts, target, origin, home=home, force=force)
    except (LogUnavailableError, StartError) as error:
        raise SpoolhouseError(f"{error}{_without_log(settings)}") from error


async def _from_any(
    at_hand: Recovery,
    settings: Settings,
    facts: Copies,
    target: Path,
    origin: Replica | None,
    *,
    home: bool,
    force: bool,
) -> None:
    """Restore from the first copy that does; the reasons of all, where none does."""
    order = _places(at_hand, origin)
    reasons = []
    for number, replica in enumerate(order):
        try:
            wanted = await _wanted(at_hand, facts, replica)
            await _one(at_hand, settings, facts.video, wanted, target, replica, home=home, force=force)
        except NOT_FROM_HERE as error:
            reasons.append(f"{NAMES[replica]}: {error}")
            if number + 1 < len(order):
                click.echo(f"Not from {reasons[-1]}. Trying {NAMES[order[number + 1]]}.", err=True)
        else:
            return
    raise SpoolhouseError(f"{facts.video} cannot be restored now. " + ". ".join(reasons))


def _places(at_hand: Recovery, origin: Replica | None) -> list[Replica]:
    there: list[Replica] = []
    if at_hand.store is not None:
        there.append("s3")
    if at_hand.drive is not None:
        there.append("drive")
    if not there:
        raise RejectedError(
            400, "No place with copies is configured: set SPOOLHOUSE_S3_ENDPOINT or DRIVE_FOLDER_ID as they were."
        )
    return sorted(there, key=lambda one: one != (origin or "s3"))


async def _wanted(at_hand: Recovery, facts: Copies, replica: Replica) -> Wanted:
    if replica == "s3":
        assert at_hand.store is not None
        return await from_stream(facts, at_hand.store)
    assert at_hand.drive is not None
    return await from_drive(facts, at_hand.drive)


async def _one(
    at_hand: Recovery,
    settings: Settings,
    video: str,
    wanted: Wanted,
    target: Path,
    replica: Replica,
    *,
    home: bool,
    force: bool,
) -> None:
    with progress(target.name, wanted.size, in_bytes=True) as shown:
        telling = Telling(shown.advance, shown.say)
        if not home:
            restored = await rebuild(wanted, target, force=force, telling=telling)
            unlogged = None
        else:
            returned = await put_back(
                at_hand.log, settings, video, wanted, replica, asked_for=target, force=force, telling=telling
            )
            restored, unlogged = returned.restored, returned.unlogged
    click.echo(told(restored, wanted.origin))
    if unlogged is not None:
        raise SpoolhouseError(
            f"The file is there, but that could not be written down: {unlogged} Run the same command again then."
        )


def _target(output: Path, facts: Copies) -> Path:
    return (output / facts.stored_name if output.is_dir() else output).absolute()


def _without_log(settings: Settings) -> str:
    if not settings.s3_configured:
        return ""
    return f" The bucket alone will do: spoolhouse restore --bucket {settings.bucket} --list"
